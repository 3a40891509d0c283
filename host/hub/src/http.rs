//! Requests: one at a time, redirects followed by hand, and the token only where it belongs (R8).

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::Response;
use tokio::time::timeout;
use url::Url;

use crate::address::is_loopback;
use crate::answer::{Answer, read_up_to};
use crate::config::HubConfig;
use crate::error::HubError;
use crate::limits::{LOCATION_BYTES_MAX, REDIRECTS_MAX, WARNINGS_MAX};
use crate::obstacle;
use crate::outbound::{Outbound, wrong_with};
use crate::proxy::Proxy;
use crate::shown::{shown, shown_url};
use crate::token::{Token, TokenSource, percent_decoded};

/// What is asked for, as errors and logs name it.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) what: String,
    /// The repository's page at the endpoint.
    pub(crate) page: String,
}

/// Everything that requests share.
pub(crate) struct Client {
    pub(crate) config: HubConfig,
    outbound: Outbound,
    /// The `X-HF-Warning` that were logged.
    warned: Mutex<BTreeSet<String>>,
}

impl Client {
    pub(crate) fn new(config: HubConfig) -> Result<Self, HubError> {
        let outbound = Outbound::new(config.ca_files.iter().map(AsRef::as_ref), config.timeouts.connect)?;
        Ok(Self { outbound, config, warned: Mutex::default() })
    }

    /// Logs what the hub wants people to know, each sentence once.
    fn heed(&self, headers: &HeaderMap, token: Option<&Token>) {
        for warning in headers.get_all("x-hf-warning") {
            let warning = shown(&String::from_utf8_lossy(warning.as_bytes()), token);
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.len() < WARNINGS_MAX && warned.insert(warning.clone()) {
                tracing::warn!(endpoint = %self.config.endpoint, "the hub says: {warning}");
            }
        }
    }
}

/// One request and the redirects that it is answered with.
pub(crate) struct Journey<'a> {
    client: &'a Client,
    subject: &'a Subject,
    range: Option<Range<u64>>,
    token: Option<(Token, TokenSource)>,
    next: Url,
    visited: Vec<Url>,
    /// Once elsewhere, the token stays at home, even if somebody out there points back.
    has_left: bool,
}

impl<'a> Journey<'a> {
    /// A request to the hub, with its token.
    pub(crate) fn to_hub(
        client: &'a Client,
        subject: &'a Subject,
        url: Url,
        range: Option<Range<u64>>,
    ) -> Result<Self, HubError> {
        let HubConfig { endpoint, tokens, .. } = &client.config;
        refuse_offline(client, subject)?;
        let token = tokens.read()?;
        if let Some((_, from)) = &token
            && endpoint.is_open_to_eavesdroppers()
        {
            return Err(HubError::PlainHttp { endpoint: endpoint.clone(), from: from.clone() });
        }
        let has_left = !endpoint.is_origin_of(&url);
        Ok(Self { client, subject, range, token, next: url, visited: Vec::new(), has_left })
    }

    /// A request to where the hub sent us before. The token is not sent; it is known only so that it is not shown, should
    /// the hub have told it to others.
    pub(crate) fn to_storage(
        client: &'a Client,
        subject: &'a Subject,
        url: Url,
        range: Option<Range<u64>>,
    ) -> Result<Self, HubError> {
        refuse_offline(client, subject)?;
        let token = client.config.tokens.read().ok().flatten();
        Ok(Self { client, subject, range, token, next: url, visited: Vec::new(), has_left: true })
    }

