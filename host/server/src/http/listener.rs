//! Where clients come in: a TCP port, with TLS or without, or a Unix socket.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, UnixListener};
use tracing::{debug, warn};

use super::routes::ArrivedAt;
use super::socket::Stream;
use super::unix_socket::{Place, SocketConfig, SocketError};
use crate::access::Replaceable;
use crate::tls::TlsSettings;

/// A place where clients come in.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    is_for_probes: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp { listener: TcpListener, tls: Option<Replaceable<TlsSettings>> },
    Unix { listener: UnixListener, place: Place, uids: BTreeSet<u32> },
}

/// A connection that was accepted.
pub(super) struct Arrived {
    pub(super) stream: Stream,
    pub(super) at: ArrivedAt,
    /// What its handshake is made with.
    pub(super) tls: Option<TlsSettings>,
}

impl Listener {
    /// Listens on an address.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::from(TcpListener::bind(address).await?))
    }

    /// Listens on a Unix socket, which is removed when this is dropped.
    pub fn unix(config: &SocketConfig) -> Result<Self, SocketError> {
        let (listener, place) = Place::take(config)?;
        let listener = UnixListener::from_std(listener)
            .map_err(|source| SocketError::Listen { path: config.path.clone(), source })?;
        Ok(Self { kind: Kind::Unix { listener, place, uids: config.uids.clone() }, is_for_probes: false })
    }

    /// Speaks TLS, each connection by the settings of the moment when it comes. Not for Unix sockets, which leave no machine.
    #[must_use]
    pub fn with_tls(mut self, settings: Replaceable<TlsSettings>) -> Self {
        if let Kind::Tcp { tls, .. } = &mut self.kind {
            *tls = Some(settings);
        }
        self
    }

    /// Answers probes and `/metrics`, without a key, and nothing else.
    #[must_use]
    pub fn for_probes(self) -> Self {
        Self { is_for_probes: true, ..self }
    }

    /// The address; `None`: it is a socket of this machine.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp { listener, .. } => listener.local_addr().ok(),
            Kind::Unix { .. } => None,
        }
    }

    /// Whether it answers probes and `/metrics` alone.
    #[must_use]
    pub fn is_for_probes(&self) -> bool {
        self.is_for_probes
    }

    /// Says in the log where it is.
    pub(super) fn announce(&self) {
        match (&self.kind, self.address()) {
            (Kind::Unix { place, uids, .. }, _) => {
                tracing::info!(socket = %place.path().display(), ?uids, "listening");
            }
            (Kind::Tcp { .. }, Some(address)) if self.is_for_probes => {
                tracing::info!(probe_address = %address, "listening for probes");
            }
            (Kind::Tcp { tls, .. }, Some(address)) => {
                tracing::info!(address = %address, tls = tls.is_some(), "listening");
            }
            (Kind::Tcp { .. }, None) => warn!("the system does not say where we listen"),
        }
    }

    /// The next connection from somebody who may have one. May be dropped and called again.
    pub(super) async fn accept(&self) -> io::Result<Arrived> {
        match &self.kind {
            Kind::Tcp { listener, tls } => {
                let (stream, _peer) = listener.accept().await?;
                let at = stream.local_addr().map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip());
                let tls = tls.as_ref().map(|tls| (*tls.now()).clone());
                Ok(Arrived { stream: Stream::Tcp(stream), at: ArrivedAt::Address(at), tls })
            }
            Kind::Unix { listener, uids, place } => loop {
                let (stream, _peer) = listener.accept().await?;
                match stream.peer_cred() {
                    Ok(peer) if uids.contains(&peer.uid()) => {
                        let at = ArrivedAt::Socket { uid: peer.uid() };
                        return Ok(Arrived { stream: Stream::Unix(stream), at, tls: None });
                    }
                    // The mode of the socket let it come so far.
                    Ok(peer) => warn!(
                        socket = %place.path().display(),
                        uid = peer.uid(),
                        "a connection was closed: `allowed_uids` does not name its user"
                    ),
                    Err(error) => debug!(%error, "a connection was closed: the system does not say whose it is"),
                }
            },
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self { kind: Kind::Tcp { listener, tls: None }, is_for_probes: false }
    }
}
