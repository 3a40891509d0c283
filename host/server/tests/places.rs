//! Where clients come in: several addresses, one for probes alone, and Unix sockets.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use inference::Progress;
use server::{Access, Listener, SocketConfig, SocketError};
use support::fakes::Act;
use support::{Reply, STREAMED, Server, Setup, WHOLE, chat};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UnixStream};

async fn port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a loopback port")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// A server with an address for probes beside the other one.
async fn with_probes(setup: Setup) -> (Server, std::net::SocketAddr) {
    let probes = port().await;
    let address = probes.local_addr().expect("a bound address");
    let server = setup.start_beside(vec![Listener::from(probes).for_probes()]).await;
    (server, address)
}

async fn ask(address: std::net::SocketAddr, request: &str) -> Reply {
    let mut client = TcpStream::connect(address).await.expect("the server listens");
    client.write_all(request.as_bytes()).await.expect("the server reads");
    Reply::read(&mut client).await
}

#[tokio::test]
async fn an_address_for_probes_answers_probes_and_metrics_and_nothing_else() {
    let setup = Setup::default();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys");
    std::fs::write(&path, "0123456789abcdef").expect("written");
    let keys = server::Keys::read(&path).expect("keys");
    setup.http.access.replace(Access { keys: Some(keys), ..Access::default() });
    let (server, probes) = with_probes(setup).await;
    let here = ["/livez", "/startupz", "/readyz", "/readyz?verbose", "/health", "/v1/ready", "/metrics"];
    for path in here {
        assert_eq!(ask(probes, &get(path)).await.status, 200, "{path}");
    }
    // The router's own list, so that a new path has to be thought about.
    for (path, _) in server::routes().filter(|(path, _)| !here.contains(path)) {
        let path = path.replace("{*id}", "x");
        let reply = ask(probes, &get(&path)).await;
        assert_eq!((reply.status, reply.error().0.as_str()), (404, "not_found"), "{path}");
        assert!(reply.error().1.contains("for probes and /metrics alone"), "{}", reply.body);
    }
    assert_eq!(ask(probes, &chat(WHOLE)).await.status, 404);
    assert_eq!(ask(probes, &get("/livez").replace("GET", "POST")).await.status, 405);
    assert_eq!(ask(probes, &get("/livez").replace("localhost", "evil.example")).await.status, 403);
    // With keys the API's own address does not give figures away.
    assert_eq!((server.get("/metrics").await.status, server.get("/readyz").await.status), (401, 200));
}

#[tokio::test]
async fn probes_get_in_where_clients_take_all_places() {
    let mut setup = Setup::plays(vec![Act::Hang]);
    setup.http.connections_max = 1;
    let (server, probes) = with_probes(setup).await;
    let _busy = server.begin(&chat(WHOLE)).await;
    server.until_running(1).await;
    assert_eq!(ask(probes, &get("/livez")).await.status, 200);
}

