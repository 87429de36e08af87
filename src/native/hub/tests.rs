#![allow(clippy::unwrap_used)]

use super::super::test_server::{Answer, Request, TestServer};
use super::*;
use crate::hub::{git_blob_id, hex};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Files of a tiny repository: a sharded model and a GGUF file.
fn repository() -> Vec<(&'static str, Vec<u8>)> {
    let index = br#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors","c":"model-00001-of-00002.safetensors"}}"#;
    vec![
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"version\":\"1.0\"}".to_vec()),
        ("README.md", b"not fetched".to_vec()),
        ("pytorch_model.bin", vec![1; 50]),
        ("model.safetensors.index.json", index.to_vec()),
        ("model-00001-of-00002.safetensors", vec![2; 200_000]),
        ("model-00002-of-00002.safetensors", vec![3; 1000]),
        ("quantised/model Q4.gguf", b"GGUF".to_vec()),
    ]
}

fn description(files: &[(&str, Vec<u8>)]) -> Answer {
    let siblings: Vec<_> = files
        .iter()
        .map(|(name, bytes)| match name.ends_with(".safetensors") || name.ends_with(".gguf") {
            true => serde_json::json!({ "rfilename": name, "size": bytes.len(),
                "lfs": { "sha256": hex(&Sha256::digest(bytes)), "size": bytes.len(), "pointerSize": 131 } }),
            false => {
                serde_json::json!({ "rfilename": name, "size": bytes.len(), "blobId": git_blob_id(bytes) })
            }
        })
        .collect();
    Answer::ok(serde_json::json!({ "id": "owner/name", "sha": COMMIT, "siblings": siblings }).to_string())
}

/// A hub's answers for `files`; weights are redirected as the hub does.
fn answer(request: &Request, files: &[(&str, Vec<u8>)]) -> Answer {
    let base = format!("/owner/name/resolve/{COMMIT}/");
    let path = request.path.replace("%20", " ");
    if let Some(file) = path.strip_prefix("/store/") {
        return files
            .iter()
            .find(|(name, _)| *name == file)
            .map_or(Answer::status(404), |(_, bytes)| Answer::ok(bytes.clone()));
    }
    match path.strip_prefix(&base) {
        Some(file) => Answer::redirect(&format!("/store/{}", file.replace(' ', "%20"))),
        None if path == "/api/models/owner/name/revision/main?blobs=true" => description(files),
        None if path == "/api/models/owner/name/revision/refs%2Fpr%2F1?blobs=true" => description(files),
        None => Answer::status(404),
    }
}

struct Local {
    hub: Hub,
    _cache: tempfile::TempDir,
}

fn local(server: &TestServer) -> Local {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub {
        client: Client::for_tests(),
        endpoint: server.url(""),
        token: Some("hf_secret".to_owned()),
        cache: cache.path().to_owned(),
        is_offline: false,
    };
    Local { hub, _cache: cache }
}

impl Local {
    fn fetch(&self, id: &str) -> Result<PathBuf> {
        self.hub.fetch(&HubId::parse(id).unwrap().unwrap(), &|_| Ok(()), &mut |_| {})
    }
}

#[test]
fn a_sharded_model_is_fetched_once_and_then_taken_from_the_cache() {
    let server = TestServer::start(|request, _| answer(request, &repository()));
    let local = local(&server);
    let folder = local.fetch("owner/name").unwrap();
    assert!(folder.ends_with(Path::new("models/hub/owner--name").join(COMMIT)));
    for (name, bytes) in repository() {
        let is_wanted = name.starts_with("model-") || name.ends_with(".json");
        assert_eq!(std::fs::read(folder.join(name)).ok(), is_wanted.then_some(bytes), "{name}");
    }
    assert!(
        server.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_secret"))
    );
    let n_requests = server.requests().len();
    assert_eq!(local.fetch("owner/name").unwrap(), folder);
    assert_eq!(server.requests().len(), n_requests + 1, "a branch is looked up, nothing is fetched again");
    assert_eq!(local.fetch(&format!("owner/name@{COMMIT}")).unwrap(), folder);
    assert_eq!(server.requests().len(), n_requests + 1, "a commit in the cache needs no request");
    assert_eq!(local.fetch("owner/name@refs/pr/1").unwrap(), folder);
}

#[test]
fn a_single_gguf_file_is_fetched_alone() {
    let server = TestServer::start(|request, _| answer(request, &repository()));
    let local = local(&server);
    let file = local.fetch("owner/name:quantised/model Q4.gguf").unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"GGUF");
    assert!(!file.with_file_name("config.json").exists());
    let error = local.fetch("owner/name:other.gguf").unwrap_err().to_string();
    assert!(error.contains("no other.gguf") && error.contains("quantised/model Q4.gguf"), "{error}");
}

