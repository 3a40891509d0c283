//! Why the hub did not give what it was asked for, and what to do next.

use std::error::Error as StdError;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::proxy::Proxy;
use crate::refusal::Refusal;
use crate::token::{TokenError, TokenSource};

/// What lies below an error of the network.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why the hub did not give what it was asked for. A text that came from a server is shown shortened, without control
/// characters and without the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The endpoint cannot be one. It is not repeated: a mistyped one may hold a credential.
    #[error("cannot use the hub's address: {why}")]
    Endpoint {
        /// What is wrong, and what would be right.
        why: &'static str,
    },
    /// A file of certificates that was named gives none.
    #[error("cannot use the certificate authorities in {}: {why}; write them as PEM", .path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The client itself could not be set up.
    #[error("cannot set up the hub's client")]
    Client(#[source] Cause),
    /// A text that was given as a token cannot be one.
    #[error("cannot use the token from {from}: {why}")]
    Token {
        /// Where it was given.
        from: TokenSource,
        /// What is wrong with it; never the value.
        why: TokenError,
    },
    /// A file that must hold the token gives none.
    #[error("cannot read a token from {}; put one into the file, or name another", .path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The token would travel in plain text.
    #[error(
        "the token from {from} is not sent to {endpoint}: anyone on the way could read it; use https, or remove the token"
    )]
    PlainHttp {
        /// Where it would have gone.
        endpoint: Endpoint,
        /// Where it comes from.
        from: TokenSource,
    },
    /// Nothing may be asked of any network.
    #[error("cannot get {what} while offline ({why})")]
    Offline {
        /// What was wanted.
        what: String,
        /// Who said so.
        why: String,
    },
    /// No connection came about.
    #[error("cannot reach {origin} for {what}{}: {obstacle}", .proxy.as_ref().map(|it| format!(" through {it}")).unwrap_or_default())]
    Unreachable {
        /// What was wanted.
        what: String,
        /// Scheme, host and port.
        origin: String,
        /// What it went through.
        proxy: Option<Proxy>,
        /// What stood in the way.
        obstacle: Obstacle,
        /// The layer below.
        source: Cause,
    },
    /// A connection, but no answer.
    #[error("{origin} did not answer the request for {what} within {} s", .after.as_secs_f32())]
    Silent {
        /// What was wanted.
        what: String,
        /// Scheme, host and port.
        origin: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The answer stopped coming.
    #[error("{what} stalled: hardly anything came for {} s, after {received} bytes", .after.as_secs_f32())]
    Stalled {
        /// What was wanted.
        what: String,
        /// Bytes of this answer until then.
        received: u64,
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection broke while {what} was read, after {received} bytes of the answer")]
    Broken {
        /// What was wanted.
        what: String,
        /// Bytes of this answer until then.
        received: u64,
        /// The layer below.
        source: Cause,
    },
    /// The answer ended early.
    #[error("{what} ended after {received} of {expected} bytes")]
    Truncated {
        /// What was wanted.
        what: String,
        /// Bytes that came.
        received: u64,
        /// Bytes that were due.
        expected: u64,
    },
    /// The answer is longer than it may be, or announces another length than the listing says.
    #[error(
        "{what} is answered with {announced} where {expected} bytes are due; a proxy or mirror may have changed it"
    )]
    WrongLength {
        /// What was wanted.
        what: String,
        /// What the answer says of its length, or how much came.
        announced: String,
        /// Bytes that were due.
        expected: u64,
    },
    /// The answer holds other bytes than those asked for.
    #[error(
        "asked for bytes {}-{} of the {whole} of {what}, and was answered with `{answered}`; a proxy or mirror in between may not support ranges",
        .asked.start, .asked.end.saturating_sub(1)
    )]
    WrongRange {
        /// What was wanted.
        what: String,
        /// The range that was asked for.
        asked: Range<u64>,
        /// Bytes of the whole file, as listed.
        whole: u64,
        /// What the answer says it is.
        answered: String,
    },
    /// The answer is compressed or otherwise not the file's own bytes.
    #[error(
        "{what} came with the encoding `{encoding}`, though its plain bytes were asked for; a proxy in between may have changed it"
    )]
    Encoded {
        /// What was wanted.
        what: String,
        /// As the answer names it.
        encoding: String,
    },
    /// A page for people instead of a file.
    #[error(
        "{origin} answered the request for {what} with a web page: a captive portal or proxy may want a login; open {origin} in a browser on this network, or set HTTPS_PROXY"
    )]
    Html {
        /// What was wanted.
        what: String,
        /// Who answered.
        origin: String,
    },
    /// A redirect that is not followed.
    #[error("the request for {what} was redirected to {to}, which is not followed: {why}")]
    Redirect {
        /// What was wanted.
        what: String,
        /// Where to, without its query.
        to: String,
        /// Why not.
        why: String,
    },
    /// The hub answered with an error.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The hub answered with something that is not an answer to what was asked.
    #[error(
        "cannot make sense of what {origin} answered about {what}: {why}; check that the hub's address is one of a hub"
    )]
    Answer {
        /// What was wanted.
        what: String,
        /// Who answered.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
    /// A listing that no honest hub sends. Nothing of it is used.
    #[error("{what} is refused as a whole, because of `{entry}`: {why}")]
    Listing {
        /// What was wanted.
        what: String,
        /// The entry, escaped and shortened.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What stood between us and a connection, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// The name has no address.
    #[error(
        "its name does not resolve; check the network, the hub's address, and whether a proxy must be set (HTTPS_PROXY)"
    )]
    Name,
    /// The name leads where no hub is.
    #[error("its name resolves to a link-local address or a metadata service, where no hub is")]
    ForbiddenAddress,
    /// Nobody listens.
    #[error("the connection was refused; check the port in the hub's address, and that the hub runs")]
    ConnectionRefused,
    /// No connection in time.
    #[error("no connection within the time allowed; check the network and whether a proxy must be set (HTTPS_PROXY)")]
    Slow,
    /// The other side could not prove who it is.
    #[error(
        "its certificate is not trusted; if a proxy or mirror has an authority of its own, name that authority's PEM file (ca_files, or SSL_CERT_FILE)"
    )]
    Certificate,
    /// TLS failed for another reason.
    #[error("the TLS handshake failed; check that the port speaks https, and that no proxy is in the way")]
    Tls,
    /// The proxy wants to know who asks.
    #[error("the proxy asks for a login; write it there as http://user:password@proxy:port")]
    ProxyLogin,
    /// The proxy did not connect.
    #[error("the proxy did not connect; check that it may reach the hub, or name the hub in NO_PROXY")]
    Proxy,
    /// The proxy itself is out of reach.
    #[error(
        "the proxy cannot be reached; check its address there, that it runs, and whether NO_PROXY should name the hub"
    )]
    ProxyUnreachable,
    /// Anything else.
    #[error("the connection failed; check the network")]
    Other,
}

impl HubError {
    /// Whether the same request may be answered a moment later (R14). What the hub decided about us (401, 403, 404),
    /// what is wrong here, and what only a person can change is final; what happened to one transmission is not.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { obstacle, .. } => {
                !matches!(obstacle, Obstacle::Certificate | Obstacle::ForbiddenAddress | Obstacle::ProxyLogin)
            }
            Self::Silent { .. }
            | Self::Stalled { .. }
            | Self::Broken { .. }
            | Self::Truncated { .. }
            | Self::WrongLength { .. }
            | Self::WrongRange { .. }
            | Self::Encoded { .. } => true,
            Self::Refused(refusal) => refusal.is_transient(),
            Self::Endpoint { .. }
            | Self::Certificates { .. }
            | Self::Client(_)
            | Self::Token { .. }
            | Self::TokenFile { .. }
            | Self::PlainHttp { .. }
            | Self::Offline { .. }
            | Self::Html { .. }
            | Self::Redirect { .. }
            | Self::Answer { .. }
            | Self::Listing { .. } => false,
        }
    }

    /// How long the hub asked us to wait, if it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after(),
            _ => None,
        }
    }

    /// The hub's answer, where it was one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}
