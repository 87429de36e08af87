//! The program of the page's worker.

#[cfg(target_arch = "wasm32")]
fn main() {
    run_constructors();
    attune_worker::begin();
}

/// Runs the constructors of the compiler of kernels, which the linker collects. It takes a program that does not call
/// them for one that is called once, and runs them all again at every call from JavaScript: most of a GPU step's time.
#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "the linker makes this function")]
fn run_constructors() {
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    // SAFETY: nothing ran before, and nothing calls them again.
    unsafe { __wasm_call_ctors() }
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    eprintln!("this program runs in a browser; `cargo xtask serve` builds it");
}
