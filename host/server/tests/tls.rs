//! TLS: who trusts whom, what is replaced while it runs, and what a handshake may cost.

#[path = "support/authority.rs"]
mod authority;
mod support;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authority::{Authority, Pair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use server::{Listener, Replaceable, TlsFiles, TlsSettings};
use support::fakes::{Act, says};
use support::{Reply, STREAMED, Server, Setup, WHOLE, chat};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

struct House {
    folder: TempDir,
    authority: Authority,
    files: TlsFiles,
}

impl House {
    fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new());
        let (certificates, key) = authority.issue(&["localhost"]).write(folder.path(), "server");
        Self { folder, authority, files: TlsFiles { certificates, key, client_authorities: None } }
    }

    /// Clients need a certificate of this authority.
    fn mutual(mut self, authority: &Authority) -> Self {
        self.files.client_authorities = Some(authority.write(self.folder.path(), "clients.pem"));
        self
    }

    fn load(&self) -> TlsSettings {
        self.files.load().expect("TLS")
    }

    async fn serve(&self, setup: Setup) -> (Server, Replaceable<TlsSettings>) {
        let tls = Replaceable::new(self.load());
        let server = setup.start_on(|listener| Listener::from(listener).with_tls(tls.clone())).await;
        (server, tls)
    }

    fn client(&self, certificate: Option<&Pair>) -> TlsConnector {
        let ca = self.authority.write(self.folder.path(), "ca.pem");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(Pair { certificate, key }) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

async fn connect(server: &Server, client: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    client.connect(ServerName::try_from("localhost").expect("a name"), server.connect().await).await
}

/// A refused client certificate is learnt of with the first read in TLS 1.3.
async fn ask(server: &Server, client: &TlsConnector, request: &str) -> io::Result<Reply> {
    let mut stream = connect(server, client).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut received = String::new();
    let read = stream.read_to_string(&mut received).await;
    if received.is_empty() {
        read?;
    }
    Ok(Reply::parse(&received))
}

#[tokio::test]
async fn answers_are_the_same_behind_tls() {
    let house = House::new();
    let (server, _) = house.serve(Setup::default()).await;
    let client = house.client(None);
    let reply = ask(&server, &client, &chat(WHOLE)).await.expect("an answer");
    assert_eq!((reply.status, reply.json()["choices"][0]["message"]["content"].as_str()), (200, Some("Hello world.")));
    let reply = ask(&server, &client, &chat(STREAMED)).await.expect("an answer");
    assert!(reply.is_whole && reply.body.ends_with("data: [DONE]\n\n"), "{reply:?}");
    // A large body, refused before its end, and its answer still arrives.
    let request = chat("").replace("Content-Length: 0", "Content-Length: 4194305");
    assert_eq!(ask(&server, &client, &request).await.expect("an answer").status, 413);
    // Who does not speak TLS is no client.
    let mut plain = server.begin(&chat(WHOLE)).await;
    let mut received = Vec::new();
    let _ended = plain.read_to_end(&mut received).await;
    assert!(!received.starts_with(b"HTTP"), "{received:?}");
    // Who does not know our authority is none either.
    assert!(ask(&server, &House::new().client(None), &chat(WHOLE)).await.is_err());
}

#[tokio::test]
async fn clients_may_need_a_certificate() {
    let clients = Authority::new();
    let house = House::new().mutual(&clients);
    let (server, _) = house.serve(Setup::default()).await;
    let status =
        async |pair: Option<&Pair>| ask(&server, &house.client(pair), &chat(WHOLE)).await.map(|reply| reply.status);
    assert_eq!(status(Some(&clients.issue(&["app-1"]))).await.expect("an answer"), 200);
    assert!(status(None).await.is_err());
    assert!(status(Some(&Authority::new().issue(&["app-1"]))).await.is_err());
    assert_eq!(server.engine.taken.lock().expect("no test panicked").len(), 1);
}

#[tokio::test]
async fn a_certificate_is_replaced_and_connections_go_on() {
    let (house, other) = (House::new(), House::new());
    let script =
        [vec![Act::Piece("Hello".to_owned()), Act::Wait(Duration::from_millis(200))], says(&[" there"])].concat();
    let (server, tls) = house.serve(Setup::plays(script)).await;
    let mut open = connect(&server, &house.client(None)).await.expect("a handshake");
    open.write_all(chat(STREAMED).as_bytes()).await.expect("the server reads");
    server.until_running(1).await;
    tls.replace(other.load());
    // Who comes now meets the new certificate, and what is under way ends as it began.
    let reply =
        ask(&server, &other.client(None), "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!(reply.expect("an answer").status, 200);
    assert!(connect(&server, &house.client(None)).await.is_err());
    let mut received = String::new();
    open.read_to_string(&mut received).await.expect("a proper end");
    assert!(received.contains("there") && received.contains("[DONE]"), "{received}");
}

#[tokio::test]
async fn a_handshake_has_a_time_and_takes_a_place() {
    let house = House::new();
    let mut setup = Setup::default();
    setup.http.handshake_timeout = Duration::from_millis(200);
    setup.http.head_timeout = Duration::from_mins(1);
    setup.http.connections_max = 1;
    let (server, _) = house.serve(setup).await;
    // One that never says anything, and one that stops in the middle of its greeting.
    for greeting in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut client = server.connect().await;
        client.write_all(greeting).await.expect("the server reads");
        let mut received = Vec::new();
        let _ended = client.read_to_end(&mut received).await;
    }
    // Each had the one place, and gave it back.
    let reply = ask(&server, &house.client(None), &chat(WHOLE)).await.expect("an answer");
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn who_leaves_behind_tls_frees_the_slot() {
    let house = House::new();
    for close in [true, false] {
        let (server, _) = house.serve(Setup::plays(vec![Act::Hang])).await;
        let mut client = connect(&server, &house.client(None)).await.expect("a handshake");
        client.write_all(chat(WHOLE).as_bytes()).await.expect("the server reads");
        server.until_running(1).await;
        if close {
            client.shutdown().await.expect("the server reads");
        }
        drop(client);
        server.until_idle().await;
    }
}

#[test]
fn files_that_are_no_certificate_are_named() {
    let house = House::new();
    let refusal = |files: TlsFiles| {
        let error = files.load().expect_err("no TLS");
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}").replace(&house.folder.path().display().to_string(), "")
    };
    let write = |name: &str, text: &str| {
        let path = house.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let certificates = |path: &Path| TlsFiles { certificates: path.to_owned(), ..house.files.clone() };
    let key = |path: &Path| TlsFiles { key: path.to_owned(), ..house.files.clone() };
    assert!(refusal(certificates(Path::new("/no/such.pem"))).starts_with("failed to read /no/such.pem"));
    assert!(refusal(certificates(&house.files.key)).contains("/server.key: it holds no certificate"));
    assert!(refusal(key(&house.files.certificates)).contains("/server.pem: it holds no private key"));
    let damaged = "-----BEGIN PRIVATE KEY-----\nsecret!!\n-----END PRIVATE KEY-----\n";
    let shown = refusal(key(&write("damaged.key", damaged)));
    assert!(shown.contains("the key is damaged") && !shown.contains("secret"), "{shown}");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert!(refusal(key(&write("encrypted.key", encrypted))).contains("without a passphrase"));
    let (_, other_key) = house.authority.issue(&["localhost"]).write(house.folder.path(), "other");
    let shown = refusal(key(&other_key));
    assert!(shown.contains("/server.pem with the key in /other.key"), "{shown}");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let authorities = TlsFiles { client_authorities: Some(write("ca.pem", broken)), ..house.files.clone() };
    assert!(refusal(authorities).contains("certificate 1 cannot be an authority"));
}
