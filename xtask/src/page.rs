//! `cargo xtask dist`: the page as a folder of static files, under any base path.

use crate::process::run_logged;
use crate::remember::remembered;
use crate::worker::{Size, Worker};
use crate::{policy, setup, tools};
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
    #[command(flatten)]
    built: Built,
    /// The model hub that the page asks instead of huggingface.co, such as a mirror; more origins from which its
    /// downloads come after it, parted by spaces.
    #[arg(long, value_name = "URLS")]
    hub: Option<String>,
}

/// What is built.
#[derive(Clone, Copy, clap::Args)]
pub struct Built {
    /// Also build the worker that computes on the browser's GPU; the first time takes 20 minutes more.
    #[arg(long)]
    pub gpu: bool,
    /// Leave the code as large as the compiler makes it: a page to work on, minutes sooner.
    #[arg(long)]
    pub quick: bool,
}

/// Runs `cargo xtask dist`.
pub fn run(args: &Args) -> Result<()> {
    build(&args.out, args.built, args.hub.as_deref())?;
    println!("the page is in {}", args.out.display());
    Ok(())
}

/// Builds the page into `out` and prints what a visitor downloads.
pub fn build(out: &Path, built: Built, hub: Option<&str>) -> Result<()> {
    let toolchain = setup::wasm_toolchain().map_err(anyhow::Error::msg)?;
    let path = tools::path()?;
    let out = std::path::absolute(out).context("the folder for the page")?;
    fs::create_dir_all(&out).with_context(|| format!("could not create {}", out.display()))?;
    eprintln!("building the page (the first time takes many minutes) …");
    let mut trunk = Command::new("trunk");
    // Trunk reads NO_COLOR as a flag of its own and takes nothing but true and false.
    trunk.args(["build", "--release", "--offline", "--dist"]).arg(&out).env_remove("NO_COLOR");
    trunk.current_dir(crate::root()).env("PATH", &path);
    toolchain.set(&mut trunk);
    let finished = run_logged("page", &mut trunk)?;
    ensure!(
        finished.success,
        "the page's build failed:\n{}\n(all of it: {})",
        finished.tail(),
        finished.log.display()
    );
    let index = out.join("index.html");
    allow_start(&index)?;
    let mut html =
        fs::read_to_string(&index).with_context(|| format!("could not read {}", index.display()))?;
    if let Some(hub) = hub {
        html = policy::with_hub(&html, hub)?;
        fs::write(&index, &html).with_context(|| format!("could not write {}", index.display()))?;
    }
    policy::write_headers(&out, &html)?;
    let size = if built.quick { Size::AsCompiled } else { Size::Small };
    Worker::Cpu.build(&toolchain, &path, &out, size)?;
    Worker::Relaxed.build(&toolchain, &path, &out, size)?;
    if built.gpu {
        Worker::Gpu.build(&toolchain, &path, &out, size)?;
    }
    // Read by `web/worker.js`, which must not ask for a file that is not there.
    let told = out.join("built.js");
    let text = format!("export const hasGpu = {};\n", built.gpu);
    fs::write(&told, text).with_context(|| format!("could not write {}", told.display()))?;
    crate::offline::list(&out)?;
    if built.quick { remove_compressed(&out) } else { compress(&out) }
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

/// What an earlier build left beside the files is not theirs any more.
fn remove_compressed(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let path = entry.context("a file of the page")?.path();
        if path.extension().is_some_and(|ending| ending == "gz" || ending == "br") {
            fs::remove_file(&path).with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Writes each file beside itself as gzip, which every browser takes, and as Brotli, which most take and is smaller.
fn compress(folder: &Path) -> Result<()> {
    let mut totals = [0; 2];
    println!("{:>9}  {:>9}  {:>9}", "kB", "gzip", "Brotli");
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let path = entry.context("a file of the page")?.path();
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if !COMPRESSED.contains(&ending.as_str()) {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let compressed = [("gz", gzip(&bytes)?), ("br", remembered("brotli", &bytes, || brotli(&bytes))?)];
        let [gz, br] = compressed.each_ref().map(|(_, bytes)| bytes.len());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        println!("{:>9}  {:>9}  {:>9}  {name}", bytes.len() / 1000, gz / 1000, br / 1000);
        totals = [totals[0] + gz, totals[1] + br];
        for (more, bytes) in compressed {
            let target = path.with_extension(format!("{ending}.{more}"));
            fs::write(&target, bytes).with_context(|| format!("could not write {}", target.display()))?;
        }
    }
    println!("{:>20}  {:>9}  in all", totals[0] / 1000, totals[1] / 1000);
    Ok(())
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).context("compressing in memory")?;
    encoder.finish().context("compressing in memory")
}

/// At its highest quality, which takes a second a megabyte.
fn brotli(bytes: &[u8]) -> Result<Vec<u8>> {
    let parameters = brotli::enc::BrotliEncoderParams { quality: 11, lgwin: 24, ..Default::default() };
    let mut compressed = Vec::new();
    brotli::BrotliCompress(&mut &*bytes, &mut compressed, &parameters).context("compressing in memory")?;
    Ok(compressed)
}
