//! `cargo xtask dist`: the page as a folder of static files, under any base path.

use crate::process::run_logged;
use crate::{setup, tools};
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Stands in `index.html` where the hash of the starting script belongs.
const PLACEHOLDER: &str = "'start'";

/// Files of these kinds are also written compressed.
const COMPRESSED: &[&str] = &["html", "js", "css", "json", "svg", "wasm", "webmanifest"];

#[derive(clap::Args)]
pub struct Args {
    /// Folder that receives the page.
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
}

/// Runs `cargo xtask dist`.
pub fn run(args: &Args) -> Result<()> {
    build(&args.out)?;
    println!("the page is in {}", args.out.display());
    Ok(())
}

/// Builds the page into `out` and prints what a visitor downloads.
pub fn build(out: &Path) -> Result<()> {
    let toolchain = setup::wasm_toolchain().map_err(anyhow::Error::msg)?;
    let path = tools::path()?;
    let out = std::path::absolute(out).context("the folder for the page")?;
    fs::create_dir_all(&out).with_context(|| format!("could not create {}", out.display()))?;
    eprintln!("building the page (the first time takes many minutes) …");
    let mut trunk = Command::new("trunk");
    // Trunk reads NO_COLOR as a flag of its own and takes nothing but true and false.
    trunk.args(["build", "--release", "--offline", "--dist"]).arg(&out).env_remove("NO_COLOR");
    trunk.current_dir(crate::root()).env("PATH", path);
    toolchain.set(&mut trunk);
    let finished = run_logged("page", &mut trunk)?;
    ensure!(
        finished.success,
        "the page's build failed:\n{}\n(all of it: {})",
        finished.tail(),
        finished.log.display()
    );
    allow_start(&out.join("index.html"))?;
    crate::offline::list(&out)?;
    compress(&out)
}

/// Trunk starts the page with an inline script; the page's policy lets that script run by its hash, and no other.
fn allow_start(index: &Path) -> Result<()> {
    let html = fs::read_to_string(index).with_context(|| format!("could not read {}", index.display()))?;
    let mut scripts = html.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        (!attributes.contains("src=")).then(|| rest.split("</script>").next()).flatten()
    });
    let (Some(script), None) = (scripts.next(), scripts.next()) else {
        bail!("{} has not the one inline script that Trunk writes", index.display());
    };
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(script));
    ensure!(html.contains(PLACEHOLDER), "{} has no place for its script's hash", index.display());
    let html = html.replacen(PLACEHOLDER, &format!("'sha256-{hash}'"), 1);
    fs::write(index, html).with_context(|| format!("could not write {}", index.display()))
}

fn compress(folder: &Path) -> Result<()> {
    let mut total = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let path = entry.context("a file of the page")?.path();
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if !COMPRESSED.contains(&ending.as_str()) {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&bytes).context("compressing in memory")?;
        let compressed = encoder.finish().context("compressing in memory")?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        println!("{:>9} kB  {:>8} kB compressed  {name}", bytes.len() / 1000, compressed.len() / 1000);
        total += compressed.len();
        let target = path.with_extension(format!("{ending}.gz"));
        fs::write(&target, compressed).with_context(|| format!("could not write {}", target.display()))?;
    }
    println!("{:>24} kB compressed in all", total / 1000);
    Ok(())
}
