//! Who may ask, as it is now: it may change while the server runs.

use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderName;

use crate::keys::Keys;
use crate::limits;

/// Who may ask, and how they are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Names by which clients may call this server, beside `localhost`, the loopback addresses and the address that
    /// a connection arrived at. Without a port.
    pub hosts: Vec<String>,
    /// The header that names who asks, where no key does.
    pub caller_header: HeaderName,
    /// Keys, one of which is asked of connections over TCP; `None`: none is. Who comes over a Unix socket is known by the system.
    pub keys: Option<Keys>,
}

impl Default for Access {
    fn default() -> Self {
        Self { hosts: Vec::new(), caller_header: HeaderName::from_static(limits::CALLER_HEADER_DEFAULT), keys: None }
    }
}

/// A value that requests look at and an operator replaces.
#[derive(Debug, Default)]
pub struct Replaceable<T>(Arc<RwLock<Arc<T>>>);

impl<T> Replaceable<T> {
    /// Begins with `value`.
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// What it is now.
    #[must_use]
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who looks from now on sees `value`.
    pub fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T> Clone for Replaceable<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
