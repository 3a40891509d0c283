//! What the hub answers, before anybody believes it.

use std::time::SystemTime;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use reqwest::Response;
use tokio::time::timeout;
use url::Url;

use crate::backoff::asked_pause;
use crate::error::HubError;
use crate::http::{Client, Subject};
use crate::limits::{REFUSAL_BYTES_MAX, REFUSAL_TIMEOUT};
use crate::refusal::{Evidence, Refusal};
use crate::shown::shown;
use crate::token::{Token, TokenSource};

/// An answer that is no redirect.
pub(crate) struct Answer<'a> {
    pub(crate) response: Response,
    pub(crate) url: Url,
    pub(crate) client: &'a Client,
    pub(crate) subject: &'a Subject,
    pub(crate) token: Option<(Token, TokenSource)>,
    pub(crate) is_endpoint: bool,
}

impl Answer<'_> {
    pub(crate) fn what(&self) -> String {
        self.subject.what.clone()
    }

    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header as it may be shown.
    pub(crate) fn shown_header(&self, name: &HeaderName) -> Option<String> {
        let value = self.response.headers().get(name)?;
        Some(self.shown(&String::from_utf8_lossy(value.as_bytes())))
    }

    pub(crate) fn shown(&self, text: &str) -> String {
        shown(text, self.token())
    }

    /// The token, which nothing that is shown may hold.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref().map(|(token, _)| token)
    }

    /// Refuses what is encoded, and pages for people.
    pub(crate) fn plain(self, is_html_expected: bool) -> Result<Self, HubError> {
        let text = |name: &HeaderName| {
            let value = self.response.headers().get(name).map(HeaderValue::as_bytes).unwrap_or_default();
            String::from_utf8_lossy(value).trim().to_ascii_lowercase()
        };
        if !matches!(text(&CONTENT_ENCODING).as_str(), "" | "identity") {
            let encoding = self.shown_header(&CONTENT_ENCODING).unwrap_or_default();
            return Err(HubError::Encoded { what: self.what(), encoding });
        }
        let kind = text(&CONTENT_TYPE);
        if !is_html_expected && (kind.starts_with("text/html") || kind.starts_with("application/xhtml")) {
            return Err(HubError::Html { what: self.what(), origin: self.origin() });
        }
        Ok(self)
    }

    /// The error that this answer is.
    pub(crate) async fn refusal(mut self) -> HubError {
        let patience = REFUSAL_TIMEOUT.min(self.client.config.timeouts.idle);
        let body = timeout(patience, read_up_to(&mut self.response, REFUSAL_BYTES_MAX)).await.unwrap_or_default();
        let headers = self.response.headers();
        let header = |name: &str| {
            headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .filter(|it| !it.is_empty())
        };
        let message = header("x-error-message").or_else(|| error_of(&body)).unwrap_or_default();
        let code = header("x-error-code").unwrap_or_default();
        let status = self.status().as_u16();
        let sent = self.token.as_ref().filter(|_| self.is_endpoint).map(|(_, from)| from.clone());
        let has_token = sent.is_some();
        let evidence = Evidence { status, code: &code, message: &message, has_token, is_endpoint: self.is_endpoint };
        HubError::Refused(Box::new(Refusal {
            kind: evidence.kind(),
            status,
            what: self.what(),
            origin: self.origin(),
            page: self.subject.page.clone(),
            message: Some(self.shown(&message)).filter(|it| !it.is_empty()),
            request_id: header("x-request-id").map(|id| self.shown(&id)),
            retry_after: asked_pause(headers, SystemTime::now()),
            token: sent,
            is_endpoint: self.is_endpoint,
        }))
    }
}

/// The beginning of a body, or what came of it.
pub(crate) async fn read_up_to(response: &mut Response, bytes_max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let fits = chunk.len().min(bytes_max - body.len());
        body.extend_from_slice(&chunk[..fits]);
        if body.len() == bytes_max {
            break;
        }
    }
    body
}

/// `{"error": "…"}`, as the Hub and its mirrors write it.
fn error_of(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Said {
        error: String,
    }
    serde_json::from_slice::<Said>(body).ok().map(|said| said.error)
}
