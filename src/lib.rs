//! attune fine-tunes small language models where the data lives.
//!
//! The data flows one way: bytes ([`store`]) → model + tokenizer + rows → batches ([`data`]) →
//! loss (`objectives`) → gradients → update (`train`) → events ([`protocol`]), checkpoints →
//! adapter, export ([`store`]).
//!
//! Without the feature `engine` only settings ([`config`]) and [`protocol`] remain: what a page needs
//! that leaves the work to a worker.
//!
//! The core touches no file system, starts no thread and blocks on no device read; what does
//! stands in `native`.

pub mod error;
pub mod config;
#[cfg(feature = "engine")]
pub mod device;
#[cfg(feature = "engine")]
pub mod store;
#[cfg(feature = "engine")]
pub mod tokenizer;
#[cfg(feature = "engine")]
pub mod data;
pub mod methods;
#[cfg(feature = "engine")]
pub mod models;
#[cfg(feature = "engine")]
pub mod ops;
#[cfg(feature = "engine")]
pub mod generate;
#[cfg(feature = "engine")]
pub mod objectives;
pub mod protocol;
pub mod curves;
#[cfg(feature = "engine")]
pub mod hub;
#[cfg(feature = "engine")]
pub mod eval;
#[cfg(feature = "engine")]
pub mod train;
#[cfg(feature = "engine")]
pub mod export;
#[cfg(feature = "engine")]
pub mod estimate;
#[cfg(feature = "engine")]
pub mod session;
#[cfg(all(feature = "engine", not(target_arch = "wasm32")))]
pub mod native;

pub use error::{Error, Result};
