#![allow(clippy::unwrap_used)]

use super::super::test_server::{Answer, TestServer};
use super::*;

const TINY: Artifact = Artifact {
    project: "tiny-model",
    version: "1.0",
    file_name: "tiny_model-1.0-py3-none-any.whl",
    sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
};

fn json_page(sha256: &str) -> Answer {
    let page = serde_json::json!({ "meta": { "api-version": "1.0" }, "name": TINY.project, "files": [
        { "filename": "tiny_model-0.9-py3-none-any.whl", "url": "old", "hashes": {} },
        { "filename": TINY.file_name, "url": "../../files/tiny.whl", "hashes": { "sha256": sha256 }, "size": 3 },
    ] });
    Answer::ok(page.to_string()).with("content-type", "application/vnd.pypi.simple.v1+json")
}

fn fetch(fetcher: &Fetcher) -> (Result<()>, Option<Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("downloads/tiny.whl");
    let result = fetcher.fetch(&TINY, &to, &mut |_| {});
    (result, std::fs::read(to).ok())
}

#[test]
fn a_file_is_found_in_a_json_page_and_in_a_page_of_links() {
    for as_json in [true, false] {
        let server = TestServer::start(move |request, _| {
            match request.path.as_str() {
            "/simple/tiny-model/" if as_json => json_page(TINY.sha256),
            "/simple/tiny-model/" => Answer::ok(format!(
                "<!DOCTYPE html><a href=\"x\">other</a>\n<A class=b href='/files/tiny.whl?a=1&amp;b=2#sha256={}'>\n{}</A>",
                TINY.sha256, TINY.file_name
            ))
            .with("content-type", "text/html"),
            "/files/tiny.whl" | "/files/tiny.whl?a=1&b=2" => Answer::ok("abc"),
            _ => Answer::status(404),
        }
        });
        let (result, bytes) = fetch(&Fetcher::for_tests(&[server.url("/simple")], &[]));
        result.unwrap();
        assert_eq!(bytes.unwrap(), b"abc");
    }
}

#[test]
fn the_next_index_is_asked_and_all_failures_are_told() {
    let empty = TestServer::start(|_, _| Answer::status(404));
    let other = TestServer::start(|_, _| json_page(&"0".repeat(64)));
    let indexes = [empty.url("/simple"), other.url("/simple")];
    let (result, bytes) = fetch(&Fetcher::for_tests(&indexes, &["no-such-python"]));
    let error = result.unwrap_err().to_string();
    for part in ["404", "another tiny_model-1.0", "no-such-python -m pip", "PIP_INDEX_URL"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(bytes, None);
    assert_eq!(other.requests().len(), 1, "a file with another checksum is not fetched");
}

#[test]
fn a_login_goes_to_the_files_of_its_own_host() {
    let server = TestServer::start(|request, _| match request.path.as_str() {
        "/simple/tiny-model/" => json_page(TINY.sha256),
        _ => Answer::ok("abc"),
    });
    let index = server.url("/simple").replace("http://", "http://user:word@");
    fetch(&Fetcher::for_tests(&[index], &[])).0.unwrap();
    for request in server.requests() {
        assert_eq!(request.header("authorization"), Some("Basic dXNlcjp3b3Jk"), "{}", request.path);
    }
}

/// A stand-in for Python that writes what pip would.
#[cfg(unix)]
#[test]
fn pip_is_asked_where_no_index_answers_and_its_file_is_verified() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for (content, is_right) in [("abc", true), ("abd", false)] {
        let python = folder.path().join(content);
        let script = format!(
            "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\n\
             printf {content} > \"$dest/{}\"\n",
            TINY.file_name
        );
        std::fs::write(&python, script).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (result, bytes) = fetch(&Fetcher::for_tests(&[], &["no-such-python", python.to_str().unwrap()]));
        assert_eq!(bytes.is_some(), is_right);
        match is_right {
            true => result.unwrap(),
            false => assert!(result.unwrap_err().to_string().contains("checksum")),
        }
    }
}

#[test]
fn links_are_joined_as_browsers_do() {
    let base = "https://u:p@host:1/root/simple/tiny/?x";
    for (link, expected) in [
        ("a.whl", "https://u:p@host:1/root/simple/tiny/a.whl"),
        ("../../files/./a.whl", "https://u:p@host:1/root/files/a.whl"),
        ("/a.whl", "https://u:p@host:1/a.whl"),
        ("//other/a.whl", "https://other/a.whl"),
        ("http://other/a.whl", "http://other/a.whl"),
    ] {
        assert_eq!(join(base, link), expected);
    }
    assert_eq!(with_login_of(base, "https://host:1/a"), "https://u:p@host:1/a");
    assert_eq!(with_login_of(base, "https://other/a"), "https://other/a");
    assert_eq!(with_login_of(base, "http://host:1/a"), "http://host:1/a", "not without encryption");
}
