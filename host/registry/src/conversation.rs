//! Requests to one registry about one repository: redirects followed by hand, credentials only where they belong, and nothing
//! read without a bound.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, LOCATION, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hub::Endpoint;
use hub::outbound::{Outbound, wrong_with};
use reqwest::Response;
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use crate::error::{RegistryError, shown};
use crate::limits::{
    CONNECT_TIMEOUT, IDLE_TIMEOUT, REDIRECTS_MAX, REFUSAL_BYTES_MAX, REQUEST_TIMEOUT, TOKEN_BYTES_MAX,
};
use crate::login::{Login, sensitive};
use crate::reference::Reference;

/// What is needed of the repository: nothing more is asked of a token server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    Pull,
    Push,
}

/// One request.
pub(crate) struct Asked<'a> {
    /// What it is for, as errors name it.
    pub(crate) what: &'a str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// The media type of the answer or of the body.
    pub(crate) media_type: &'a str,
    pub(crate) body: Option<Bytes>,
    /// What has to be there still for the body to be taken, where the registry heeds it.
    pub(crate) only_over: Option<Version>,
}

/// What stands somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Version {
    Nothing,
    /// What was answered with this `ETag`.
    Tagged(HeaderValue),
}

/// What was answered, and by whom.
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) url: Url,
}

