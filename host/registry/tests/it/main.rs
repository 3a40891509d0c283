//! What a registry may do wrong, and that nothing comes of it.

mod faulty;
mod pushing;
mod signing_in;

use std::path::Path;

use bytes::Bytes;
use hub::Endpoint;
use registry::{
    Artifact, Contents, File, Layout, Login, Pulled, Reference, Registries, RegistryError, SecretKey, Signatures, Trust,
};

use crate::faulty::{Faulty, answer};

fn plugin() -> Artifact {
    named("mask", "1.4.0")
}

fn named(name: &str, version: &str) -> Artifact {
    let file = |path: &str, bytes: &'static [u8]| File { path: path.to_owned(), bytes: Bytes::from_static(bytes) };
    let contents = Contents {
        name: name.to_owned(),
        version: version.to_owned(),
        description: "Masks.".to_owned(),
        license: Some("MIT".to_owned()),
        imports: Vec::new(),
        exports: Vec::new(),
        files: vec![file("mask.wasm", b"\0asm component"), file("plugin.toml", b"[plugin]")],
    };
    Artifact::pack(&contents).expect("it packs")
}

/// What an honest registry answers.
fn honest(artifact: &Artifact, request: &str) -> Vec<u8> {
    let name = request.rsplit('/').next().unwrap_or_default();
    if request.contains("/manifests/1") || request.ends_with(&artifact.digest.to_string()) {
        return answer("200 OK", "", &artifact.manifest);
    }
    let blob = artifact.blobs.iter().find(|(digest, _)| digest.to_string() == name);
    blob.map_or_else(|| answer("404 Not Found", "", b"{}"), |(_, bytes)| answer("200 OK", "", bytes))
}

fn allow() -> Trust {
    Trust { keys: Vec::new(), allow_unsigned: true }
}

fn pull_with(reference: &str, login: Option<&Path>, token_server: Option<&str>) -> Result<Pulled, RegistryError> {
    pull_trusting(reference, login, token_server, &allow())
}

