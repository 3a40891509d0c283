//! How an answer goes out: byte by byte, so that a fault can end it, delay it or falsify it anywhere.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rustls::{ServerConnection, StreamOwned};

use crate::answer::{Answer, Body, Framing};
use crate::fault::{Cut, Wire};

const CHUNK_BYTES: u64 = 256 << 10;
/// How often something that waits looks whether the test or the client has left.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Nothing waits longer, whatever a test asks for.
const STALL_MAX: Duration = Duration::from_mins(10);
/// Lets the client's kernel take what was sent: a reset discards what still lies in ours.
const BEFORE_RESET: Duration = Duration::from_millis(50);

/// A connection, with TLS or without.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    /// An orderly end: with TLS, `close_notify` first.
    pub(crate) fn close(mut self) {
        if let Self::Tls(stream) = &mut self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }
}

/// One answer on its way out.
pub(crate) struct Sending<'a> {
    pub stream: &'a mut Stream,
    pub answer: &'a Answer,
    pub wire: &'a Wire,
    pub is_head: bool,
    pub has_ended: &'a AtomicBool,
    /// Told the status before it goes out, so that whoever has read an answer finds it in the record.
    pub on_status: &'a dyn Fn(u16),
    /// Told of body bytes before they go out.
    pub on_bytes: &'a dyn Fn(u64),
}