    /// Follows redirects to an answer.
    pub(crate) async fn finish(mut self) -> Result<Answer<'a>, HubError> {
        loop {
            if let Some(answer) = self.step().await? {
                return Ok(answer);
            }
        }
    }

    /// Follows redirects to an answer of the endpoint, or to the first address that is not the endpoint's.
    pub(crate) async fn until_abroad(&mut self) -> Result<Option<Answer<'a>>, HubError> {
        while !self.has_left {
            if let Some(answer) = self.step().await? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Where the next request goes.
    pub(crate) fn next(&self) -> &Url {
        &self.next
    }

    /// One request: its answer, or nothing when that was a redirect.
    async fn step(&mut self) -> Result<Option<Answer<'a>>, HubError> {
        let response = self.send().await?;
        let status = response.status();
        let token = self.token.as_ref().map(|(token, _)| token);
        tracing::debug!(status = status.as_u16(), url = shown_url(&self.next, token), range = ?self.range, "answered");
        self.client.heed(response.headers(), token);
        if is_redirect(status) {
            let target = self.target(&response).await?;
            drain(response).await;
            self.has_left |= !self.client.config.endpoint.is_origin_of(&target);
            self.visited.push(std::mem::replace(&mut self.next, target));
            return Ok(None);
        }
        let Self { client, subject, .. } = *self;
        let token = self.token.take();
        Ok(Some(Answer { response, url: self.next.clone(), client, subject, token, is_endpoint: !self.has_left }))
    }

    async fn send(&self) -> Result<Response, HubError> {
        let Client { config, outbound, .. } = self.client;
        let is_here = self.next.host().is_some_and(|host| is_loopback(&host));
        // Compressed ranges are no ranges of the file, and compressed weights are no smaller.
        let mut request = outbound.to(&self.next).get(self.next.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(range) = &self.range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        if !self.has_left
            && let Some(authorization) = self.token.as_ref().and_then(|(token, _)| token.header())
        {
            request = request.header(AUTHORIZATION, authorization);
        }
        let after = config.timeouts.connect + config.timeouts.idle;
        let origin = || self.next.origin().ascii_serialization();
        let what = || self.subject.what.clone();
        let proxy = || if is_here { None } else { Proxy::of(&self.next) };
        match timeout(after, request.send()).await {
            Ok(sent) => sent.map_err(|error| obstacle::unsent(error, what(), origin(), proxy())),
            Err(_) => Err(HubError::Silent { what: what(), origin: origin(), after }),
        }
    }

    /// Where a redirect leads, if it may be followed.
    async fn target(&self, response: &Response) -> Result<Url, HubError> {
        let token = self.token.as_ref().map(|(token, _)| token);
        let given = response.headers().get(LOCATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let refused =
            |to: String, why: &str| HubError::Redirect { what: self.subject.what.clone(), to, why: why.to_owned() };
        let nowhere = |why| refused(format!("`{}`", shown(&before_query(given), token)), why);
        if given.is_empty() {
            return Err(refused("nowhere".to_owned(), "the answer names no Location"));
        }
        if given.len() > LOCATION_BYTES_MAX {
            return Err(nowhere("it is longer than 16 KiB"));
        }
        let target = std::str::from_utf8(given).ok().and_then(|given| self.next.join(given).ok());
        let mut target = target.ok_or_else(|| nowhere("it is not a URL"))?;
        target.set_fragment(None);
        let wrong = |why| refused(shown_url(&target, token), why);
        // What a hub echoes into an address would reach its host, resolvers and logs.
        if token.is_some_and(|token| token.is_in(&percent_decoded(target.as_str()))) {
            return Err(wrong("it holds the token"));
        }
        if !matches!(target.scheme(), "http" | "https") {
            return Err(nowhere("only http and https are"));
        }
        if let Some(why) = wrong_with(&self.client.config.endpoint, &self.next, &target).await {
            return Err(wrong(why));
        }
        if target == self.next || self.visited.contains(&target) {
            return Err(wrong("it leads round in a circle"));
        }
        if self.visited.len() >= REDIRECTS_MAX {
            return Err(wrong("there were 8 redirects before it"));
        }
        Ok(target)
    }
}

fn refuse_offline(client: &Client, subject: &Subject) -> Result<(), HubError> {
    match &client.config.offline {
        None => Ok(()),
        Some(why) => Err(HubError::Offline { what: subject.what.clone(), why: why.clone() }),
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// A target that is not a URL, without what may be a signature.
fn before_query(given: &[u8]) -> String {
    let end = given.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(given.len());
    String::from_utf8_lossy(&given[..end.min(LOCATION_BYTES_MAX)]).into_owned()
}

/// Reads the few bytes that come with a redirect, so that the connection serves the next request as well.
async fn drain(mut response: Response) {
    const BYTES_MAX: usize = 16 * 1024;
    const TIMEOUT: Duration = Duration::from_millis(250);
    if response.content_length().is_some_and(|length| length <= BYTES_MAX as u64) {
        let _ = timeout(TIMEOUT, read_up_to(&mut response, BYTES_MAX)).await;
    }
}
