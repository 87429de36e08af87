//! The program of the page's worker.

#[cfg(target_arch = "wasm32")]
fn main() {
    attune_worker::begin();
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    eprintln!("this program runs in a browser; `cargo xtask serve` builds it");
}
