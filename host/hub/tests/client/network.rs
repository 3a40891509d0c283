//! Connections: those that do not come about, TLS, and proxies.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use hub::{Hub, HubConfig, HubError, Obstacle, Timeouts};
use model::Commit;
use test_hub::{Origin, TestHub};

use crate::support::{ID, TOKEN, WEIGHTS_BYTES, config, read_weights, repository, revision, tiny, tokens, weights};

async fn obstacle(config: HubConfig) -> (Obstacle, HubError) {
    let client = Hub::new(config).expect("a client");
    let error = client.resolve(&repository(ID), &revision("main")).await.expect_err("unreachable");
    let HubError::Unreachable { obstacle, .. } = &error else { panic!("{error:?}") };
    (*obstacle, error)
}

/// A server that answers each connection with these bytes and closes it.
fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().take(20).flatten() {
            answer(stream, bytes);
        }
    });
    address.to_string()
}

fn answer(mut stream: TcpStream, bytes: &[u8]) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(bytes);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told() {
    // The discard port. One that was just given up may be another test's a moment later.
    let address = "127.0.0.1:9";
    let (obstacle, error) = obstacle(config(&format!("http://{address}"))).await;
    assert_eq!(obstacle, Obstacle::ConnectionRefused);
    assert!(error.is_transient());
    let expected = format!(
        "cannot reach http://{address} for acme/tiny@main: the connection was refused; check the port in the hub's \
         address, and that the hub runs"
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_name_without_an_address_is_told() {
    let (obstacle, error) = obstacle(config("https://hub.invalid")).await;
    assert_eq!(obstacle, Obstacle::Name, "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn an_authority_is_trusted_when_it_is_named() {
    let hub = TestHub::builder().repository(tiny()).token(TOKEN).tls().start();
    let (obstacle, error) = obstacle(config(&hub.url())).await;
    assert_eq!(obstacle, Obstacle::Certificate, "{error:?}");
    assert!(!error.is_transient());
    assert!(error.to_string().contains("name that authority's PEM file"), "{error}");
    assert!(hub.requests().is_empty());
    let trusting = HubConfig { ca_files: vec![hub.ca_file().to_owned()], tokens: tokens(TOKEN), ..config(&hub.url()) };
    let client = Hub::new(trusting).expect("a client");
    assert_eq!(read_weights(&client, &hub).await.expect("whole"), weights().bytes(0..WEIGHTS_BYTES));
    assert_eq!(hub.requests_to(Origin::Cdn).len(), 1);
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_told() {
    let plain = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let (obstacle, error) = obstacle(config(&format!("https://{plain}"))).await;
    assert_eq!(obstacle, Obstacle::Tls, "{error:?}");
}

#[tokio::test]
async fn a_handshake_without_end_is_a_slow_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let timeouts = Timeouts { connect: Duration::from_millis(200), ..config("http://localhost").timeouts };
    let (obstacle, error) = obstacle(HubConfig { timeouts, ..config(&format!("https://{address}")) }).await;
    assert_eq!(obstacle, Obstacle::Slow, "{error:?}");
    assert!(error.is_transient());
}

/// What the child of the next tests does: they need another environment, and a process has one.
const CHILD: &str = "OUTRIGGER_TEST_ENDPOINT";

/// Asks `endpoint` in a process with these variables, and returns what it said.
fn asked_with(endpoint: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "network::a_child_asks_the_hub", "--nocapture"]).env(CHILD, endpoint);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let output = command.envs(variables.iter().copied()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().find_map(|line| line.split_once("CHILD: "));
    said.unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr))).1.to_owned()
}

#[tokio::test]
async fn a_child_asks_the_hub() {
    let Ok(endpoint) = std::env::var(CHILD) else { return };
    let client = Hub::new(config(&endpoint)).expect("a client");
    let said = match client.resolve(&repository(ID), &revision("main")).await {
        Ok(resolved) => resolved.commit.to_string(),
        Err(error) => error.to_string(),
    };
    // On a line of its own, whatever the harness wrote before.
    println!("\nCHILD: {said}");
}

#[test]
fn a_proxy_of_the_environment_is_used_but_not_for_this_machine() {
    let hub = TestHub::builder().repository(tiny()).start();
    let commit = hub.commit(ID, "main");
    // The test hub does not know the name, and never sees it resolved: a proxy is told the whole address.
    let proxy = answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"sha\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
    );
    let proxy = format!("http://{proxy}");
    let said = asked_with("http://hub.invalid", &[("http_proxy", &proxy)]);
    assert!(Commit::parse(&said).is_some_and(|it| it.as_str().starts_with("aaaa")), "{said}");
    let said = asked_with("http://hub.invalid", &[("http_proxy", &proxy), ("no_proxy", "hub.invalid")]);
    assert!(said.contains("its name does not resolve") && !said.contains("through"), "{said}");
    assert_eq!(
        asked_with(&hub.url(), &[("http_proxy", &proxy), ("https_proxy", &proxy), ("all_proxy", &proxy)]),
        commit
    );
}

#[test]
fn a_proxy_that_refuses_is_told_from_the_hub() {
    let check = |proxy: &str, why: &str| {
        let said = asked_with("https://hub.invalid", &[("https_proxy", &proxy.replace("//", "//me:s3cret@"))]);
        let expected = format!(
            "cannot reach https://hub.invalid for acme/tiny@main through the proxy {proxy} that https_proxy names: {why}"
        );
        assert_eq!(said, expected);
    };
    let refusing =
        format!("http://{}", answering(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"));
    check(&refusing, "the proxy asks for a login; write it there as http://user:password@proxy:port");
    let failing = format!("http://{}", answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"));
    let why = "the proxy did not connect; check that it may reach the hub, or name the hub in NO_PROXY";
    check(&failing, why);
    let why =
        "the proxy cannot be reached; check its address there, that it runs, and whether NO_PROXY should name the hub";
    check("http://127.0.0.1:9", why);
    check("http://proxy.invalid:3128", why);
}

#[test]
fn a_system_without_authorities_still_has_a_client() {
    let hub = TestHub::builder().repository(tiny()).start();
    let said = asked_with(&hub.url(), &[("SSL_CERT_FILE", "/no/such/file"), ("SSL_CERT_DIR", "/no/such/folder")]);
    assert_eq!(said, hub.commit(ID, "main"));
}
