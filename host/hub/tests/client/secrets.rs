//! The token appears in no output whatever (R3), and goes nowhere in plain text.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hub::{Endpoint, Hub, HubConfig, HubError, Tokens};
use test_hub::{Fault, Match, TestHub};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::support::{
    ID, README, TOKEN, anonymous, builder, commit, config, everything, file, read, read_weights, repository, revision,
    tiny, tokens, with_token,
};

/// Everything that was logged, by us and by the layers below.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Listens at TRACE, to `tracing` and to `log`. Each test is a process of its own.
    fn start() -> Self {
        let log = Self::default();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
        subscriber.init();
        log
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

// R3
#[tokio::test]
async fn a_token_is_in_no_log_and_no_error_even_when_the_server_echoes_it() {
    let log = Log::start();
    let hub = TestHub::builder().repository(tiny()).token(TOKEN).tls().start();
    let ca_files = vec![hub.ca_file().to_owned()];
    let told = HubConfig { tokens: tokens(TOKEN), ca_files, ..config(&hub.url()) };
    let client = Hub::new(told.clone()).expect("a client");
    let mut shown = format!("{told:?} {client:?} {:?}", file(&client, &hub, README));

    client.resolve(&repository(ID), &revision("main")).await.expect("resolved");
    client.listing(&repository(ID), &commit(&hub, ID)).await.expect("listed");
    read_weights(&client, &hub).await.expect("whole");
    let readme = file(&client, &hub, README);
    let body = readme.read(0..7, 7).await.expect("a body");
    shown = format!("{shown} {body:?} {readme:?}");

    let echo = format!("Bearer {TOKEN}");
    let encoded = TOKEN.replace("canary", "c%61nary");
    let echoes = |fault: Fault| {
        fault.header("X-Error-Message", &echo).header("X-Request-Id", &echo).header("X-HF-Warning", &echo)
    };
    let to = |place: &str| Fault::new(Match::any()).redirect(302, &format!("{place}/{TOKEN}?{TOKEN}#{TOKEN}"));
    for fault in [
        echoes(Fault::new(Match::any()).status(401)),
        echoes(Fault::new(Match::any()).status(403).header("X-Error-Code", &echo)),
        echoes(Fault::new(Match::any()).status(404)),
        echoes(Fault::new(Match::any()).status(429)),
        echoes(Fault::new(Match::any()).status(500)),
        echoes(Fault::new(Match::any()).body("application/json", format!("{{\"error\":\"{TOKEN}\"}}"))),
        Fault::new(Match::any()).body("application/json", format!("[{{\"type\":\"{TOKEN}\",\"path\":\"{TOKEN}\"}}]")),
        Fault::new(Match::any())
            .body("application/json", format!("[{{\"type\":\"{TOKEN}\",\"path\":\"../{TOKEN}\"}}]")),
        Fault::new(Match::any()).body("application/json", format!("{{\"sha\":\"{TOKEN}\"}}")),
        Fault::new(Match::any()).body("application/json", format!("\"{TOKEN}\"")),
        Fault::new(Match::any()).header("Content-Encoding", TOKEN),
        Fault::new(Match::any()).header("Content-Range", TOKEN),
        Fault::new(Match::any()).next_page(&format!("https://elsewhere/{TOKEN}")),
        to("https://127.0.0.1:1"),
        Fault::new(Match::any()).redirect(302, &format!("https://127.0.0.1:1/{encoded}")),
        Fault::new(Match::any()).redirect(302, &format!("https://[{encoded}")),
        Fault::new(Match::any()).next_page(&format!("https://elsewhere/{encoded}")),
        to("http://127.0.0.1:1"),
        to("file:"),
        to("https://169.254.169.254"),
        to(&hub.url()),
        to(&format!("https://user:{TOKEN}@127.0.0.1")),
        Fault::new(Match::any()).redirect(302, &format!("https://[{TOKEN}")),
        Fault::new(Match::any()).redirect(302, &format!("https://{TOKEN}.invalid.")),
        Fault::new(Match::any()).raw(format!("{TOKEN} {TOKEN}\r\n\r\n")),
    ] {
        hub.clear_faults();
        hub.fault(fault);
        let mut errors = Vec::new();
        errors.extend(client.resolve(&repository(ID), &revision("main")).await.err());
        errors.extend(client.listing(&repository(ID), &commit(&hub, ID)).await.err());
        errors.extend(read_weights(&client, &hub).await.err());
        errors.extend(read(&file(&client, &hub, README), 0..7, 7).await.err());
        assert!(!errors.is_empty());
        for error in &errors {
            shown.push_str(&everything(error));
        }
    }

    let log = log.text();
    for layer in ["hub::http", "hyper_util"] {
        assert!(log.contains(layer), "nothing of {layer} was heard:\n{log:.2000}");
    }
    for (text, place) in [(&log, "log"), (&shown, "errors")] {
        for secret in [TOKEN, "canary", &encoded] {
            let line = text.lines().find(|line| line.to_ascii_lowercase().contains(&secret.to_ascii_lowercase()));
            assert_eq!(line, None, "in the {place}");
        }
        assert!(text.contains("(token)"), "the {place} shows that something was taken out");
    }
}

// R3, R25: an expired login is renewed in its file
#[tokio::test]
async fn a_token_that_was_rotated_is_used_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, "hf_expired\n").expect("written");
    let hub = builder().start();
    let told = HubConfig { tokens: Tokens::none().required_file(&path), ..config(&hub.url()) };
    let client = Hub::new(told).expect("a client");
    let error = client.resolve(&repository(ID), &revision("main")).await.expect_err("expired");
    let named = format!("does not accept the token from the file {} (401)", path.display());
    assert!(error.to_string().contains(&named) && error.to_string().contains("log in again"), "{error}");
    std::fs::write(&path, TOKEN).expect("written");
    client.resolve(&repository(ID), &revision("main")).await.expect("resolved");
    std::fs::remove_file(&path).expect("removed");
    let error = client.resolve(&repository(ID), &revision("main")).await.expect_err("no token");
    assert!(matches!(error, HubError::TokenFile { .. }) && !error.is_transient(), "{error:?}");
    assert_eq!(hub.requests().len(), 2, "nothing is asked without the token that must be there");
}