fn pull_trusting(
    reference: &str,
    login: Option<&Path>,
    token_server: Option<&str>,
    trust: &Trust,
) -> Result<Pulled, RegistryError> {
    let login = login.map(|path| Login::read(path).expect("a login"));
    let token_server = token_server.map(|url| Endpoint::parse(url).expect("an endpoint"));
    let registries = Registries::new(&[], login, token_server).expect("a client");
    let reference: Reference = reference.parse().expect("a reference");
    block_on(registries.pull(&reference, trust))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// Pulls from a registry that answers this way; the error's text.
fn check(said: &str, change: impl Fn(&Artifact, &str) -> Option<Vec<u8>> + Send + 'static) {
    let artifact = plugin();
    let registry =
        Faulty::start(move |request, _| change(&artifact, request).unwrap_or_else(|| honest(&artifact, request)));
    let error = pull_with(&format!("{}/mask:1", registry.host), None, None).expect_err(said).to_string();
    assert!(error.contains(said), "{error} does not say: {said}");
}

#[test]
fn an_honest_registry_is_believed_and_asked_for_nothing_twice() {
    let artifact = plugin();
    let digest = artifact.digest.clone();
    let registry = Faulty::start(move |request, _| honest(&artifact, request));
    let pulled = pull_with(&format!("{}/mask:1@{digest}", registry.host), None, None).expect("pulled");
    assert_eq!((pulled.digest, pulled.signers), (digest, Vec::new()));
    assert_eq!(pulled.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["mask.wasm", "plugin.toml"]);
    assert_eq!(registry.asked().len(), 3, "manifest, two files, and no signatures: {:?}", registry.asked());
}

#[test]
fn other_bytes_than_the_digest_says_are_refused() {
    let artifact = plugin();
    let registry = Faulty::start(move |request, _| honest(&artifact, request));
    let wrong = format!("{}/mask@sha256:{}", registry.host, "0".repeat(64));
    let error = pull_with(&wrong, None, None).expect_err("404").to_string();
    assert!(error.contains("404"), "{error}");
    // A manifest under the wrong digest.
    let artifact = plugin();
    let registry = Faulty::start(move |_, _| answer("200 OK", "", &artifact.manifest));
    let wrong = format!("{}/mask@sha256:{}", registry.host, "0".repeat(64));
    let error = pull_with(&wrong, None, None).expect_err("other bytes").to_string();
    assert!(error.contains("is not what it should be") && error.contains("nothing was kept"), "{error}");
    check("is not what it should be", |artifact, request| {
        // The right length, with a bit turned.
        let (digest, bytes) = &artifact.blobs[1];
        let mut bytes = bytes.to_vec();
        bytes[5] ^= 1;
        request.ends_with(&digest.to_string()).then(|| answer("200 OK", "", &bytes))
    });
    check("is not what it should be", |artifact, request| {
        let (digest, bytes) = &artifact.blobs[1];
        request.ends_with(&digest.to_string()).then(|| answer("200 OK", "", &bytes[..3]))
    });
}

#[test]
fn nothing_is_read_without_a_bound() {
    // No length is said, and it goes on for longer than anything may.
    let endless = || {
        let mut body = b"200 OK\r\nconnection: close\r\n\r\n".to_vec();
        body.extend(std::iter::repeat_n(b' ', 1 << 20));
        body
    };
    check("65536 is the most", move |_, request| request.contains("/manifests/1").then(endless));
    check("14 is the most", move |artifact, request| request.ends_with(&artifact.blobs[1].0.to_string()).then(endless));
    check("with 500", move |_, request| {
        let mut body = b"500 Oops\r\nconnection: close\r\n\r\n".to_vec();
        body.extend(std::iter::repeat_n(b'x', 1 << 20));
        request.contains("/manifests/1").then_some(body)
    });
    check("with 403: no\u{20}entry[31m; it may want a login", |_, request| {
        let said = br#"{"errors":[{"message":"no\nentry\u001b[31m"}]}"#;
        request.contains("/manifests/1").then(|| answer("403 Forbidden", "", said))
    });
}

#[test]
fn redirects_lead_to_files_and_nowhere_else() {
    let to = |url: &'static str| {
        move |_: &Artifact, request: &str| {
            let headers = format!("location: {url}\r\n");
            request.contains("/blobs/").then(|| answer("307 Temporary Redirect", &headers, b""))
        }
    };
    check("link-local address or a metadata service", to("http://169.254.169.254/latest/meta-data"));
    check("only http and https are", to("file:///etc/passwd"));
    check("holds a user name or password", to("http://a:b@127.0.0.1/"));
    check("5 redirects before it", to("/v2/mask/blobs/again"));
    // A store of blobs elsewhere is fine, and is told nothing of us.
    let (artifact, folder) = (plugin(), tempfile::tempdir().expect("a folder"));
    let store = {
        let artifact = plugin();
        Faulty::start(move |request, _| honest(&artifact, request))
    };
    let elsewhere = store.host.clone();
    let registry = Faulty::start(move |request, authorization| match (authorization, request.contains("/blobs/")) {
        (None, _) => answer("401 Unauthorized", "www-authenticate: Basic realm=\"x\"\r\n", b""),
        (Some(_), true) => {
            let target = format!("location: http://{elsewhere}{}\r\n", &request[4..]);
            answer("307 Temporary Redirect", &target, b"")
        }
        (Some(_), false) => honest(&artifact, request),
    });
    let login = folder.path().join("login");
    std::fs::write(&login, "me:secret\n").expect("written");
    pull_with(&format!("{}/mask:1", registry.host), Some(&login), None).expect("pulled");
    assert!(!store.asked().is_empty() && store.asked().iter().all(|(_, sent)| sent.is_none()), "{:?}", store.asked());
}

