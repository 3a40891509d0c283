//! HTTP/1.1 on a listener.

use std::time::Duration;

use crate::limits;

/// What an operator decides about connections.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Names by which clients may call this server, beside `localhost`, the loopback addresses and the address that
    /// a connection arrived at. Without a port.
    pub hosts_allowed: Vec<String>,
    /// Connections at once.
    pub connections_max: usize,
    /// Bytes of a request body.
    pub body_bytes_max: usize,
    /// Time for a request's head to arrive.
    pub head_timeout: Duration,
    /// Time for a request's whole body to arrive.
    pub body_timeout: Duration,
    /// Time that a connection may stay open between two requests.
    pub idle_timeout: Duration,
    /// Time after which a client that does not read loses its connection.
    pub write_stall_max: Duration,
    /// Silence after which a stream carries a comment.
    pub ping_interval: Duration,
    /// Time that running requests get to finish after `shutdown`.
    pub drain_grace: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            hosts_allowed: Vec::new(),
            connections_max: limits::CONNECTIONS_MAX_DEFAULT,
            body_bytes_max: limits::BODY_BYTES_MAX_DEFAULT,
            head_timeout: limits::HEAD_TIMEOUT_DEFAULT,
            body_timeout: limits::BODY_TIMEOUT_DEFAULT,
            idle_timeout: limits::IDLE_TIMEOUT_DEFAULT,
            write_stall_max: limits::WRITE_STALL_MAX_DEFAULT,
            ping_interval: limits::PING_INTERVAL,
            drain_grace: limits::DRAIN_GRACE_DEFAULT,
        }
    }
}
