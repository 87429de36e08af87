//! The integration tests: one binary.

#[path = "suite/adapter.rs"]
mod adapter;
#[path = "suite/cli.rs"]
mod cli;
#[path = "suite/cli_data.rs"]
mod cli_data;
#[path = "suite/cli_models.rs"]
mod cli_models;
#[path = "suite/cli_talk.rs"]
mod cli_talk;
#[path = "suite/data.rs"]
mod data;
#[path = "suite/data_columns.rs"]
mod data_columns;
#[path = "suite/data_problems.rs"]
mod data_problems;
#[path = "suite/data_report.rs"]
mod data_report;
#[path = "suite/encode.rs"]
mod encode;
#[path = "suite/estimate.rs"]
mod estimate;
#[path = "suite/foreign_tokens.rs"]
mod foreign_tokens;
#[path = "suite/home.rs"]
mod home;
#[path = "suite/live.rs"]
mod live;
#[path = "suite/live_views.rs"]
mod live_views;
#[path = "suite/load.rs"]
mod load;
#[path = "suite/models.rs"]
mod models;
#[path = "suite/packed.rs"]
mod packed;
#[path = "suite/program.rs"]
mod program;
#[path = "suite/rows.rs"]
mod rows;
#[path = "suite/session.rs"]
mod session;
#[path = "suite/signs.rs"]
mod signs;
#[path = "suite/store.rs"]
mod store;
#[path = "suite/support.rs"]
mod support;
#[path = "suite/template_time.rs"]
mod template_time;
#[path = "suite/together.rs"]
mod together;
#[path = "suite/tokenizer.rs"]
mod tokenizer;
#[path = "suite/words.rs"]
mod words;
