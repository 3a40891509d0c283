//! What a push sends, and what it leaves as it is.

use registry::{Registries, RegistryError, SecretKey, Signatures};

use crate::faulty::{Faulty, answer};
use crate::{block_on, plugin};

/// A registry that takes everything, and has these signatures.
fn registry(signatures: Option<Vec<u8>>) -> Faulty {
    Faulty::start(move |request, _| match request.split_once(' ') {
        Some(("GET", path)) if path.ends_with(".outrigger") => match &signatures {
            Some(manifest) => answer("200 OK", "", manifest),
            None => answer("404 Not Found", "", b"{}"),
        },
        Some(("HEAD", _)) => answer("404 Not Found", "", b""),
        Some(("POST", path)) => answer("202 Accepted", &format!("location: {path}1\r\n"), b""),
        _ => answer("201 Created", "", b""),
    })
}

fn push(registry: &Faulty, version: &str, signatures: &Signatures) -> Result<usize, RegistryError> {
    let registries = Registries::new(&[], None, None).expect("a client");
    let reference = format!("{}/mask:{version}", registry.host).parse().expect("a reference");
    block_on(registries.push(&reference, &plugin(), signatures))
}

/// The names and values of the annotations of the signatures that were sent.
fn annotations(registry: &Faulty) -> Option<serde_json::Map<String, serde_json::Value>> {
    let manifest: serde_json::Value = serde_json::from_slice(&registry.sent(".outrigger")?).ok()?;
    manifest["annotations"].as_object().cloned()
}

#[test]
fn signatures_of_others_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let [mine, theirs] = ["mine", "theirs"].map(|name| SecretKey::generate(&folder.path().join(name)).expect("a key"));
    let digest = plugin().digest;
    let signed = |key: &SecretKey| {
        let mut signatures = Signatures::default();
        signatures.sign(&digest, key).expect("room");
        signatures
    };
    // Theirs, as they pushed them.
    let first = registry(None);
    assert_eq!(push(&first, "1.4.0", &signed(&theirs)).expect("pushed"), 1);
    let there = first.sent(".outrigger").expect("signatures");
    assert_eq!(annotations(&first).expect("one").len(), 1);

    let second = registry(Some(there.clone()));
    assert_eq!(push(&second, "1.4.0", &signed(&mine)).expect("pushed"), 2);
    let (before, after) = (annotations(&first).expect("one"), annotations(&second).expect("two"));
    assert!(after.len() == 2 && before.iter().all(|(name, value)| after.get(name) == Some(value)), "{after:?}");
    // Nothing new is nothing to send.
    let third = registry(Some(there));
    assert_eq!(push(&third, "1.4.0", &Signatures::default()).expect("pushed"), 1);
    assert!(third.sent(".outrigger").is_some_and(|body| body.is_empty()), "it was read, and not written");
}

#[test]
fn a_digest_beside_a_tag_says_what_is_sent_and_the_tag_is_set() {
    let registry = registry(None);
    let digest = plugin().digest;
    push(&registry, &format!("1.4.0@{digest}"), &Signatures::default()).expect("pushed");
    let put: Vec<_> =
        registry.asked().into_iter().filter(|(request, _)| request.contains("PUT /v2/mask/manifests/")).collect();
    assert_eq!(put.last().map(|(request, _)| request.as_str()), Some("PUT /v2/mask/manifests/1.4.0"));
    let other = format!("1.4.0@sha256:{}", "0".repeat(64));
    assert!(matches!(push(&registry, &other, &Signatures::default()), Err(RegistryError::Digest { .. })));
}
