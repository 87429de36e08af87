#![allow(clippy::unwrap_used)]

use super::super::test_server::{Answer, TestServer};
use super::*;
use crate::hub::Advice;

/// Bytes long enough to break in the middle, and their checksum.
fn fixture() -> (Vec<u8>, String) {
    let bytes: Vec<u8> = (0..700_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sha256 = hex(&Sha256::digest(&bytes));
    (bytes, sha256)
}

struct Target {
    folder: tempfile::TempDir,
    to: PathBuf,
}

impl Target {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("models/file.bin");
        Self { folder, to }
    }

    fn fetch(&self, url: &str, size: Option<u64>, sha256: Option<&str>) -> (Result<()>, Vec<Event>) {
        let get = Get {
            url,
            headers: Vec::new(),
            advice: Advice { when_denied: "a token", when_missing: "a name" },
        };
        let mut events = Vec::new();
        let checksum = sha256.map(Checksum::Sha256);
        let download = Download { get, to: &self.to, size, checksum, task: "fetching".to_owned() };
        let result = Client::for_tests().download(&download, &mut |event| events.push(event));
        (result, events)
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("models")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_whole_file_arrives_with_progress_and_nothing_beside_it() {
    let (bytes, sha256) = fixture();
    let body = bytes.clone();
    let server = TestServer::start(move |_, _| Answer::ok(body.clone()).with("etag", "\"v1\""));
    let target = Target::new();
    let (result, events) = target.fetch(&server.url("/f"), Some(700_000), Some(&sha256));
    result.unwrap();
    assert_eq!(std::fs::read(&target.to).unwrap(), bytes);
    assert_eq!(target.files(), ["file.bin"]);
    let last = Event::Progress { task: "fetching".to_owned(), done: 700_000, total: 700_000 };
    assert_eq!(events.last(), Some(&last));
    assert_eq!(server.requests()[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_break_in_the_middle_is_resumed_in_the_same_call() {
    let (bytes, sha256) = fixture();
    let body = bytes.clone();
    let server = TestServer::start(move |_, n_before| Answer {
        cut_after: (n_before < 3).then_some(150_000),
        ..Answer::ok(body.clone()).with("etag", "\"v1\"")
    });
    let target = Target::new();
    target.fetch(&server.url("/f"), Some(700_000), Some(&sha256)).0.unwrap();
    assert_eq!(std::fs::read(&target.to).unwrap(), bytes);
    let ranges: Vec<_> =
        server.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
    let expected = [None, Some("bytes=150000-"), Some("bytes=300000-"), Some("bytes=450000-")];
    assert_eq!(ranges, expected.map(|range| range.map(str::to_owned)));
    assert_eq!(server.requests()[1].header("if-range"), Some("\"v1\""));
}

#[test]
fn a_dead_line_keeps_what_came_and_a_later_call_continues() {
    let (bytes, sha256) = fixture();
    let body = bytes.clone();
    let server = TestServer::start(move |_, n_before| match n_before {
        0 => Answer { cut_after: Some(400_000), ..Answer::ok(body.clone()) },
        1..=4 => Answer::status(502),
        _ => Answer::ok(body.clone()),
    });
    let target = Target::new();
    let error = target.fetch(&server.url("/f"), None, Some(&sha256)).0.unwrap_err().to_string();
    assert!(error.contains("502") && error.contains("400.0 kB are kept"), "{error}");
    assert!(!target.to.exists(), "half a file has no final name");
    target.fetch(&server.url("/f"), None, Some(&sha256)).0.unwrap();
    assert_eq!(std::fs::read(&target.to).unwrap(), bytes);
    assert_eq!(server.requests()[5].header("range"), Some("bytes=400000-"));
    assert_eq!(target.files(), ["file.bin"]);
}

#[test]
fn a_changed_file_and_a_server_without_ranges_are_fetched_anew() {
    for ranges in [true, false] {
        let server = TestServer::start(move |_, n_before| {
            let (letter, etag) = if n_before == 0 { ("a", "\"old\"") } else { ("b", "\"new\"") };
            let cut_after = (n_before == 0).then_some(1000);
            Answer { ranges, cut_after, ..Answer::ok(letter.repeat(5000)).with("etag", etag) }
        });
        let target = Target::new();
        target.fetch(&server.url("/f"), None, None).0.unwrap();
        assert_eq!(std::fs::read_to_string(&target.to).unwrap(), "b".repeat(5000));
        assert_eq!(server.requests()[1].header("if-range"), Some("\"old\""));
    }
}

#[test]
fn without_a_mark_or_checksum_nothing_is_resumed() {
    let server = TestServer::start(|_, n_before| Answer {
        cut_after: (n_before == 0).then_some(1000),
        ..Answer::ok("b".repeat(5000)).with("etag", "W/\"weak\"")
    });
    let target = Target::new();
    target.fetch(&server.url("/f"), Some(5000), None).0.unwrap();
    assert_eq!(server.requests()[1].header("range"), None);
}

#[test]
fn a_wrong_checksum_discards_the_bytes() {
    let server = TestServer::start(|_, _| Answer::ok("tampered"));
    let target = Target::new();
    let error = target.fetch(&server.url("/f"), None, Some(&"0".repeat(64))).0.unwrap_err().to_string();
    assert!(error.contains("checksum") && error.contains(&hex(&Sha256::digest("tampered"))), "{error}");
    assert!(target.files().is_empty());
    assert_eq!(server.requests().len(), 1, "the same bytes would come again");
}

#[test]
fn damaged_bytes_of_an_earlier_call_are_replaced() {
    let (bytes, sha256) = fixture();
    let body = bytes.clone();
    let server = TestServer::start(move |_, _| Answer::ok(body.clone()));
    for damaged in [&b"not the beginning"[..], &vec![0; 700_000], &vec![0; 700_001]] {
        let target = Target::new();
        std::fs::create_dir_all(parent(&target.to)).unwrap();
        std::fs::write(with_suffix(&target.to, ".part"), damaged).unwrap();
        target.fetch(&server.url("/f"), Some(700_000), Some(&sha256)).0.unwrap();
        assert_eq!(std::fs::read(&target.to).unwrap(), bytes);
    }
}

#[test]
fn another_size_is_refused_before_the_body() {
    let server = TestServer::start(|_, _| Answer::ok("four"));
    let target = Target::new();
    let (result, events) = target.fetch(&server.url("/f"), Some(5), None);
    assert!(result.unwrap_err().to_string().contains("has 4 bytes; expected 5"));
    assert!(events.is_empty() && target.files().is_empty());
}

#[test]
fn ranges_pass_through_redirects() {
    let (bytes, sha256) = fixture();
    let body = bytes.clone();
    let server = TestServer::start(move |request, n_before| match request.path.as_str() {
        "/f" => Answer::redirect("/store/f"),
        _ => Answer { cut_after: (n_before == 0).then_some(1000), ..Answer::ok(body.clone()) },
    });
    let target = Target::new();
    target.fetch(&server.url("/f"), None, Some(&sha256)).0.unwrap();
    assert_eq!(server.requests()[3].header("range"), Some("bytes=1000-"));
}

#[test]
fn a_file_that_cannot_fit_is_refused_with_figures() {
    let target = Target::new();
    let error = check_space(&target.folder.path().join("f"), u64::MAX).unwrap_err().to_string();
    assert!(error.contains("are free") && error.contains("free some space"), "{error}");
}

#[test]
fn content_ranges_are_read_strictly() {
    assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
    assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
    for text in ["", "bytes */10", "items 5-9/10", "bytes 5-9/many", "bytes -9/10"] {
        assert_eq!(content_range(text), None, "{text}");
    }
}
