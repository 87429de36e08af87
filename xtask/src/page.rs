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
const COMPRESSED: &[&str] = &["html", "js", "css", "wasm"];

#[derive(clap::Args)]
pub struct Args {
    /// Folder that receives the page.
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
    /// The model hub that the page asks instead of huggingface.co, such as a mirror; more origins from which its
    /// downloads come after it, parted by spaces.
    #[arg(long, value_name = "URLS")]
    hub: Option<String>,
}

/// Runs `cargo xtask dist`.
pub fn run(args: &Args) -> Result<()> {
    build(&args.out)?;
    if let Some(hub) = &args.hub {
        let index = args.out.join("index.html");
        let html =
            fs::read_to_string(&index).with_context(|| format!("could not read {}", index.display()))?;
        fs::write(&index, with_hub(&html, hub)?)
            .with_context(|| format!("could not write {}", index.display()))?;
        compress(&args.out)?;
    }
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

/// Where the page names its hub, and where its policy names the origins it may ask.
const HUB: &str = r#"<meta name="hub" content=""#;
const CONNECT: &str = "connect-src ";

/// The page with another hub: `urls` are its address and the origins of its downloads.
///
/// # Errors
/// A page without a place for them; an address that could say more than an address.
pub fn with_hub(html: &str, urls: &str) -> Result<String> {
    let is_plain = |url: &str| {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        is_web && !url.contains([';', ',', '"', '<', '>', '\''])
    };
    let urls: Vec<&str> = urls.split_whitespace().map(|url| url.trim_end_matches('/')).collect();
    let Some(endpoint) = urls.first().filter(|_| urls.iter().all(|url| is_plain(url))) else {
        bail!("--hub takes addresses such as https://hub.example.org");
    };
    let html = replaced(html, HUB, "\"", endpoint)?;
    let origins = urls.iter().map(|url| origin(url)).collect::<Vec<_>>().join(" ");
    replaced(&html, CONNECT, ";", &format!("'self' {origins}"))
}

/// What the page's policy lets it connect to.
///
/// # Errors
/// The page states no policy.
pub fn connections(html: &str) -> Result<String> {
    let (_, rest) = html.split_once(CONNECT).context("the page states no connect-src")?;
    Ok(rest.split(';').next().unwrap_or_default().to_string())
}

/// Scheme and host: a policy would take a path for a limit of its own.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |end| &url[..host + end])
}

/// `html` with what stands between `before` and `after` replaced.
fn replaced(html: &str, before: &str, after: &str, by: &str) -> Result<String> {
    let start = html.find(before).with_context(|| format!("the page has no {before}"))? + before.len();
    let end = html[start..].find(after).with_context(|| format!("the page's {before} has no end"))? + start;
    Ok(format!("{}{by}{}", &html[..start], &html[end..]))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_hub_stands_in_the_page_and_in_its_policy() {
        let html = std::fs::read_to_string(crate::root().join("index.html")).expect("the page");
        assert_eq!(connections(&html).expect("a policy"), "'self' https://huggingface.co https://*.hf.co");
        let other = with_hub(&html, "http://127.0.0.1:81/hub/ http://127.0.0.1:82").expect("addresses");
        assert!(other.contains(r#"<meta name="hub" content="http://127.0.0.1:81/hub">"#), "{other}");
        let allowed = connections(&other).expect("a policy");
        assert_eq!(allowed, "'self' http://127.0.0.1:81 http://127.0.0.1:82");
        assert!(!other.contains("huggingface.co"), "{other}");
        for wrong in ["", "hub.example.org", "https://a; script-src *", "https://a https://b\""] {
            assert!(with_hub(&html, wrong).is_err(), "{wrong}");
        }
    }
}
