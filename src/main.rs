//! The command line: `attune train | eval | generate | chat | export | models | data | devices`.

#[cfg(not(target_arch = "wasm32"))]
mod cli;

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    cli::run()
}

/// Cargo builds every target of a package; the browser enters through the library.
#[cfg(target_arch = "wasm32")]
fn main() {}
