//! What a hub's client is told. The environment is read by the caller; here are values only.

use std::path::PathBuf;
use std::time::Duration;

use crate::backoff::Patience;
use crate::endpoint::Endpoint;
use crate::limits::{CONNECT_TIMEOUT_DEFAULT, IDLE_TIMEOUT_DEFAULT};
use crate::token::Tokens;

/// How a hub is asked.
#[derive(Debug, Clone, Default)]
pub struct HubConfig {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Why no network may be used, if so: `HF_HUB_OFFLINE is set`. No socket is opened then.
    pub offline: Option<String>,
    /// Where its token is looked for.
    pub tokens: Tokens,
    /// PEM files of certificate authorities that are trusted beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// When it counts as gone.
    pub timeouts: Timeouts,
    /// When it is asked again.
    pub patience: Patience,
}

/// When a hub counts as gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Time to connect, with the name's resolution and TLS.
    pub connect: Duration,
    /// Time in which an answer must begin, and afterwards make progress.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: CONNECT_TIMEOUT_DEFAULT, idle: IDLE_TIMEOUT_DEFAULT }
    }
}