#[tokio::test]
async fn a_token_is_not_sent_in_plain_text() {
    // TEST-NET: nobody is there, and nobody is asked.
    for endpoint in ["http://hub.example", "http://192.0.2.1:8080/hf"] {
        let told = HubConfig { tokens: tokens(TOKEN), ..config(endpoint) };
        let client = Hub::new(told).expect("a client");
        let error = client.resolve(&repository(ID), &revision("main")).await.expect_err("plain text");
        let expected = format!(
            "the token from HF_TOKEN is not sent to {endpoint}: anyone on the way could read it; use https, or remove the token"
        );
        assert_eq!(error.to_string(), expected);
        assert!(!error.is_transient());
    }
    let hub = builder().start();
    let port = hub.url().rsplit_once(':').expect("a port").1.to_owned();
    let endpoint = Endpoint::parse(&format!("http://localhost:{port}")).expect("an endpoint");
    let client = Hub::new(HubConfig { endpoint, tokens: tokens(TOKEN), ..config(&hub.url()) }).expect("a client");
    client.resolve(&repository(ID), &revision("main")).await.expect("this machine");
}

// R8
#[tokio::test]
async fn without_a_token_no_header_is_sent() {
    let hub = builder().start();
    read_weights(&anonymous(&hub), &hub).await.expect("whole");
    read_weights(&with_token(&hub, "  "), &hub).await.expect("whole");
    assert!(hub.requests().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn what_the_hub_wants_people_to_know_is_logged_once() {
    let log = Log::start();
    let hub = builder().start();
    hub.fault(Fault::new(Match::hub("")).header("X-HF-Warning", "topic; upgrade\u{e9} soon"));
    let client = anonymous(&hub);
    for _ in 0..3 {
        client.resolve(&repository(ID), &revision("main")).await.expect("resolved");
    }
    let warned: Vec<_> = log.text().lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect();
    assert!(matches!(&warned[..], [one] if one.contains("the hub says: topic; upgradeé soon")), "{warned:?}");
}
