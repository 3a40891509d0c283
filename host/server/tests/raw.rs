//! What is almost HTTP, or almost JSON: one answer at most, the right one, and nothing behind it is taken for a request.

mod support;

use support::fakes::Act;
use support::{Reply, Server, Setup, WHOLE, chat, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Sends bytes and reads until the server closes.
async fn send(server: &Server, bytes: &[u8]) -> String {
    let mut client = server.connect().await;
    client.write_all(bytes).await.expect("the server reads");
    let mut received = Vec::new();
    let _ended = client.read_to_end(&mut received).await;
    String::from_utf8(received).expect("the server speaks UTF-8")
}

fn statuses(received: &str) -> Vec<&str> {
    received.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)).collect()
}

/// A request whose end two readers could see in different places. What follows is a request to one of them.
#[tokio::test]
async fn nothing_is_smuggled_behind_two_lengths() {
    let server = Setup::default().start().await;
    let behind = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let request = |lengths: &str, body: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lengths}\r\n{body}"
        )
    };
    let chunked = format!("{:x}\r\n{WHOLE}\r\n0\r\n\r\n", WHOLE.len());
    let all = chunked.len() + behind.len();
    for lengths in [
        format!("Content-Length: {all}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {all}\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {all}\r\nContent-Length: 1\r\n"),
    ] {
        // RFC 9112, 6.3: the chunks count, and the connection ends with the answer.
        let received = send(&server, format!("{}{behind}", request(&lengths, &chunked)).as_bytes()).await;
        assert_eq!(statuses(&received), ["200"], "{lengths}{received}");
    }
    for lengths in [
        format!("Content-Length: {}\r\nContent-Length: {all}\r\n", WHOLE.len()),
        format!("Content-Length: {}, {all}\r\n", WHOLE.len()),
        format!("Content-Length: +{}\r\n", WHOLE.len()),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: 99999999999999999999\r\n".to_owned(),
        "Transfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding: chunked, gzip\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
    ] {
        let received = send(&server, format!("{}{behind}", request(&lengths, WHOLE)).as_bytes()).await;
        assert_eq!(statuses(&received), ["400"], "{lengths}{received}");
    }
    for body in [
        "-1\r\nx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx",
        "g\r\nx\r\n0\r\n\r\n",
        "1 1\r\nx\r\n0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
    ] {
        let received =
            send(&server, format!("{}{behind}", request("Transfer-Encoding: chunked\r\n", body)).as_bytes()).await;
        assert_eq!(statuses(&received), ["400"], "{body}{received}");
    }
    assert_eq!(server.engine.taken.lock().expect("no test panicked").len(), 3);
}

