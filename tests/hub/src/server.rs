//! The listeners: a thread each, and one for every connection. All of them end when the hub is dropped.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::answer::{Answer, Body};
use crate::fault::{Fault, Relocation, take};
use crate::request::{Origin, Request, Seen};
use crate::state::{State, lock};
use crate::wire::{Sending, Stream, gzip};
use crate::{api, cdn};

/// Connections beyond this number are closed at once.
const CONNECTIONS_MAX: usize = 512;
/// A connection that says or takes nothing for so long is closed.
const IDLE_MAX: Duration = Duration::from_mins(2);

#[derive(Default)]
struct Connections {
    sockets: Mutex<BTreeMap<u64, TcpStream>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    has_ended: AtomicBool,
}

pub(crate) struct Servers {
    connections: Arc<Connections>,
    listeners: Vec<(SocketAddr, JoinHandle<()>)>,
}

impl Servers {
    pub(crate) fn new() -> Self {
        Self { connections: Arc::default(), listeners: Vec::new() }
    }

    pub(crate) fn listen(
        &mut self,
        listener: TcpListener,
        origin: Origin,
        tls: Option<Arc<ServerConfig>>,
        state: &Arc<State>,
    ) {
        let address = listener.local_addr().expect("the address of a listener");
        let (connections, state) = (self.connections.clone(), state.clone());
        let accept = move || {
            for socket in listener.incoming().flatten() {
                if connections.has_ended.load(Ordering::Relaxed) {
                    return;
                }
                connections.take(socket, origin, tls.clone(), state.clone());
            }
        };
        let thread = Builder::new().name(format!("{origin:?}")).spawn(accept).expect("a thread");
        self.listeners.push((address, thread));
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.connections.has_ended.store(true, Ordering::Relaxed);
        for (address, thread) in self.listeners.drain(..) {
            // Wakes the thread from `accept`.
            let _ = TcpStream::connect(address);
            let _ = thread.join();
        }
        for socket in lock(&self.connections.sockets).values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        let threads = std::mem::take(&mut *lock(&self.connections.threads));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Connections {
    fn take(self: &Arc<Self>, socket: TcpStream, origin: Origin, tls: Option<Arc<ServerConfig>>, state: Arc<State>) {
        lock(&self.threads).retain(|thread| !thread.is_finished());
        let Ok(handle) = socket.try_clone() else { return };
        let number = state.next_number();
        {
            let mut sockets = lock(&self.sockets);
            if sockets.len() >= CONNECTIONS_MAX {
                return;
            }
            sockets.insert(number, handle);
        }
        let connections = self.clone();
        let serve = move || {
            let ended = serve(socket, origin, tls, &state, &connections.has_ended);
            // First the second handle, then the last one: a reset is sent when no handle is left.
            lock(&connections.sockets).remove(&number);
            if let Ok((stream, true)) = ended {
                stream.close();
            }
        };
        let thread = Builder::new().name(format!("{origin:?} {number}")).spawn(serve).expect("a thread");
        lock(&self.threads).push(thread);
    }
}

/// Serves a connection until it ends, and says whether it did so in good order.
fn serve(
    socket: TcpStream,
    origin: Origin,
    tls: Option<Arc<ServerConfig>>,
    state: &State,
    has_ended: &AtomicBool,
) -> io::Result<(Stream, bool)> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(IDLE_MAX))?;
    socket.set_write_timeout(Some(IDLE_MAX))?;
    let mut stream = match tls {
        None => Stream::Plain(socket),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            Stream::Tls(Box::new(StreamOwned::new(connection, socket)))
        }
    };
    let mut unread = Vec::new();
    while let Some(request) = Request::read(&mut stream, &mut unread)? {
        if has_ended.load(Ordering::Relaxed) {
            break;
        }
        if !exchange(&mut stream, origin, &request, state, has_ended)? {
            return Ok((stream, false));
        }
        if request.wants_close {
            break;
        }
    }
    Ok((stream, true))
}

/// Answers one request and says whether the connection can serve another.
fn exchange(
    stream: &mut Stream,
    origin: Origin,
    request: &Request,
    state: &State,
    has_ended: &AtomicBool,
) -> io::Result<bool> {
    let file = match origin {
        Origin::Hub => api::file_of(state, request),
        Origin::Cdn | Origin::Stranger => state.grant(request).map(|grant| (grant.file, true)),
    };
    let mut seen = Seen {
        origin,
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        headers: request.headers.clone(),
        range: request.header("range").map(str::to_owned),
        is_weight: file.as_ref().is_some_and(|(_, is_large)| *is_large),
        file: file.map(|(path, _)| path),
        status: 0,
        bytes_sent: 0,
        is_faulty: false,
    };
    let fault = take(&mut lock(&state.faults), &seen);
    seen.is_faulty = fault.is_some();
    let number = state.record(seen);
    let fault = fault.unwrap_or_else(Fault::nothing);
    let mut answer = spoiled(origin, request, state, &fault);
    if origin == Origin::Hub {
        hub_headers(&mut answer, &request.path, number);
    }
    // Before the answer goes out: whoever has read it finds the branch moved.
    if let Some((repository, branch, tree)) = fault.moves {
        state.move_branch(&repository, &branch, tree);
    }
    Sending {
        stream,
        answer: &answer,
        wire: &fault.wire,
        is_head: request.is_head(),
        has_ended,
        on_status: &|status| state.amend(number, |seen| seen.status = status),
        on_bytes: &|bytes| state.amend(number, |seen| seen.bytes_sent += bytes),
    }
    .send()
}