#[test]
fn the_copy_is_used_when_the_hub_is_gone_and_only_when_whole() {
    let is_up = Arc::new(AtomicBool::new(true));
    let up = Arc::clone(&is_up);
    let server = TestServer::start(move |request, _| match up.load(Ordering::SeqCst) {
        true => answer(request, &repository()),
        false => Answer::status(500),
    });
    let mut local = local(&server);
    let folder = local.fetch("owner/name").unwrap();
    is_up.store(false, Ordering::SeqCst);
    let mut events = Vec::new();
    let id = HubId::parse("owner/name").unwrap().unwrap();
    assert_eq!(local.hub.fetch(&id, &|_| Ok(()), &mut |event| events.push(event)).unwrap(), folder);
    assert!(
        matches!(events.last(), Some(Event::Note { message }) if message.contains("copy fetched before"))
    );
    local.hub.is_offline = true;
    let n_requests = server.requests().len();
    assert_eq!(local.fetch("owner/name").unwrap(), folder);
    assert_eq!(server.requests().len(), n_requests, "offline means no request");
    std::fs::write(folder.join("model-00002-of-00002.safetensors"), "cut").unwrap();
    assert!(local.fetch("owner/name").unwrap_err().to_string().contains("HF_HUB_OFFLINE"));
}

#[test]
fn a_broken_fetch_is_no_model_and_is_resumed() {
    let is_whole = Arc::new(AtomicBool::new(false));
    let whole = Arc::clone(&is_whole);
    let server = TestServer::start(move |request, n_before| {
        let mut answer = answer(request, &repository());
        if request.path == "/store/model-00001-of-00002.safetensors" && !whole.load(Ordering::SeqCst) {
            answer = if n_before == 0 {
                Answer { cut_after: Some(150_000), ..answer }
            } else {
                Answer::status(503)
            };
        }
        answer
    });
    let mut local = local(&server);
    assert!(matches!(local.fetch("owner/name"), Err(Error::Network { .. })));
    local.hub.is_offline = true;
    assert!(local.fetch("owner/name").is_err(), "half a model is none");
    local.hub.is_offline = false;
    is_whole.store(true, Ordering::SeqCst);
    let folder = local.fetch("owner/name").unwrap();
    assert_eq!(std::fs::read(folder.join("model-00001-of-00002.safetensors")).unwrap(), vec![2; 200_000]);
    assert!(server.requests().iter().any(|request| request.header("range") == Some("bytes=150000-")));
}

#[test]
fn tampered_files_are_refused_and_not_kept() {
    for (name, bytes) in
        [("model-00002-of-00002.safetensors", vec![9; 1000]), ("config.json", b"[]".to_vec())]
    {
        let server = TestServer::start(move |request, _| match request.path.strip_prefix("/store/") {
            Some(file) if file == name => Answer::ok(bytes.clone()),
            _ => answer(request, &repository()),
        });
        let local = local(&server);
        assert!(local.fetch("owner/name").unwrap_err().to_string().contains("checksum"));
        let folder = hub_folder(&local.hub.cache).join("owner--name").join(COMMIT);
        // Nothing is fetched on the word of a config that is not the hub's.
        assert_eq!(folder.join("model.safetensors.index.json").exists(), name != "config.json");
        assert!(!folder.join(name).exists() && !folder.join(format!("{name}.part")).exists());
    }
}

#[test]
fn refusals_say_what_to_do() {
    for (status, advice) in
        [(401, "HF_TOKEN"), (403, "licence accepted"), (404, "check owner, name and revision")]
    {
        let server = TestServer::start(move |_, _| Answer::status(status));
        let error = local(&server).fetch("owner/name").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains(&status.to_string()) && text.contains(advice), "{text}");
        assert!(!text.contains("hf_secret"), "{text}");
    }
}

#[test]
fn a_hostile_description_writes_nothing_outside() {
    for (sha, shard) in [("../../evil", "model.safetensors"), (COMMIT, "../../../evil")] {
        let index = format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#);
        let server = TestServer::start(move |request, _| match request.path.contains("/api/") {
            true => Answer::ok(
                serde_json::json!({ "sha": sha, "siblings": [{ "rfilename": "config.json" },
                    { "rfilename": "model.safetensors.index.json" }, { "rfilename": shard }] })
                .to_string(),
            ),
            false => Answer::ok(index.clone()),
        });
        let local = local(&server);
        assert!(local.fetch("owner/name").is_err());
        assert!(
            !local.hub.cache.join("models/hub/evil").exists()
                && !local.hub.cache.join("models/evil").exists()
        );
    }
}

#[test]
fn a_model_that_cannot_be_loaded_costs_its_config_alone() {
    let server = TestServer::start(|request, _| answer(request, &repository()));
    let local = local(&server);
    let id = HubId::parse("owner/name").unwrap().unwrap();
    let unsupported = |config: &Value| {
        assert_eq!(config, &serde_json::json!({}));
        Err(Error::Unsupported { what: "that".into(), supported: "this".into() })
    };
    let error = local.hub.fetch(&id, &unsupported, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("that is not supported"), "{error}");
    let fetched: Vec<_> =
        server.requests().into_iter().filter(|request| request.path.starts_with("/store/")).collect();
    assert_eq!(
        fetched.iter().map(|request| request.path.as_str()).collect::<Vec<_>>(),
        ["/store/config.json"]
    );
}