impl Sending<'_> {
    /// Sends it and says whether the connection can serve another request.
    pub(crate) fn send(&mut self) -> io::Result<bool> {
        if let Some(delay) = self.wire.delay {
            self.wait(delay);
        }
        if let Some((None, cut)) = self.wire.cut {
            return self.end(cut);
        }
        if let Some(raw) = &self.wire.raw {
            self.stream.write_all(raw)?;
            self.stream.flush()?;
            return self.end(Cut::Fin);
        }
        (self.on_status)(self.answer.status);
        let head = self.head();
        if self.is_head || self.answer.status == 304 {
            self.stream.write_all(&head)?;
            self.stream.flush()?;
            return Ok(true);
        }
        let length = self.answer.body.len();
        let stop = self.wire.cut.and_then(|(at, _)| at).unwrap_or(length).min(length);
        self.body(head, 0..stop)?;
        if let Some((_, cut)) = self.wire.cut {
            return self.end(cut);
        }
        if self.answer.framing == Framing::Chunked {
            self.stream.write_all(b"0\r\n\r\n")?;
        }
        self.padding()?;
        self.stream.flush()?;
        if self.wire.extra_bytes > 0 {
            return self.end(Cut::Fin);
        }
        Ok(true)
    }

    fn head(&self) -> Vec<u8> {
        let Answer { status, headers, body, framing } = self.answer;
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(*status));
        let has = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if *framing == Framing::Chunked {
            head += "Transfer-Encoding: chunked\r\n";
        } else if *status != 304 && !has("content-length") {
            let _ = write!(head, "Content-Length: {}\r\n", body.len() + self.wire.padding_bytes);
        }
        let _ = write!(head, "Date: {}\r\n\r\n", httpdate::fmt_http_date(SystemTime::now()));
        head.into_bytes()
    }

    /// Sends a part of the body behind what is already `pending`.
    fn body(&mut self, mut pending: Vec<u8>, range: Range<u64>) -> io::Result<()> {
        let step = self.wire.bytes_per_second.map_or(CHUNK_BYTES, |rate| (rate / 10).clamp(1, CHUNK_BYTES));
        let mut at = range.start;
        while at < range.end && !self.has_ended.load(Ordering::Relaxed) {
            let part = at..range.end.min(at + step);
            let bytes = self.bytes(part.clone());
            (self.on_bytes)(bytes.len() as u64);
            if self.answer.framing == Framing::Chunked {
                pending.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
                pending.extend_from_slice(&bytes);
                pending.extend_from_slice(b"\r\n");
            } else if pending.is_empty() {
                pending = bytes;
            } else {
                pending.extend_from_slice(&bytes);
            }
            self.stream.write_all(&pending)?;
            pending.clear();
            at = part.end;
            if let Some(rate) = self.wire.bytes_per_second {
                self.stream.flush()?;
                self.wait(Duration::from_secs_f64((part.end - part.start) as f64 / rate as f64));
            }
        }
        self.stream.write_all(&pending)?;
        self.stream.flush()
    }

    fn bytes(&self, part: Range<u64>) -> Vec<u8> {
        let (mut bytes, offset) = match &self.answer.body {
            Body::Bytes(bytes) => (slice(bytes, &part).to_vec(), part.start),
            Body::Part { content, range } => {
                (content.bytes(range.start + part.start..range.start + part.end), range.start + part.start)
            }
        };
        if self.wire.flip_all {
            for byte in &mut bytes {
                *byte ^= 0xFF;
            }
        }
        let place = self.wire.flip.and_then(|flip| flip.checked_sub(offset)).and_then(|at| usize::try_from(at).ok());
        if let Some(byte) = place.and_then(|at| bytes.get_mut(at)) {
            *byte ^= 0xFF;
        }
        bytes
    }

    fn padding(&mut self) -> io::Result<()> {
        let mut left = self.wire.padding_bytes + self.wire.extra_bytes;
        while left > 0 {
            let part = left.min(CHUNK_BYTES);
            (self.on_bytes)(part);
            self.stream.write_all(&vec![b'!'; usize::try_from(part).unwrap_or(0)])?;
            left -= part;
        }
        Ok(())
    }

    fn end(&mut self, cut: Cut) -> io::Result<bool> {
        let socket = self.stream.socket();
        match cut {
            Cut::Fin => socket.shutdown(Shutdown::Write)?,
            Cut::Reset => {
                self.wait(BEFORE_RESET);
                // Takes effect when the last handle closes: `server` shuts nothing down before.
                socket2::SockRef::from(self.stream.socket()).set_linger(Some(Duration::ZERO))?;
            }
            Cut::Stall => self.stall(),
        }
        Ok(false)
    }

    /// Says nothing until the test ends or the client leaves.
    fn stall(&self) {
        let start = Instant::now();
        let socket = self.stream.socket();
        let _ = socket.set_read_timeout(Some(LOOK_EVERY));
        while !self.has_ended.load(Ordering::Relaxed) && start.elapsed() < STALL_MAX {
            match socket.peek(&mut [0]) {
                Ok(0) => return,
                Ok(_) => sleep(LOOK_EVERY),
                Err(error) if is_timeout(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn wait(&self, time: Duration) {
        let end = Instant::now() + time.min(STALL_MAX);
        while !self.has_ended.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK_EVERY));
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn slice<'a>(bytes: &'a [u8], part: &Range<u64>) -> &'a [u8] {
    let index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    &bytes[index(part.start)..index(part.end)]
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Time-out",
        _ => "Status",
    }
}

/// `bytes` as a gzip file whose blocks are stored, not packed: valid, and needs no library.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(0xFFFF).collect() };
    for (number, block) in blocks.iter().enumerate() {
        packed.push(u8::from(number + 1 == blocks.len()));
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(&(!length).to_le_bytes());
        packed.extend_from_slice(block);
    }
    packed.extend_from_slice(&crc32(bytes).to_le_bytes());
    packed.extend_from_slice(&u32::try_from(bytes.len() & 0xFFFF_FFFF).unwrap_or(0).to_le_bytes());
    packed
}

fn crc32(bytes: &[u8]) -> u32 {
    let step =
        |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)));
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn gzip_unpacks_what_was_packed() {
        for length in [0, 1, 0xFFFF, 0x1_0001] {
            let bytes = vec![b'x'; length];
            let mut child = Command::new("gzip")
                .arg("-dc")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("gzip, which every Debian has");
            child.stdin.take().expect("its input").write_all(&super::gzip(&bytes)).expect("a pipe");
            let output = child.wait_with_output().expect("its output");
            assert!(output.status.success() && output.stdout == bytes, "{length} bytes");
        }
    }
}
