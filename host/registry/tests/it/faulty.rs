//! A registry that answers as a test says, over one connection per request, and remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// What was asked: `GET /v2/…`, and the `Authorization` that came with it.
pub(crate) type Asked = (String, Option<String>);

/// A request as in [`Asked`], and its body.
type Sent = (String, Vec<u8>);

/// All that the answer may depend on.
pub(crate) struct Heard<'a> {
    /// `GET /v2/…`.
    pub(crate) request: &'a str,
    pub(crate) authorization: Option<&'a str>,
    /// `If-Match` or `If-None-Match`.
    pub(crate) condition: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

pub(crate) struct Faulty {
    pub(crate) host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// What was sent, by request.
    bodies: Arc<Mutex<Vec<Sent>>>,
}

impl Faulty {
    /// `answer` gets `GET /path` and the authorization, and gives everything of the answer behind `HTTP/1.1 `.
    pub(crate) fn start(answer: impl Fn(&str, Option<&str>) -> Vec<u8> + Send + 'static) -> Self {
        Self::hear(move |heard| answer(heard.request, heard.authorization))
    }

    /// The same for what depends on more.
    pub(crate) fn hear(mut answer: impl FnMut(&Heard<'_>) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let (heard, kept) = (Arc::clone(&asked), Arc::clone(&bodies));
        // Ends with the process: nobody asks it any more.
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(socket);
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() {
                    continue;
                }
                let request = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
                let (mut authorization, mut condition, mut length) = (None, None, 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
                        break;
                    }
                    let (name, value) = line.split_once(':').unwrap_or_default();
                    match name.to_ascii_lowercase().as_str() {
                        "authorization" => authorization = Some(value.trim().to_owned()),
                        "if-match" | "if-none-match" => condition = Some(value.trim().to_owned()),
                        "content-length" => length = value.trim().parse().unwrap_or(0),
                        _ => {}
                    }
                }
                let mut body = Vec::new();
                let _ = reader.by_ref().take(length).read_to_end(&mut body);
                let (authorization, condition) = (authorization.as_deref(), condition.as_deref());
                let answer = answer(&Heard { request: &request, authorization, condition, body: &body });
                kept.lock().expect("no panic").push((request.clone(), body));
                heard.lock().expect("no panic").push((request.clone(), authorization.map(str::to_owned)));
                let mut socket = reader.into_inner();
                let _ = socket.write_all(b"HTTP/1.1 ").and_then(|()| socket.write_all(&answer));
            }
        });
        Self { host, asked, bodies }
    }

    /// What was last sent with a request that ends like this.
    pub(crate) fn sent(&self, request: &str) -> Option<Vec<u8>> {
        let bodies = self.bodies.lock().expect("no panic");
        bodies.iter().rev().find(|(asked, _)| asked.ends_with(request)).map(|(_, body)| body.clone())
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// An answer with a body.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("{status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}