#[tokio::test]
async fn a_head_that_is_none_is_refused() {
    let server = Setup::default().start().await;
    for head in [
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: a\r\n b\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "GET /livez HTTP/1.1\r\n Host: localhost\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: a\0b\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: a\x01b\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: a\x7fb\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: a\rHost: evil\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX\x01A: a\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n: a\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        "GET /li\0vez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET  /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let received =
            send(&server, format!("{head}GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
        assert!(statuses(&received).is_empty() || statuses(&received) == ["400"], "{head:?}\n{received}");
    }
}

/// RFC 9112, 2.2 lets a reader take a bare line feed for the end of a line. A proxy that does not finds no other end of the
/// head behind it.
#[tokio::test]
async fn a_bare_line_feed_ends_a_line_and_hides_nothing() {
    let server = Setup::default().start().await;
    let received = send(&server, b"GET /livez HTTP/1.1\nHost: localhost\nConnection: close\n\n").await;
    assert_eq!(statuses(&received), ["200"], "{received}");
    // Each is a line of its own, and so there are two Hosts.
    let received =
        send(&server, b"GET /livez HTTP/1.1\r\nHost: localhost\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(statuses(&received), ["400"], "{received}");
    // In chunks it is none: there a length would depend on the reader.
    let request = chat("").replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let received = send(&server, format!("{request}{:x}\n{WHOLE}\r\n0\r\n\r\n", WHOLE.len()).as_bytes()).await;
    assert_eq!(statuses(&received), ["400"], "{received}");
}

#[tokio::test]
async fn headers_in_other_alphabets_are_no_text() {
    let server = Setup::default().start().await;
    let header = |line: &[u8]| {
        let request = chat(WHOLE);
        let (start, rest) = request.split_once("\r\n").expect("a request line");
        [start.as_bytes(), b"\r\n", line, b"\r\n", rest.as_bytes()].concat()
    };
    let received = send(&server, &header(b"X-Request-Timeout: \xff")).await;
    assert_eq!(statuses(&received), ["400"], "{received}");
    assert_eq!(Reply::parse(&received).error().0, "invalid_header");
    // What only plugins look at is left out of what they see.
    let received = send(&server, &header(b"X-Tenant: \xc3\xa4\xff")).await;
    assert_eq!(statuses(&received), ["200"], "{received}");
}

/// Where a form has its text.
const FORMS: [(&str, &str); 7] = [
    ("/v1/chat/completions", r#"{"model":"fake/model","messages":[{"role":"user","content":"@"}]}"#),
    ("/v1/completions", r#"{"model":"fake/model","prompt":"@"}"#),
    ("/v1/responses", r#"{"model":"fake/model","input":"@"}"#),
    ("/v1/messages", r#"{"model":"fake/model","max_tokens":5,"messages":[{"role":"user","content":"@"}]}"#),
    ("/v1/messages/count_tokens", r#"{"model":"fake/model","messages":[{"role":"user","content":"@"}]}"#),
    ("/render", r#"{"model":"fake/model","messages":[{"role":"user","content":"@"}]}"#),
    ("/tokenize", r#"{"model":"fake/model","prompt":"@"}"#),
];

/// In every form, before the model or a plugin has anything of it.
#[tokio::test]
async fn what_is_almost_json_is_refused() {
    let server = Setup::default().start().await;
    let status = async |path: &str, body: &[u8]| {
        let head = post(path, "").replace("Content-Length: 0", &format!("Content-Length: {}", body.len()));
        let received = send(&server, &[head.as_bytes(), body].concat()).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        (statuses(&received).join(","), format!("{path} {shown}\n{received}"))
    };
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let inside = [
        br"\ud800".as_slice(),
        br"\udc00\ud800",
        br"\ud800\u0041",
        br"\x",
        br"\",
        b"\x01",
        b"\n",
        b"\xff\xfe",
        b"\xed\xa0\x80",
    ];
    for (path, form) in FORMS {
        let (start, end) = form.split_once('@').expect("a place for the text");
        for text in inside {
            let (status, shown) = status(path, &[start.as_bytes(), text, end.as_bytes()].concat()).await;
            assert_eq!(status, "400", "{shown}");
        }
        let open = form.strip_suffix('}').expect("an object");
        let members = [
            (r#""user":NaN"#.to_owned(), ""),
            (r#""max_tokens":-Infinity"#.to_owned(), ""),
            (r#""max_tokens":0x10"#.to_owned(), ""),
            (r#""model":"fake/model""#.to_owned(), ""),
            (r#""user":"a","#.to_owned(), ""),
            (r#""user":"a"}"#.to_owned(), "{}"),
            (format!(r#""metadata":{}"#, deep("[", "]")), ""),
            (format!(r#""metadata":{}"#, deep(r#"{"a":"#, "}")), ""),
        ];
        for (member, behind) in members {
            let (status, shown) = status(path, format!("{open},{member}}}{behind}").as_bytes()).await;
            assert_eq!(status, "400", "{shown}");
        }
        for body in ["", "null", "[]", "\u{feff}{}", &deep("[", "]")] {
            let (status, shown) = status(path, body.as_bytes()).await;
            assert_eq!(status, "400", "{shown}");
        }
    }
    assert!(server.engine.taken.lock().expect("no test panicked").is_empty());
    assert!(server.pipeline.asked.lock().expect("no test panicked").is_empty());
    // It was what was inside, and not the form.
    for (path, form) in FORMS {
        let (status, shown) = status(path, form.replace('@', r"Hi \ud83d\ude00").as_bytes()).await;
        assert_eq!(status, "200", "{shown}");
    }
}

/// Whoever closes their half has left, as far as a server can tell: a client that ends and one that only will not say more
/// look the same.
#[tokio::test]
async fn half_a_close_is_a_close() {
    let server = Setup::plays(vec![Act::Hang]).start().await;
    let mut client = server.begin(&chat(WHOLE)).await;
    server.until_running(1).await;
    client.shutdown().await.expect("the server is there");
    server.until_idle().await;
    let mut received = Vec::new();
    let _ended = client.read_to_end(&mut received).await;
    assert!(received.is_empty());
}
