//! The page's worker: owns model, data and device, and does what the page asks, in order.
//!
//! Messages are arrays: the JSON of a `Request` or a `Reply`, then the files that belong to it as handles.
//!
//! A library, so that its tests in a browser can use its parts; the program only begins.

#[cfg(target_arch = "wasm32")]
mod choose;
#[cfg(target_arch = "wasm32")]
mod executor;
#[cfg(target_arch = "wasm32")]
mod faults;
#[cfg(target_arch = "wasm32")]
mod fetch;
#[cfg(target_arch = "wasm32")]
mod get;
#[cfg(target_arch = "wasm32")]
mod hub;
#[cfg(target_arch = "wasm32")]
mod import;
#[cfg(target_arch = "wasm32")]
mod js;
#[cfg(target_arch = "wasm32")]
mod opfs;
#[cfg(target_arch = "wasm32")]
mod post;
#[cfg(target_arch = "wasm32")]
mod room;
#[cfg(target_arch = "wasm32")]
mod transfer;
#[cfg(all(feature = "webgpu", target_arch = "wasm32"))]
pub mod webgpu;
#[cfg(all(not(feature = "webgpu"), target_arch = "wasm32"))]
#[path = "no_webgpu.rs"]
pub mod webgpu;
#[cfg(target_arch = "wasm32")]
mod work;

#[cfg(target_arch = "wasm32")]
pub use opfs::Opfs;
#[cfg(target_arch = "wasm32")]
pub use work::begin;