pub(crate) struct Conversation<'a> {
    outbound: &'a Outbound,
    login: Option<&'a Login>,
    token_server: Option<&'a Endpoint>,
    reference: &'a Reference,
    scope: Scope,
    /// What the registry's own origin is told, and nobody else.
    authorization: Option<HeaderValue>,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(
        outbound: &'a Outbound,
        (login, token_server): (Option<&'a Login>, Option<&'a Endpoint>),
        reference: &'a Reference,
        scope: Scope,
    ) -> Self {
        Self { outbound, login, token_server, reference, scope, authorization: None }
    }

    /// An address of the repository. Its parts were checked when they were read, and stay as they are: not every registry
    /// takes a digest with `%3A` in it.
    pub(crate) fn url(&self, kind: &str, name: &str) -> Url {
        let mut url = self.reference.registry.at([]);
        url.set_path(&format!("/v2/{}/{kind}/{name}", self.reference.repository));
        url
    }

    /// Sends a request and follows redirects to an answer, whatever its status.
    pub(crate) async fn ask(&mut self, asked: &Asked<'_>) -> Result<Answer, RegistryError> {
        let mut url = asked.url.clone();
        let mut redirects = 0;
        // Once for each request: tokens last some minutes, and a component over a slow line takes longer.
        let mut has_authenticated = false;
        // Once elsewhere, the credentials stay at home, even if somebody out there points back.
        let mut has_left = !self.reference.registry.is_origin_of(&url);
        loop {
            let response = self.send(asked, &url, has_left).await?;
            let status = response.status();
            tracing::debug!(status = status.as_u16(), origin = origin(&url), path = url.path(), "answered");
            if status == StatusCode::UNAUTHORIZED && !has_left && !has_authenticated {
                has_authenticated = true;
                self.authorization = self.authenticate(response.headers()).await?;
                if self.authorization.is_some() {
                    continue;
                }
            }
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, url });
            }
            let target = self.location(asked.what, &url, response.headers()).await?;
            let refused = |why: &str| {
                let (what, to) = (asked.what.to_owned(), origin(&target));
                Err(RegistryError::Redirect { what, to, why: why.to_owned() })
            };
            if !matches!(asked.method, Method::GET | Method::HEAD) {
                return refused("only what is read may be elsewhere");
            }
            if redirects == REDIRECTS_MAX {
                return refused("there were 5 redirects before it");
            }
            redirects += 1;
            has_left |= !self.reference.registry.is_origin_of(&target);
            url = target;
        }
    }

    async fn send(&self, asked: &Asked<'_>, url: &Url, has_left: bool) -> Result<Response, RegistryError> {
        let mut request = self.outbound.to(url).request(asked.method.clone(), url.clone());
        // Compressed, a component would have another digest.
        request = request.header(ACCEPT_ENCODING, "identity").timeout(REQUEST_TIMEOUT);
        if let Some(authorization) = self.authorization.as_ref().filter(|_| !has_left) {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request = match &asked.body {
            Some(body) => request.header(CONTENT_TYPE, asked.media_type).body(body.clone()),
            None => request.header(ACCEPT, asked.media_type),
        };
        request = match &asked.only_over {
            Some(Version::Nothing) => request.header(IF_NONE_MATCH, "*"),
            Some(Version::Tagged(tag)) => request.header(IF_MATCH, tag),
            None => request,
        };
        let after = if asked.body.is_some() { REQUEST_TIMEOUT } else { CONNECT_TIMEOUT + IDLE_TIMEOUT };
        sent(request, asked.what, url, after).await
    }

    /// Where an answer leads, if anything may be sent there.
    pub(crate) async fn location(&self, what: &str, from: &Url, headers: &HeaderMap) -> Result<Url, RegistryError> {
        let answer = |why: &str| {
            let (what, origin) = (what.to_owned(), origin(from));
            RegistryError::Answer { what, origin, why: why.to_owned() }
        };
        let given = headers.get(LOCATION).ok_or_else(|| answer("it names no Location"))?;
        let target = given.to_str().ok().and_then(|given| from.join(given).ok());
        let mut target = target.ok_or_else(|| answer("its Location is no URL"))?;
        target.set_fragment(None);
        match wrong_with(&self.reference.registry, from, &target).await {
            None => Ok(target),
            Some(why) => {
                Err(RegistryError::Redirect { what: what.to_owned(), to: origin(&target), why: why.to_owned() })
            }
        }
    }

    /// What the registry wants to be told, as it says in its 401; `None` where there is nothing that could be said.
    async fn authenticate(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, RegistryError> {
        let texts = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
        for challenge in texts.flat_map(|text| http_auth::ChallengeParser::new(text).filter_map(Result::ok)) {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                return self.token(parameter("realm"), parameter("service")).await.map(Some);
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") && self.login.is_some() {
                return self.login_for(&self.reference.registry);
            }
        }
        Ok(None)
    }

    /// The login, for whom it is meant.
    fn login_for(&self, endpoint: &Endpoint) -> Result<Option<HeaderValue>, RegistryError> {
        if self.login.is_some() && endpoint.is_open_to_eavesdroppers() {
            return Err(RegistryError::PlainHttp { origin: endpoint.to_string() });
        }
        Ok(self.login.map(Login::header))
    }

    /// A token of the server that the registry names. The login goes there only if it is the registry itself or was named by
    /// the operator.
    async fn token(&self, realm: Option<String>, service: Option<String>) -> Result<HeaderValue, RegistryError> {
        let (what, home) = ("a token", &self.reference.registry);
        let answer =
            |origin: String, why: &str| RegistryError::Answer { what: what.to_owned(), origin, why: why.to_owned() };
        let realm = realm.and_then(|realm| Url::parse(&realm).ok());
        let mut url = realm.ok_or_else(|| answer(home.to_string(), "its token server has no address"))?;
        if let Some(why) = wrong_with(home, &home.at([]), &url).await {
            return Err(RegistryError::Redirect { what: what.to_owned(), to: origin(&url), why: why.to_owned() });
        }
        let trusted = [Some(home), self.token_server].into_iter().flatten().find(|it| it.is_origin_of(&url));
        let login = match trusted {
            Some(endpoint) => self.login_for(endpoint)?,
            None if self.login.is_some() => {
                return Err(RegistryError::TokenServer { origin: home.to_string(), to: origin(&url) });
            }
            None => None,
        };
        if login.is_some() && home.is_open_to_eavesdroppers() {
            // What the token opens, the login does.
            return Err(RegistryError::PlainHttp { origin: home.to_string() });
        }
        let actions = match self.scope {
            Scope::Pull => "pull",
            Scope::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", self.reference.repository);
        url.query_pairs_mut().extend_pairs(service.iter().map(|it| ("service", it))).append_pair("scope", &scope);
        let mut request = self.outbound.to(&url).get(url.clone()).timeout(CONNECT_TIMEOUT + IDLE_TIMEOUT);
        if let Some(login) = login {
            request = request.header(AUTHORIZATION, login);
        }
        let response = sent(request, what, &url, CONNECT_TIMEOUT + IDLE_TIMEOUT).await?;
        let answered = Answer { response, url };
        if answered.response.status() != StatusCode::OK {
            return Err(answered.refusal(what).await);
        }
        let origin = origin(&answered.url);
        let bytes = answered.read(what, TOKEN_BYTES_MAX as u64).await?;
        let given: Token =
            serde_json::from_slice(&bytes).map_err(|_| answer(origin.clone(), "it is no JSON with a token"))?;
        let token = given.token.or(given.access_token).filter(|token| !token.is_empty());
        let header = token.and_then(|token| sensitive(&format!("Bearer {token}")));
        header.ok_or_else(|| answer(origin, "it holds no token"))
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Answer {
    /// The body, of which at most `limit` bytes are taken.
    pub(crate) async fn read(mut self, what: &str, limit: u64) -> Result<Bytes, RegistryError> {
        let mut bytes = Vec::new();
        loop {
            let silent =
                |_| RegistryError::Silent { what: what.to_owned(), origin: origin(&self.url), after: IDLE_TIMEOUT };
            let chunk = timeout(IDLE_TIMEOUT, self.response.chunk()).await.map_err(silent)?;
            let Some(chunk) = chunk.map_err(|error| unreachable(error, what, &self.url))? else { break };
            let size = (bytes.len() + chunk.len()) as u64;
            if size > limit {
                return Err(RegistryError::TooLarge { what: what.to_owned(), size, limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    /// The error that this answer is.
    pub(crate) async fn refusal(self, what: &str) -> RegistryError {
        let (origin, status) = (origin(&self.url), self.response.status().as_u16());
        let body = self.read(what, REFUSAL_BYTES_MAX as u64).await.unwrap_or_default();
        let said = message(&body).map(|text| format!(": {}", shown(&text))).unwrap_or_default();
        let remedy = match status {
            401 | 403 => "; it may want a login (--login FILE), or another one",
            404 => "; check the reference, and whether a login is needed (--login FILE)",
            429 => "; it was asked too often, try again later",
            _ => "",
        };
        RegistryError::Refused { what: what.to_owned(), origin, status, said, remedy }
    }
}

/// `{"errors": [{"code": …, "message": …}]}`, as registries write it.
fn message(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = body["errors"][0]["message"].as_str().or(body["errors"][0]["code"].as_str())?;
    Some(text.to_owned())
}

async fn sent(
    request: reqwest::RequestBuilder,
    what: &str,
    url: &Url,
    after: std::time::Duration,
) -> Result<Response, RegistryError> {
    match timeout(after, request.send()).await {
        Ok(answered) => answered.map_err(|error| unreachable(error, what, url)),
        Err(_) => Err(RegistryError::Silent { what: what.to_owned(), origin: origin(url), after }),
    }
}

fn unreachable(error: reqwest::Error, what: &str, url: &Url) -> RegistryError {
    // Without the address: its query may be a signature.
    let source = error.without_url().into();
    RegistryError::Unreachable { what: what.to_owned(), origin: origin(url), source }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token is worth what it was given for.
    #[tokio::test]
    async fn a_token_for_the_login_does_not_travel_in_plain_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("login");
        std::fs::write(&path, "me:secret").expect("written");
        let login = Login::read(&path).expect("a login");
        let outbound = Outbound::new([], CONNECT_TIMEOUT).expect("a client");
        let reference = "http://10.0.0.1/mask:1".parse().expect("a reference");
        // Encrypted, and so it may be told the login.
        let server = Endpoint::parse("https://10.0.0.2").expect("an endpoint");
        let conversation = Conversation::new(&outbound, (Some(&login), Some(&server)), &reference, Scope::Pull);
        let refused = conversation.token(Some("https://10.0.0.2/token".to_owned()), None).await.expect_err("refused");
        assert!(matches!(&refused, RegistryError::PlainHttp { origin } if origin == "http://10.0.0.1"), "{refused}");
    }
}
