//! Where the page may connect: its hub, and its content-security policy.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// Read by Cloudflare Pages, Netlify and others, who serve it to nobody.
pub const HEADERS: &str = "_headers";

/// What runs beside the page.
const WORKERS: &[&str] = &["sw.js", "worker.js"];

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

/// The policy of the page's workers. A page's own, which `index.html` states, does not reach them: a worker's comes with
/// its code.
pub fn of_worker(connections: &str) -> String {
    format!("default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src {connections}")
}

/// Writes the headers that the page wants into `folder`, for the hosts that read them from there.
///
/// # Errors
/// The page states no policy; the file cannot be written.
pub fn write_headers(folder: &Path, html: &str) -> Result<()> {
    let policy = of_worker(&connections(html)?);
    let mut text = "/*\n  Cache-Control: no-cache\n  X-Content-Type-Options: nosniff\n".to_string();
    for code in WORKERS {
        text.push_str(&format!("/{code}\n  Content-Security-Policy: {policy}\n"));
    }
    let path = folder.join(HEADERS);
    fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))
}

/// Scheme and host: a policy would take a path for a limit of its own.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |end| &url[..host + end])
}

/// `html` with what stands between `before` and `after` replaced.
pub fn replaced(html: &str, before: &str, after: &str, by: &str) -> Result<String> {
    let start = html.find(before).with_context(|| format!("it has no {before}"))? + before.len();
    let end = html[start..].find(after).with_context(|| format!("its {before} has no end"))? + start;
    Ok(format!("{}{by}{}", &html[..start], &html[end..]))
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

    #[test]
    fn the_headers_bind_the_worker_to_what_the_page_may_ask() {
        let folder = tempfile::tempdir().unwrap();
        write_headers(folder.path(), "connect-src 'self' https://a.example;").unwrap();
        let text = fs::read_to_string(folder.path().join(HEADERS)).unwrap();
        let (_, rest) =
            text.split_once("/worker.js\n  Content-Security-Policy: ").expect("the worker's header");
        assert_eq!(rest.lines().next(), Some(of_worker("'self' https://a.example").as_str()));
    }
}
