//! The integration tests: one binary.

#[path = "suite/data.rs"]
mod data;
