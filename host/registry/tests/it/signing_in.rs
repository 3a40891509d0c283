//! Who is told the login and the tokens, and how often.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::faulty::{Faulty, answer};
use crate::{honest, plugin, pull_with};

fn login() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let login = folder.path().join("login");
    std::fs::write(&login, "me:secret\n").expect("written");
    (folder, login)
}

#[test]
fn a_login_goes_to_the_registry_and_to_the_token_server_that_was_named() {
    let (_folder, login) = login();
    let tokens = Faulty::start(|_, _| answer("200 OK", "", br#"{"token": "t0ken"}"#));
    let (artifact, realm) = (plugin(), tokens.host.clone());
    let registry = Faulty::start(move |request, authorization| {
        let challenge = format!("www-authenticate: Bearer realm=\"http://{realm}/token\",service=\"r\"\r\n");
        match authorization {
            Some("Bearer t0ken") => honest(&artifact, request),
            _ => answer("401 Unauthorized", &challenge, b""),
        }
    });
    let reference = format!("{}/mask:1", registry.host);
    let error = pull_with(&reference, Some(&login), None).expect_err("refused").to_string();
    let server = format!("http://{}", tokens.host);
    assert!(error.contains(&format!("--token-server {server}")) && tokens.asked().is_empty(), "{error}");
    // Without a login a token is asked for, as of any public registry.
    pull_with(&reference, None, None).expect("pulled");
    pull_with(&reference, Some(&login), Some(&server)).expect("pulled");
    let asked: Vec<_> = tokens.asked();
    let query = "GET /token?service=r&scope=repository%3Amask%3Apull";
    assert_eq!(asked[0], (query.to_owned(), None));
    assert_eq!(asked[1], (query.to_owned(), Some("Basic bWU6c2VjcmV0".to_owned())));
    assert!(registry.asked().iter().all(|(_, sent)| sent.as_deref().is_none_or(|sent| sent == "Bearer t0ken")));
    // Somebody who only wants to be told.
    let thief = Faulty::start(|_, _| answer("401 Unauthorized", "www-authenticate: Basic realm=\"x\"\r\n", b""));
    let error = pull_with(&format!("{}/mask:1", thief.host), None, None).expect_err("refused").to_string();
    assert!(error.contains("401") && error.contains("--login"), "{error}");
    let inner = Faulty::start(|_, _| {
        answer("401 Unauthorized", "www-authenticate: Bearer realm=\"http://169.254.169.254/\"\r\n", b"")
    });
    let error = pull_with(&format!("{}/mask:1", inner.host), None, None).expect_err("refused").to_string();
    assert!(error.contains("metadata service"), "{error}");
}

/// Tokens last some minutes, a component over a slow line takes longer.
#[test]
fn a_token_that_runs_out_on_the_way_is_renewed() {
    let given = AtomicUsize::new(0);
    let tokens = Faulty::start(move |_, _| {
        let token = format!("{{\"token\": \"t{}\"}}", given.fetch_add(1, Ordering::Relaxed));
        answer("200 OK", "", token.as_bytes())
    });
    let (artifact, realm) = (plugin(), tokens.host.clone());
    let answered = AtomicUsize::new(0);
    let registry = Faulty::start(move |request, authorization| {
        let challenge = format!("www-authenticate: Bearer realm=\"http://{realm}/token\",service=\"r\"\r\n");
        // Each token is good for one answer.
        if authorization == Some(&format!("Bearer t{}", answered.load(Ordering::Relaxed))) {
            answered.fetch_add(1, Ordering::Relaxed);
            honest(&artifact, request)
        } else {
            answer("401 Unauthorized", &challenge, b"")
        }
    });
    pull_with(&format!("{}/mask:1", registry.host), None, None).expect("pulled");
    assert_eq!((tokens.asked().len(), registry.asked().len()), (3, 6), "manifest and two files");
}

#[test]
fn a_second_401_is_an_answer() {
    let (_folder, login) = login();
    let registry = Faulty::start(|_, _| answer("401 Unauthorized", "www-authenticate: Basic realm=\"x\"\r\n", b""));
    let error = pull_with(&format!("{}/mask:1", registry.host), Some(&login), None).expect_err("refused").to_string();
    assert!(error.contains("with 401"), "{error}");
    let sent: Vec<_> = registry.asked().into_iter().map(|(_, sent)| sent).collect();
    assert_eq!(sent, [None, Some("Basic bWU6c2VjcmV0".to_owned())]);
}

#[test]
fn a_redirect_that_leaves_and_comes_back_brings_no_login() {
    let (_folder, login) = login();
    // The store of blobs points back home.
    let (artifact, home) = (plugin(), std::sync::Arc::new(std::sync::OnceLock::<String>::new()));
    let back = std::sync::Arc::clone(&home);
    let store = Faulty::start(move |request, _| {
        let path = request[4..].replace("/elsewhere/", "/back/");
        let target = format!("location: http://{}{path}\r\n", back.get().expect("known by now"));
        answer("307 Temporary Redirect", &target, b"")
    });
    let elsewhere = store.host.clone();
    let registry = Faulty::start(move |request, authorization| match (authorization, request) {
        (_, request) if request.contains("/back/") => honest(&artifact, request),
        (None, _) => answer("401 Unauthorized", "www-authenticate: Basic realm=\"x\"\r\n", b""),
        (Some(_), request) if request.contains("/blobs/") => {
            let path = request[4..].replace("/blobs/", "/elsewhere/");
            answer("307 Temporary Redirect", &format!("location: http://{elsewhere}{path}\r\n"), b"")
        }
        (Some(_), request) => honest(&artifact, request),
    });
    home.set(registry.host.clone()).expect("once");
    pull_with(&format!("{}/mask:1", registry.host), Some(&login), None).expect("pulled");
    let back: Vec<_> = registry.asked().into_iter().filter(|(request, _)| request.contains("/back/")).collect();
    assert!(back.len() == 2 && back.iter().all(|(_, sent)| sent.is_none()), "{back:?}");
}
