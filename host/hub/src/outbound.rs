//! Connections to addresses that somebody else names, for this room and for whoever else asks servers that may be hostile.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client as Connections, redirect};
use url::Url;

use crate::address::{Resolver, is_loopback, wrong_with_target};
use crate::endpoint::Endpoint;
use crate::error::HubError;
use crate::limits::POOL_IDLE_TIMEOUT;

/// How this program presents itself.
const USER_AGENT: &str = concat!("outrigger/", env!("CARGO_PKG_VERSION"));

/// Connections that follow no redirect by themselves, tell nobody where they come from, and reach no metadata service.
pub struct Outbound {
    /// For this machine itself, which no proxy reaches.
    direct: Connections,
    /// For everything else: through the proxies that the environment names.
    outward: Connections,
}

impl Outbound {
    /// Connections that trust the system's authorities and those in `ca_files`.
    pub fn new<'a>(ca_files: impl IntoIterator<Item = &'a Path>, connect: Duration) -> Result<Self, HubError> {
        let tls = crate::tls::config(ca_files)?;
        let builder = || {
            Connections::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(Resolver)
                .redirect(redirect::Policy::none())
                // The address of a private file is nothing for the CDN.
                .referer(false)
                .user_agent(USER_AGENT)
                .connect_timeout(connect)
                .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        };
        let failed = |error: reqwest::Error| HubError::Client(error.into());
        let direct = builder().no_proxy().build().map_err(failed)?;
        let outward = builder().build().map_err(failed)?;
        Ok(Self { direct, outward })
    }

    /// The connections for an address.
    #[must_use]
    pub fn to(&self, url: &Url) -> &Connections {
        if url.host().is_some_and(|host| is_loopback(&host)) { &self.direct } else { &self.outward }
    }
}

/// Why nothing is sent to an address that an answer from `from` named, if so. `home` is what the operator chose.
pub async fn wrong_with(home: &Endpoint, from: &Url, target: &Url) -> Option<&'static str> {
    let Some(host) = target.host().filter(|_| matches!(target.scheme(), "http" | "https")) else {
        return Some("only http and https are");
    };
    if from.scheme() == "https" && target.scheme() == "http" {
        return Some("it leads from https to http");
    }
    if !target.username().is_empty() || target.password().is_some() {
        return Some("it holds a user name or password");
    }
    wrong_with_target(home, &host).await
}
