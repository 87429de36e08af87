//! attune fine-tunes small language models where the data lives.
//!
//! The data flows one way: bytes ([`store`]) → model + tokenizer + rows → batches ([`data`]) →
//! loss (`objectives`) → gradients → update (`train`) → events ([`protocol`]), checkpoints →
//! adapter, export ([`store`]).
//!
//! The core touches no file system, starts no thread and blocks on no device read; what does
//! stands in `native`.

pub mod error;
pub mod config;
pub mod device;
pub mod store;
pub mod tokenizer;
pub mod data;
pub mod methods;
pub mod models;
pub mod ops;
pub mod generate;
pub mod objectives;
pub mod protocol;
pub mod eval;
pub mod train;
pub mod export;
pub mod session;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;

pub use error::{Error, Result};