#[test]
fn a_model_is_described_without_its_weights() {
    let server = TestServer::start(|request, _| answer(request, &repository()));
    let local = local(&server);
    let peek = |id: &str| local.hub.peek(&HubId::parse(id).unwrap().unwrap(), &mut |_| {}).unwrap();
    let found = peek("owner/name");
    assert_eq!((found.path, found.config), (None, Some(serde_json::json!({}))));
    let names: Vec<_> = found.files.iter().map(|file| file.name.as_str()).collect();
    assert!(
        names.contains(&"model-00001-of-00002.safetensors") && names.contains(&"tokenizer.json"),
        "{names:?}"
    );
    assert!(found.n_bytes > 201_000 && found.n_bytes < 202_000, "{}", found.n_bytes);
    let gguf = peek("owner/name:quantised/model Q4.gguf");
    assert_eq!((gguf.name.as_str(), gguf.n_bytes), ("owner/name:quantised/model Q4.gguf", 4));
    assert_eq!(gguf.config, None);
    let weights =
        |request: &Request| request.path.ends_with(".safetensors") || request.path.ends_with(".gguf");
    assert!(!server.requests().iter().any(weights));
    assert!(local.hub.cache.join("models/hub/owner--name").join(COMMIT).join("config.json").exists());
    assert!(
        HubId::parse("owner/name").unwrap().unwrap().cached(&local.hub.cache).is_none(),
        "that is no model"
    );
}

#[test]
fn repositories_without_readable_weights_list_what_there_is() {
    let files =
        vec![("config.json", b"{}".to_vec()), ("pytorch_model.bin", vec![1]), ("m.gguf", b"GGUF".to_vec())];
    let server = TestServer::start(move |request, _| answer(request, &files));
    let error = local(&server).fetch("owner/name").unwrap_err().to_string();
    assert!(error.contains("no model.safetensors") && error.contains("m.gguf"), "{error}");
}

#[test]
fn names_are_read_or_refused() {
    let read = |text: &str| HubId::parse(text);
    let id = |revision: &str, gguf: Option<&str>| {
        let owned = str::to_owned;
        HubId { owner: owned("o"), name: owned("n.1"), revision: owned(revision), gguf: gguf.map(owned) }
    };
    assert_eq!(read("o/n.1").unwrap(), Some(id("main", None)));
    assert_eq!(read("o/n.1@refs/pr/1").unwrap(), Some(id("refs/pr/1", None)));
    assert_eq!(read("o/n.1@v1:a/b.gguf").unwrap(), Some(id("v1", Some("a/b.gguf"))));
    for text in ["o/n.1", "o/n.1@v1", "o/n.1:b.gguf", "o/n.1@v1:a/b.gguf"] {
        assert_eq!(read(text).unwrap().unwrap().to_string(), text);
    }
    for text in ["", "name", "/n", "o/", "a/b/c", "../n", "./n", "o/n.gguf", "o--p/n", "o/n m", "c:\\o\\n"] {
        assert_eq!(read(text).unwrap(), None, "{text}");
    }
    for text in ["o/n@", "o/n@../x", "o/n@a b", "o/n:", "o/n:x.bin", "o/n:../x.gguf"] {
        assert_eq!(read(text).unwrap_err().exit_code(), 2, "{text}");
    }
}

#[test]
fn the_token_is_found_where_the_hub_s_own_tools_put_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join(".cache/huggingface")).unwrap();
    std::fs::write(folder.path().join(".cache/huggingface/token"), "hf_home\n").unwrap();
    std::fs::write(folder.path().join("own"), "hf_own\n").unwrap();
    let home = folder.path().to_str().unwrap().to_owned();
    let own = folder.path().join("own").to_str().unwrap().to_owned();
    let with = |variables: Vec<(&'static str, String)>| {
        token(&move |name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone()))
    };
    assert_eq!(with(vec![]).unwrap(), None);
    assert_eq!(with(vec![("HOME", home.clone())]).unwrap().as_deref(), Some("hf_home"));
    assert_eq!(
        with(vec![("HOME", home.clone()), ("HF_TOKEN_PATH", own)]).unwrap().as_deref(),
        Some("hf_own")
    );
    assert_eq!(with(vec![("HOME", home), ("HF_TOKEN", "hf_env".into())]).unwrap().as_deref(), Some("hf_env"));
    let error = with(vec![("HF_TOKEN", "two words".into())]).unwrap_err().to_string();
    assert!(!error.contains("words"), "a token is never shown: {error}");
}