#[tokio::test]
async fn a_failure_s_reason_stays_off_the_address_for_probes() {
    let (server, probes) = with_probes(Setup { is_ready: false, ..Setup::default() }).await;
    assert_eq!(ask(probes, &get("/startupz")).await.status, 503);
    server.service.failed("no file /home/me/secret-project.gguf");
    for path in ["/readyz", "/startupz"] {
        let shown = ask(probes, &get(path)).await;
        assert_eq!((shown.status, shown.body.as_str()), (503, r#"{"status":"failed","reason":"the log says why"}"#));
    }
    assert!(server.get("/readyz").await.body.contains("secret-project"), "who is on this machine may know");
}

#[tokio::test]
async fn it_has_started_once_and_for_all() {
    let server = Setup { is_ready: false, ..Setup::default() }.start().await;
    let loading = server.get("/startupz").await;
    assert_eq!((loading.status, loading.body.as_str()), (503, r#"{"status":"loading","reason":"starting"}"#));
    assert_eq!(server.get("/livez").await.body, r#"{"status":"ok","engine":"none"}"#);
    server.make_ready();
    assert_eq!(server.get("/startupz").await.status, 200);
    server.service.drain();
    assert_eq!((server.get("/startupz").await.status, server.get("/readyz").await.status), (200, 503));
    let on_use = Setup { is_ready: false, ..Setup::default() }.start().await;
    on_use.service.on_first_use();
    assert_eq!(on_use.get("/startupz").await.status, 200);
}

#[tokio::test]
async fn livez_follows_the_engine() {
    let mut setup = Setup::default();
    setup.service.stall_max = Duration::from_mins(5);
    let server = setup.start().await;
    let check = async |progress: Progress, status: u16, engine: &str| {
        *server.engine.progress.lock().expect("no test panicked") = progress;
        let reply = server.get("/livez").await;
        assert_eq!((reply.status, reply.json()["engine"].as_str()), (status, Some(engine)), "{progress:?}");
        reply.json()["reason"].as_str().unwrap_or_default().to_owned()
    };
    let working = |seconds| Progress::Working { since_step: Duration::from_secs(seconds) };
    check(Progress::Idle, 200, "idle").await;
    check(working(299), 200, "working").await;
    let reason = check(working(300), 503, "stalled").await;
    assert!(reason.contains("for 300 s"), "{reason}");
    // A step that was slow beyond all expectation, and ended.
    check(working(0), 200, "working").await;
    check(Progress::Stopped, 503, "stopped").await;
}

fn socket(folder: &TempDir, uids: &[u32]) -> SocketConfig {
    SocketConfig {
        path: folder.path().join("api.sock"),
        mode: 0o600,
        uids: uids.iter().copied().collect::<BTreeSet<_>>(),
    }
}

fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").expect("a process").uid()
}

async fn ask_socket(config: &SocketConfig, request: &str) -> Reply {
    let mut client = UnixStream::connect(&config.path).await.expect("the server listens");
    client.write_all(request.as_bytes()).await.expect("the server reads");
    Reply::read(&mut client).await
}

#[tokio::test]
async fn a_unix_socket_answers_who_may_come() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = socket(&folder, &[own_uid()]);
    let setup = Setup::default();
    let path = folder.path().join("keys");
    std::fs::write(&path, "0123456789abcdef").expect("written");
    let keys = server::Keys::read(&path).expect("keys");
    setup.http.access.replace(Access { keys: Some(keys), ..Access::default() });
    let mut server = setup.start_beside(vec![Listener::unix(&config).expect("a socket")]).await;
    // Whoever the system says it is needs no key; and there is no name that could be rebound.
    for request in [chat(WHOLE), chat(STREAMED), chat(WHOLE).replace("localhost", "whatever.example")] {
        let reply = ask_socket(&config, &request).await;
        assert_eq!((reply.status, reply.is_whole), (200, true), "{}", reply.body);
    }
    assert_eq!(server.chat(WHOLE).await.status, 401);
    assert_eq!(ask_socket(&config, &chat(WHOLE).replace("Host: localhost\r\n", "")).await.status, 400);
    let page = chat(WHOLE).replace("\r\n\r\n", "\r\nOrigin: http://evil.example\r\n\r\n");
    assert_eq!(ask_socket(&config, &page).await.status, 403);
    // Nobody else takes its place while it is used, and it is gone when it is not.
    assert!(matches!(Listener::unix(&config), Err(SocketError::InUse { .. })));
    server.begin_drain();
    server.drained().await;
    assert!(!config.path.exists());
}

#[tokio::test]
async fn another_user_s_connection_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = socket(&folder, &[own_uid() + 1]);
    let server = Setup::default().start_beside(vec![Listener::unix(&config).expect("a socket")]).await;
    let mut client = UnixStream::connect(&config.path).await.expect("the mode lets it");
    let _written = client.write_all(chat(WHOLE).as_bytes()).await;
    let mut received = Vec::new();
    let _ended = tokio::io::AsyncReadExt::read_to_end(&mut client, &mut received).await;
    assert!(received.is_empty());
    assert_eq!(server.engine.taken.lock().expect("no test panicked").len(), 0);
}

#[tokio::test]
async fn who_leaves_a_unix_socket_frees_the_slot() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = socket(&folder, &[own_uid()]);
    let setup = Setup::plays(vec![Act::Hang]);
    let server = setup.start_beside(vec![Listener::unix(&config).expect("a socket")]).await;
    let mut client = UnixStream::connect(&config.path).await.expect("the server listens");
    client.write_all(chat(WHOLE).as_bytes()).await.expect("the server reads");
    server.until_running(1).await;
    drop(client);
    server.until_idle().await;
}
