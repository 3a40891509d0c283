//! What a push sends, and what it leaves as it is.

use std::sync::{Arc, Mutex};

use registry::{Registries, RegistryError, SecretKey, Signatures};

use crate::faulty::{Faulty, answer};
use crate::{block_on, plugin};

/// What a registry has as a plugin's signatures, and how often that was written.
type Kept = Arc<Mutex<(Option<Vec<u8>>, usize)>>;

/// A registry that takes everything and keeps signatures, with these at first.
fn registry(signatures: Option<Vec<u8>>) -> Faulty {
    keeping(&Arc::new(Mutex::new((signatures, 0))), false, |_| {})
}

/// The same, with what somebody else does there. `heeds`: a write finds what its condition names, or is refused.
fn keeping(kept: &Kept, heeds: bool, meanwhile: impl Fn(&Kept) + Send + 'static) -> Faulty {
    let kept = Arc::clone(kept);
    Faulty::hear(move |heard| match heard.request.split_once(' ') {
        Some(("GET", path)) if path.ends_with(".outrigger") => {
            let (there, writes) = kept.lock().expect("no panic").clone();
            let reply = match &there {
                Some(manifest) => answer("200 OK", &format!("etag: \"{writes}\"\r\n"), manifest),
                None => answer("404 Not Found", "", b"{}"),
            };
            // Between the reading and the writing.
            meanwhile(&kept);
            reply
        }
        Some(("PUT", path)) if path.ends_with(".outrigger") => {
            let mut kept = kept.lock().expect("no panic");
            let tag = if kept.0.is_some() { format!("\"{}\"", kept.1) } else { "*".to_owned() };
            if heeds && heard.condition != Some(tag.as_str()) {
                return answer("412 Precondition Failed", "", b"{}");
            }
            *kept = (Some(heard.body.to_vec()), kept.1 + 1);
            answer("201 Created", "", b"")
        }
        Some(("HEAD", _)) => answer("404 Not Found", "", b""),
        Some(("POST", path)) => answer("202 Accepted", &format!("location: {path}1\r\n"), b""),
        _ => answer("201 Created", "", b""),
    })
}

/// What this key says of the plugin.
fn signed(key: &SecretKey) -> Signatures {
    let mut signatures = Signatures::default();
    signatures.sign(&plugin().digest, key).expect("room");
    signatures
}

fn keys() -> [SecretKey; 2] {
    let folder = tempfile::tempdir().expect("a folder");
    ["mine", "theirs"].map(|name| SecretKey::generate(&folder.path().join(name)).expect("a key"))
}

/// A manifest with the signature of a key, as its push writes it.
fn manifest_of(key: &SecretKey) -> Vec<u8> {
    let kept = Kept::default();
    push(&keeping(&kept, true, |_| {}), "1.4.0", &signed(key)).expect("pushed");
    let manifest = kept.lock().expect("no panic").0.clone();
    manifest.expect("signatures")
}

fn push(registry: &Faulty, version: &str, signatures: &Signatures) -> Result<usize, RegistryError> {
    let registries = Registries::new(&[], None, None).expect("a client");
    let reference = format!("{}/mask:{version}", registry.host).parse().expect("a reference");
    block_on(registries.push(&reference, &plugin(), signatures))
}

/// The names and values of a manifest's annotations.
fn annotations(manifest: &[u8]) -> serde_json::Map<String, serde_json::Value> {
    let manifest: serde_json::Value = serde_json::from_slice(manifest).expect("JSON");
    manifest["annotations"].as_object().expect("annotations").clone()
}

#[test]
fn signatures_of_others_stay() {
    let [mine, theirs] = keys();
    let there = manifest_of(&theirs);
    assert_eq!(annotations(&there).len(), 1);
    let kept = Arc::new(Mutex::new((Some(there.clone()), 1)));
    assert_eq!(push(&keeping(&kept, false, |_| {}), "1.4.0", &signed(&mine)).expect("pushed"), 2);
    let after = annotations(kept.lock().expect("no panic").0.as_ref().expect("signatures"));
    assert!(
        after.len() == 2 && annotations(&there).iter().all(|(name, value)| after.get(name) == Some(value)),
        "{after:?}"
    );
    // Nothing new is nothing to send.
    let third = registry(Some(there));
    assert_eq!(push(&third, "1.4.0", &Signatures::default()).expect("pushed"), 1);
    assert!(third.sent(".outrigger").is_some_and(|body| body.is_empty()), "it was read, and not written");
}

/// A registry that heeds conditions lets nobody write over what he has not read.
#[test]
fn who_was_slower_reads_again() {
    let [mine, theirs] = keys();
    for first in [None, Some(manifest_of(&mine))] {
        let by_them = manifest_of(&theirs);
        let kept = Arc::new(Mutex::new((first.clone(), 0)));
        let registry = keeping(&kept, true, move |kept| {
            let mut kept = kept.lock().expect("no panic");
            if kept.1 == 0 {
                *kept = (Some(by_them.clone()), 1);
            }
        });
        // Another of mine, which is not there yet.
        let [another, _] = keys();
        assert_eq!(push(&registry, "1.4.0", &signed(&another)).expect("pushed"), 2);
        let there = kept.lock().expect("no panic").clone();
        assert_eq!((annotations(&there.0.expect("signatures")).len(), there.1), (2, 2), "theirs, and ours beside it");
    }
}

#[test]
fn a_signature_that_was_taken_away_is_put_back_and_who_never_gets_through_is_told() {
    let [mine, theirs] = keys();
    let by_them = manifest_of(&theirs);
    for (times, is_through) in [(1, true), (usize::MAX, false)] {
        let (kept, by_them) = (Kept::default(), by_them.clone());
        let lost = Arc::new(Mutex::new(0));
        let (seen, counted) = (Arc::clone(&lost), Arc::clone(&kept));
        // A registry that heeds no condition, and somebody who writes right behind us.
        let registry = Faulty::hear(move |heard| match heard.request.split_once(' ') {
            Some(("GET", path)) if path.ends_with(".outrigger") => match &counted.lock().expect("no panic").0 {
                Some(manifest) => answer("200 OK", "", manifest),
                None => answer("404 Not Found", "", b"{}"),
            },
            Some(("PUT", path)) if path.ends_with(".outrigger") => {
                let mut seen = seen.lock().expect("no panic");
                let is_lost = *seen < times;
                *seen += 1;
                let body = if is_lost { by_them.clone() } else { heard.body.to_vec() };
                counted.lock().expect("no panic").0 = Some(body);
                answer("201 Created", "", b"")
            }
            Some(("HEAD", _)) => answer("200 OK", "", b""),
            _ => answer("201 Created", "", b""),
        });
        let pushed = push(&registry, "1.4.0", &signed(&mine));
        let asked = registry.asked();
        let is_named = asked.iter().any(|(request, _)| request.ends_with("PUT /v2/mask/manifests/1.4.0"));
        match pushed {
            Ok(count) => assert!(is_through && count == 2 && is_named),
            Err(RegistryError::Contended { attempts: 5, .. }) => {
                assert!(!is_through && !is_named && *lost.lock().expect("no panic") == 5);
            }
            Err(error) => panic!("{error}"),
        }
    }
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
