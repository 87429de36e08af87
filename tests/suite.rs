//! The integration tests: one binary.

#[path = "suite/encode.rs"]
mod encode;
#[path = "suite/tokenizer.rs"]
mod tokenizer;