/// The true answer with what the fault makes of it, but for the wire's part.
fn spoiled(origin: Origin, request: &Request, state: &State, fault: &Fault) -> Answer {
    let mut request = request.clone();
    if fault.ignores_range {
        request.headers.retain(|(name, _)| name != "range");
    }
    if fault.shift_bytes > 0 {
        shift_range(&mut request, fault.shift_bytes);
    }
    let mut answer = fault.instead.clone().unwrap_or_else(|| match origin {
        Origin::Hub => api::answer(state, &request),
        Origin::Cdn | Origin::Stranger => cdn::answer(state, &request),
    });
    if let Some(relocation) = &fault.relocation {
        relocate(&mut answer, relocation, &request, state);
    }
    if fault.wrong_total
        && let Some((part, total)) = answer.header("Content-Range").and_then(|range| range.split_once('/'))
    {
        let total = total.parse::<u64>().map_or(1, |total| total + 1);
        let range = format!("{part}/{total}");
        answer.set("Content-Range", Some(&range));
    }
    if fault.shorten_bytes > 0 {
        shorten(&mut answer, fault.shorten_bytes);
    }
    if fault.etag_changes {
        answer.set("ETag", Some(&format!("\"{:032x}\"", state.next_number())));
    }
    if fault.gzip {
        let body = match &answer.body {
            Body::Bytes(bytes) => bytes.clone(),
            Body::Part { content, range } => content.bytes(range.clone()),
        };
        answer.body = Body::Bytes(gzip(&body));
        answer.set("Content-Encoding", Some("gzip"));
    }
    for (name, value) in &fault.headers {
        answer.set(name, value.as_deref());
    }
    answer
}

fn relocate(answer: &mut Answer, relocation: &Relocation, request: &Request, state: &State) {
    let (status, location) = match relocation {
        Relocation::To(status, location) => (*status, location.clone()),
        Relocation::Itself => {
            let query = request.query.split("&hop=").next().unwrap_or_default();
            (302, format!("{}?{query}&hop={}", request.path, state.next_number()))
        }
        Relocation::Stranger => {
            let settings = &state.settings;
            let signed = answer.header("Location").unwrap_or_default().to_owned();
            (302, signed.replacen(&settings.cdn_url, &settings.stranger_url, 1))
        }
    };
    if (300..400).contains(&answer.status) {
        answer.set("Location", Some(&location));
        answer.status = status;
    } else {
        *answer = Answer::redirect(status, "Redirect", &location);
    }
}

fn shift_range(request: &mut Request, bytes: u64) {
    for (name, value) in &mut request.headers {
        if name == "range"
            && let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
            && let Ok(first) = first.parse::<u64>()
        {
            *value = format!("bytes={}-{last}", first + bytes);
        }
    }
}

fn shorten(answer: &mut Answer, bytes: u64) {
    match &mut answer.body {
        Body::Bytes(body) => body.truncate(body.len().saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX))),
        Body::Part { content, range } => {
            range.end = range.end.saturating_sub(bytes).max(range.start);
            let (part, total) = (range.clone(), content.size_bytes());
            if answer.status == 206 && part.end > part.start {
                let range = format!("bytes {}-{}/{total}", part.start, part.end - 1);
                answer.set("Content-Range", Some(&range));
            }
        }
    }
}

/// What the hub says on every answer: how much of the quota is left, and a number to ask support about.
fn hub_headers(answer: &mut Answer, path: &str, number: usize) {
    let (bucket, quota) = if path.contains("/resolve/") { ("resolvers", 3000) } else { ("api", 500) };
    if answer.header("RateLimit").is_none() {
        answer.set("RateLimit", Some(&format!("\"{bucket}\";r={};t=172", quota - 1 - number % (quota - 1))));
    }
    answer.set("RateLimit-Policy", Some(&format!("\"fixed window\";\"{bucket}\";q={quota};w=300")));
    answer.set("X-Request-Id", Some(&format!("Root=1-6a0f0000-{number:024x}")));
    answer.set("X-Powered-By", Some("huggingface-moon"));
}
