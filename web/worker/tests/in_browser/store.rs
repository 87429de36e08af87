//! The browser's private file system as a store.

use attune::store::{Store, zip};
use attune_worker::Opfs;
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test]
async fn private_files_keep_what_a_store_promises() {
    let store = Opfs::open().await.unwrap();
    assert_eq!(store.size("store/none").await.unwrap(), None);
    store.write("store/a/b", b"one two").await.unwrap();
    store.append("store/a/b", b" three").await.unwrap();
    store.append("store/new", b"x").await.unwrap();
    assert_eq!(store.size("store/a/b").await.unwrap(), Some(13));
    assert_eq!(store.read("store/a/b", 4..7).await.unwrap(), b"two");
    let error = store.read("store/a/b", 4..14).await.unwrap_err().to_string();
    assert_eq!(error, "store/a/b: bytes 4..14 asked for; expected a range within its 13 bytes");
    assert!(store.read_all("store/a/b", 12).await.is_err());

    // A shorter value leaves nothing of the longer one, and a name taken is replaced.
    store.write("store/a/b", b"1").await.unwrap();
    store.rename("store/a/b", "store/new").await.unwrap();
    assert_eq!(store.read_all("store/new", 9).await.unwrap(), b"1");
    store.write("store/ab", b"").await.unwrap();
    assert_eq!(store.list("store/").await.unwrap(), ["store/ab", "store/new"]);
    assert_eq!(store.list("store/a").await.unwrap(), ["store/ab"]);
    store.remove("store/ab").await.unwrap();
    store.remove("store/ab").await.unwrap();
    store.remove("store/nowhere/at/all").await.unwrap();
    assert_eq!(store.list("store/").await.unwrap(), ["store/new"]);
    assert!(store.rename("store/ab", "store/c").await.is_err());
}

#[wasm_bindgen_test]
async fn an_archive_of_private_files_comes_back_whole() {
    let store = Opfs::open().await.unwrap();
    // More than is in memory at a time.
    let large: Vec<u8> = (0..9_000_000_u32).map(|i| (i % 251) as u8).collect();
    store.write("zip/large", &large).await.unwrap();
    store.write("zip/small", b"small").await.unwrap();
    zip::write(&store, "zip", &["large", "small"], "zip/all.zip", &mut |_, _| {}).await.unwrap();
    let members = zip::members(&store, "zip/all.zip", 1 << 30).await.unwrap();
    for member in &members {
        zip::extract(&store, "zip/all.zip", member, &format!("zip/out/{}", member.name)).await.unwrap();
    }
    assert_eq!(store.list("zip/out/").await.unwrap(), ["zip/out/large", "zip/out/small"]);
    assert!(store.read_all("zip/out/large", 1 << 30).await.unwrap() == large);
}