/// Signatures are a manifest too, and are asked for where somebody is trusted.
#[test]
fn signatures_are_read_with_a_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = SecretKey::generate(&folder.path().join("key.pem")).expect("a key");
    let artifact = plugin();
    let registry = Faulty::start(move |request, _| {
        let endless = || {
            let mut body = b"200 OK\r\nconnection: close\r\n\r\n".to_vec();
            body.extend(std::iter::repeat_n(b' ', 1 << 20));
            body
        };
        if request.contains(".outrigger") { endless() } else { honest(&artifact, request) }
    });
    let trust = Trust { keys: vec![key.public()], allow_unsigned: false };
    let error =
        pull_trusting(&format!("{}/mask:1", registry.host), None, None, &trust).expect_err("endless").to_string();
    assert!(error.contains("65536 is the most"), "{error}");
    assert_eq!(registry.asked().len(), 2, "nothing of the plugin was fetched: {:?}", registry.asked());
}

#[test]
fn a_layout_is_read_as_it_was_written_and_not_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mask.oci");
    let key = SecretKey::generate(&folder.path().join("key.pem")).expect("a key");
    let layout = Layout { artifact: plugin(), signatures: Signatures::default(), version: "1.4.0".to_owned() };
    layout.write(&path).expect("written");
    let mut layout = Layout::read(&path).expect("read");
    layout.signatures.sign(&layout.artifact.digest, &key).expect("room");
    layout.write(&path).expect("written over");
    let trust = Trust { keys: vec![key.public()], allow_unsigned: false };
    let pulled = Layout::read(&path).and_then(|layout| layout.pull(&path, &trust)).expect("signed");
    assert_eq!((pulled.signers, pulled.files.len()), (vec![key.public()], 2));
    let component = plugin().blobs[1].0.clone();
    std::fs::write(path.join("blobs/sha256").join(component.hexadecimal()), "other").expect("written");
    assert!(matches!(Layout::read(&path), Err(RegistryError::Digest { .. })));
    // What is there and is something else stays.
    let error =
        Layout { artifact: plugin(), signatures: Signatures::default(), version: String::new() }.write(folder.path());
    assert!(error.is_err() && path.exists());
}

#[test]
fn only_an_older_layout_of_the_same_plugin_is_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = |artifact: Artifact| Layout { artifact, signatures: Signatures::default(), version: "1".to_owned() };
    let there = |name: &str, artifact: Artifact| {
        let path = folder.path().join(name);
        layout(artifact).write(&path).expect("written");
        path
    };
    let check = |path: &Path, is_replaced: bool| {
        let index = |path: &Path| std::fs::read(path.join("index.json")).expect("an index");
        let before = index(path);
        let written = layout(named("mask", "1.5.0")).write(path);
        assert_eq!(written.is_ok(), is_replaced, "{}", path.display());
        assert_eq!(index(path) != before, is_replaced, "{}", path.display());
        let why = written.err().and_then(|error| Some(std::error::Error::source(&error)?.to_string()));
        assert!(is_replaced || why.as_ref().is_some_and(|why| why.contains("name another folder")), "{why:?}");
    };
    check(&there("older", plugin()), true);
    check(&there("other", named("redact", "1.4.0")), false);
    let with_more = there("with-more", plugin());
    std::fs::write(with_more.join("notes"), "mine").expect("written");
    check(&with_more, false);
    // As `skopeo copy` adds an image to a layout.
    let two = there("two", plugin());
    let index = std::fs::read_to_string(two.join("index.json")).expect("an index");
    let another =
        format!("\"manifests\":[{{\"mediaType\":\"x\",\"digest\":\"sha256:{}\",\"size\":1}},", "0".repeat(64));
    std::fs::write(two.join("index.json"), index.replacen("\"manifests\":[", &another, 1)).expect("written");
    check(&two, false);
}
