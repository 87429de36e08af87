//! Development tasks: `cargo xtask serve | dist | test | demo | bench | pictures | cache`. One file a task.
//!
//! Each task sets up what it needs on a machine that has only rustup, a C compiler and Python.

mod bench;
mod bench_web;
mod browser;
mod cache;
mod demo;
mod house;
mod instructions;
mod licenses;
mod offline;
mod page;
mod pictures;
mod policy;
mod process;
mod remember;
mod serve;
mod setup;
mod small_model;
mod test;
mod tools;
mod verdict;
mod worker;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "attune's development tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Set everything up, build the page and serve it on this machine.
    Serve(serve::Args),
    /// Set everything up and build the page into a folder that any web host can serve.
    Dist(page::Args),
    /// Set everything up, then run every check and every test.
    Test(test::Args),
    /// Set everything up, then fine-tune SmolLM2-135M on movie reviews and show accuracy before and after.
    Demo(demo::Args),
    /// Time training and generation, beside transformers + PEFT where a Python with torch is found.
    Bench(bench::Args),
    /// Take the README's pictures from the page at real work.
    Pictures(pictures::Args),
    /// Show where builds, models and data are cached, or clean the builds.
    Cache(cache::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Serve(args) => serve::run(&args),
        Task::Dist(args) => page::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Pictures(args) => pictures::run(&args),
        Task::Cache(args) => cache::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root: where the workspace's `Cargo.toml` lies.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap_or_else(|_| PathBuf::from("."))
}
