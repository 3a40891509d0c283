//! What stood in the way of a request, read from the errors of the layers below.

use std::error::Error as StdError;
use std::io;

use crate::address::ResolveError;
use crate::error::{HubError, Obstacle};
use crate::proxy::Proxy;

/// The error of a request that got no answer.
pub(crate) fn unsent(error: reqwest::Error, what: String, origin: String, proxy: Option<Proxy>) -> HubError {
    // Without the address: its query may be a signature.
    let error = error.without_url();
    if error.is_connect() {
        let obstacle = match obstacle(&error) {
            // Whoever is asked through a proxy is neither looked up nor connected to from here.
            Obstacle::Name | Obstacle::ForbiddenAddress | Obstacle::ConnectionRefused | Obstacle::Slow
                if proxy.is_some() =>
            {
                Obstacle::ProxyUnreachable
            }
            obstacle => obstacle,
        };
        return HubError::Unreachable { what, origin, proxy, obstacle, source: error.into() };
    }
    broken(error, what, 0)
}

/// The error of an answer that broke off.
pub(crate) fn broken(error: reqwest::Error, what: String, received: u64) -> HubError {
    HubError::Broken { what, received, source: error.without_url().into() }
}

/// Whether the other side closed the connection in order, though more was due.
pub(crate) fn is_early_end(error: &reqwest::Error) -> bool {
    layers(error).any(|it| as_io(it).is_some_and(|it| it.kind() == io::ErrorKind::UnexpectedEof))
}

/// An error and those below it, as one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<_> = layers(error).map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

fn obstacle(error: &reqwest::Error) -> Obstacle {
    for layer in layers(error) {
        if let Some(unresolved) = layer.downcast_ref::<ResolveError>() {
            return match unresolved {
                ResolveError::Unknown(_) => Obstacle::Name,
                ResolveError::LinkOnly(_) => Obstacle::ForbiddenAddress,
            };
        }
        if let Some(tls) = layer.downcast_ref::<rustls::Error>() {
            let is_distrust = matches!(tls, rustls::Error::InvalidCertificate(_));
            return if is_distrust { Obstacle::Certificate } else { Obstacle::Tls };
        }
        match as_io(layer).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return Obstacle::ConnectionRefused,
            Some(io::ErrorKind::TimedOut) => return Obstacle::Slow,
            _ => {}
        }
    }
    // The layers below tell a proxy's refusal only by its text.
    let text = chain(error).to_ascii_lowercase();
    if text.contains("proxy auth") {
        Obstacle::ProxyLogin
    } else if text.contains("tunnel") || text.contains("proxy") {
        Obstacle::Proxy
    } else if error.is_timeout() {
        Obstacle::Slow
    } else {
        Obstacle::Other
    }
}

fn as_io<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref()
}

fn layers<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match as_io(error).and_then(io::Error::get_ref) {
        // The source of an I/O error is that of the error in it: the one in it would be left out.
        Some(inner) => Some(inner),
        None => error.source(),
    })
}
