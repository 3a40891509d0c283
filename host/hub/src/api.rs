//! The two questions about a repository: which commit, and which files.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{Commit, RepositoryId, Revision};
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use crate::answer::Answer;
use crate::error::HubError;
use crate::http::{Client, Journey, Subject};
use crate::limits::{ANSWER_TIMEOUT, LISTING_BYTES_MAX, PAGES_MAX, REVISION_BYTES_MAX};
use crate::link;
use crate::listing::{Draft, Hostile, Listing};
use crate::obstacle;
use crate::shown::{shown, shown_url};
use crate::token::Token;

/// What a revision is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The repository as the hub calls it: another than was asked for when it was renamed.
    pub repository: RepositoryId,
    /// The commit.
    pub commit: Commit,
}

/// The part of a revision's description that is used.
#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    sha: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

/// Asks once which commit a revision is.
pub(crate) async fn resolve(
    client: &Client,
    subject: &Subject,
    repository: &RepositoryId,
    revision: &Revision,
) -> Result<Resolved, HubError> {
    let (org, model) = (repository.org(), repository.model());
    let url = client.config.endpoint.at(["api", "models", org, model, "revision", revision.as_str()]);
    let page = within(client, subject, url, REVISION_BYTES_MAX).await?;
    let described: Described = serde_json::from_slice(&page.json).map_err(|error| page.nonsense(&error.to_string()))?;
    let commit = described.sha.as_deref().and_then(Commit::parse);
    let commit = commit.ok_or_else(|| page.nonsense("it names no commit of 40 hexadecimal digits"))?;
    if let Some(asked) = revision.commit().filter(|asked| *asked != commit) {
        return Err(page.nonsense(&format!("it names the commit {commit} where {asked} was asked for")));
    }
    let named = described.id.as_deref().and_then(|id| id.split_once('/'));
    let named = named.and_then(|(org, model)| RepositoryId::new(org, model).ok());
    Ok(Resolved { repository: named.unwrap_or_else(|| repository.clone()), commit })
}

/// Asks once for all pages of a commit's files.
pub(crate) async fn listing(
    client: &Client,
    subject: &Subject,
    repository: &RepositoryId,
    commit: &Commit,
) -> Result<Listing, HubError> {
    let (org, model) = (repository.org(), repository.model());
    let mut url = client.config.endpoint.at(["api", "models", org, model, "tree", commit.as_str()]);
    url.set_query(Some("recursive=true"));
    let (mut draft, mut bytes_left, mut visited) = (Draft::default(), LISTING_BYTES_MAX, BTreeSet::new());
    for _ in 0..PAGES_MAX {
        let page = within(client, subject, url, bytes_left).await?;
        bytes_left -= page.json.len();
        if let Err(error) = draft.page(&page.json) {
            return Err(match draft.hostile {
                Some(hostile) => page.hostile(&hostile),
                None => page.nonsense(&error.to_string()),
            });
        }
        let Some(next) = page.next()? else {
            return draft.finish(commit.clone()).map_err(|hostile| page.hostile(&hostile));
        };
        visited.insert(page.url.clone());
        if visited.contains(&next) {
            return Err(page.nonsense("its pages lead round in a circle"));
        }
        url = next;
    }
    let (what, why) = (subject.what.clone(), format!("the listing has more than {PAGES_MAX} pages"));
    Err(HubError::Answer { what, origin: url.origin().ascii_serialization(), why })
}

/// A success's JSON, not yet parsed.
struct Page {
    json: Vec<u8>,
    url: Url,
    /// The next page, as the answer writes it.
    next: Option<String>,
    what: String,
    /// The token that was sent, which the answer may echo.
    token: Option<Token>,
}

/// Asks for JSON, with a limit on the time for everything, redirects and body.
async fn within(client: &Client, subject: &Subject, url: Url, bytes_max: usize) -> Result<Page, HubError> {
    let origin = url.origin().ascii_serialization();
    let page = timeout(ANSWER_TIMEOUT, page(client, subject, url, bytes_max));
    page.await.unwrap_or_else(|_| Err(HubError::Silent { what: subject.what.clone(), origin, after: ANSWER_TIMEOUT }))
}

async fn page(client: &Client, subject: &Subject, url: Url, bytes_max: usize) -> Result<Page, HubError> {
    let answer = Journey::to_hub(client, subject, url, None)?.finish().await?;
    if answer.status() != http::StatusCode::OK {
        return Err(answer.refusal().await);
    }
    let mut answer = answer.plain(false)?;
    let json = body(&mut answer, bytes_max, client.config.timeouts.idle).await?;
    let links = answer.response.headers().get_all("link");
    let next = link::next(links.iter().filter_map(|link| link.to_str().ok())).map(str::to_owned);
    Ok(Page { json, next, what: answer.what(), token: answer.token().cloned(), url: answer.url })
}

async fn body(answer: &mut Answer<'_>, bytes_max: usize, idle: Duration) -> Result<Vec<u8>, HubError> {
    let mut body = Vec::new();
    loop {
        let received = body.len() as u64;
        let Ok(read) = timeout(idle, answer.response.chunk()).await else {
            return Err(HubError::Stalled { what: answer.what(), received, after: idle });
        };
        match read.map_err(|error| obstacle::broken(error, answer.what(), received))? {
            None => return Ok(body),
            Some(chunk) if chunk.len() > bytes_max - body.len() => {
                let why = format!("it is longer than {bytes_max} bytes");
                return Err(HubError::Answer { what: answer.what(), origin: answer.origin(), why });
            }
            Some(chunk) => body.extend_from_slice(&chunk),
        }
    }
}

impl Page {
    fn nonsense(&self, why: &str) -> HubError {
        HubError::Answer {
            what: self.what.clone(),
            origin: self.url.origin().ascii_serialization(),
            why: shown(why, self.token.as_ref()),
        }
    }

    fn hostile(&self, Hostile { entry, why }: &Hostile) -> HubError {
        let shown = |text| shown(text, self.token.as_ref());
        HubError::Listing { what: self.what.clone(), entry: shown(entry), why: shown(why) }
    }

    /// The next page, if there is one: always at this page's own address, of which only the query changes. A token goes
    /// wherever a listing goes on, so it goes on nowhere else. A mirror may well hand on the links of the hub behind it;
    /// one that leads to the same listing there is followed here.
    fn next(&self) -> Result<Option<Url>, HubError> {
        let Some(given) = &self.next else { return Ok(None) };
        let next = self.url.join(given).map_err(|_| self.nonsense("the address of its next page is not a URL"))?;
        let here = self.url.path().trim_end_matches('/');
        let listing = here.find("/api/models/").map_or(here, |start| &here[start..]);
        if !next.path().trim_end_matches('/').ends_with(listing) {
            let to = shown_url(&next, self.token.as_ref());
            let why = "the next page of a listing belongs to the same listing".to_owned();
            return Err(HubError::Redirect { what: self.what.clone(), to, why });
        }
        let mut same = self.url.clone();
        same.set_query(next.query());
        Ok(Some(same))
    }
}
