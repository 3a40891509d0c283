//! What hyper does not watch on a connection: a head that drips, a client that does not read, a client that left.
//!
//! hyper's one header timeout runs from the end of the last response, so it can bound either the pause between two
//! requests or the time of a head, not both: here it bounds the pause. It does not bound writing at all. And it notices
//! that a client left only while its read buffer is empty: one byte sent after the request hides the end. So the socket
//! passes through here, and a clock looks at it now and then.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, MissedTickBehavior};

use super::socket::{ReadHalf, Stream, WriteHalf};
use crate::limits;

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A request's head took too long.
    Head,
    /// The client does not read.
    WriteStall,
    /// The client left while its request was being answered.
    ClientLeft,
}

/// The eye on a connection.
#[derive(Clone)]
pub(super) struct Watch {
    read: Arc<ReadHalf>,
    seen: Arc<Mutex<Seen>>,
    head_timeout: Duration,
    write_stall_max: Duration,
}

#[derive(Debug)]
struct Seen {
    /// A request is being answered.
    is_busy: bool,
    /// When the head that is awaited began: on a new connection at once, later with its first byte.
    head_began: Option<Instant>,
    /// Since when the client took nothing of what is to be written.
    write_blocked: Option<Instant>,
    /// A request's body was refused before its end, so that the client may still be sending it.
    is_body_unread: bool,
}

impl Watch {
    /// The watched socket, and its eye.
    pub(super) fn over(stream: Stream, head_timeout: Duration, write_stall_max: Duration) -> (Socket, Self) {
        let (read, write) = stream.into_split();
        let seen =
            Seen { is_busy: false, head_began: Some(Instant::now()), write_blocked: None, is_body_unread: false };
        let (read, seen) = (Arc::new(read), Arc::new(Mutex::new(seen)));
        let watch = Self { read, seen, head_timeout, write_stall_max };
        (Socket { write, watch: watch.clone() }, watch)
    }

    /// The handshake is over: from now on the first request's head is awaited.
    pub(super) fn greeted(&self) {
        self.seen().head_began = Some(Instant::now());
    }

    /// A request's head has arrived; the answer is under way until the guard is dropped.
    pub(super) fn busy(&self) -> Busy {
        let mut seen = self.seen();
        seen.is_busy = true;
        seen.head_began = None;
        Busy(self.clone())
    }

    /// A request's body, of which it matters whether somebody read it to its end.
    pub(super) fn body(&self, body: Incoming) -> RequestBody {
        let is_read = body.is_end_stream();
        RequestBody { body, is_read, watch: self.clone() }
    }

    /// Returns when the connection is to be given up.
    pub(super) async fn overdue(&self) -> Overdue {
        let mut clock = tokio::time::interval(limits::WATCH_INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            if let Some(overdue) = self.look() {
                return overdue;
            }
        }
    }

    /// Where a body was refused: takes what the client still sends and throws it away, until it is done or some time has
    /// passed. A socket closed with unread bytes is reset, and a reset takes the response with it that the client has not
    /// read yet.
    pub(super) async fn linger(&self) {
        if !self.seen().is_body_unread {
            return;
        }
        let discard = async {
            let mut scratch = [0_u8; 4096];
            loop {
                match self.read.try_read(&mut scratch) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        if self.read.readable().await.is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        };
        let _in_time = tokio::time::timeout(limits::CLOSE_GRACE, discard).await;
    }

    fn look(&self) -> Option<Overdue> {
        let seen = self.seen();
        let passed = |since: Option<Instant>, limit| since.is_some_and(|since| since.elapsed() >= limit);
        if passed(seen.write_blocked, self.write_stall_max) {
            Some(Overdue::WriteStall)
        } else if passed(seen.head_began, self.head_timeout) {
            Some(Overdue::Head)
        } else if seen.is_busy && self.read.is_closed_by_peer() {
            Some(Overdue::ClientLeft)
        } else {
            None
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Each change is one assignment: a panic elsewhere leaves nothing half done.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer is under way.
pub(super) struct Busy(Watch);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.seen().is_busy = false;
    }
}

/// A request's body.
pub(super) struct RequestBody {
    body: Incoming,
    is_read: bool,
    watch: Watch,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.is_read |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.watch.seen().is_body_unread = !self.is_read && !self.body.is_end_stream();
    }
}

/// The watched socket.
pub(super) struct Socket {
    write: WriteHalf,
    watch: Watch,
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let read = &self.watch.read;
        loop {
            ready!(read.poll_read_ready(cx))?;
            match read.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    let mut seen = self.watch.seen();
                    if count > 0 && !seen.is_busy {
                        seen.head_began.get_or_insert_with(Instant::now);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Socket {
    /// Notes whether the client took something.
    fn noted<T>(&self, written: Poll<T>) -> Poll<T> {
        let mut seen = self.watch.seen();
        if written.is_pending() {
            seen.write_blocked.get_or_insert_with(Instant::now);
        } else {
            seen.write_blocked = None;
        }
        written
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.write).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.write).poll_write_vectored(cx, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.write.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}
