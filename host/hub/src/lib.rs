//! The Hugging Face Hub as a client sees it: what a repository holds, and the bytes of its files.
//!
//! Nothing that a hub says is believed: its answers are capped, its redirects are followed by hand, its listings are
//! refused as a whole when one entry is hostile, and a body that is too short, too long, too slow or not what was asked
//! for is an error. The token goes to the endpoint's own origin only. That the bytes are the right ones is for the store
//! to check, against the digests in the [`Listing`].

mod address;
mod answer;
mod api;
mod backoff;
mod body;
mod config;
mod digest;
mod endpoint;
mod error;
mod http;
mod link;
mod listing;
mod obstacle;
mod proxy;
mod refusal;
mod remote;
mod shown;
mod tls;
mod token;

pub mod limits;
pub mod outbound;

use std::fmt;
use std::sync::Arc;

use model::{Commit, RepositoryId, RepositoryPath, Revision};

pub use api::Resolved;
pub use backoff::{Backoff, Patience};
pub use body::Body;
pub use config::{HubConfig, Timeouts};
pub use digest::{GitSha1, Sha256};
pub use endpoint::Endpoint;
pub use error::{Cause, HubError, Obstacle};
pub use listing::{Entry, Listing};
pub use proxy::Proxy;
pub use refusal::{Refusal, RefusalKind};
pub use remote::RemoteFile;
pub use token::{Token, TokenError, TokenSource, Tokens};

use crate::http::{Client, Subject};

/// A client of one hub. Clones share its connections.
#[derive(Clone)]
pub struct Hub {
    client: Arc<Client>,
}

/// Without the connections, which may hold a proxy's password.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hub").field(&self.client.config).finish()
    }
}

impl Hub {
    /// A client; nothing is asked of the hub yet.
    pub fn new(config: HubConfig) -> Result<Self, HubError> {
        Ok(Self { client: Arc::new(Client::new(config)?) })
    }

    /// Where the hub is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.client.config.endpoint
    }

    /// Why no network may be used, if so.
    #[must_use]
    pub fn offline(&self) -> Option<&str> {
        self.client.config.offline.as_deref()
    }

    /// How patient this hub's own retries are, for whoever reads its files.
    #[must_use]
    pub fn patience(&self) -> Patience {
        self.client.config.patience
    }

    /// Which commit a revision is now, with retries.
    pub async fn resolve(&self, repository: &RepositoryId, revision: &Revision) -> Result<Resolved, HubError> {
        let subject = self.subject(repository, format!("{repository}@{revision}"));
        self.retried(&subject, || api::resolve(&self.client, &subject, repository, revision)).await
    }

    /// Every file of a repository at a commit, with retries.
    pub async fn listing(&self, repository: &RepositoryId, commit: &Commit) -> Result<Listing, HubError> {
        let subject = self.subject(repository, format!("the list of files of {repository}@{commit}"));
        self.retried(&subject, || api::listing(&self.client, &subject, repository, commit)).await
    }

    /// A file of a repository at a commit; nothing is asked yet.
    #[must_use]
    pub fn file(&self, repository: &RepositoryId, commit: &Commit, path: &RepositoryPath) -> RemoteFile {
        let before = [repository.org(), repository.model(), "resolve", commit.as_str()];
        let url = self.endpoint().at(before.into_iter().chain(path.as_str().split('/')));
        let subject = self.subject(repository, format!("{repository}/{path}@{commit}"));
        let extension = path.file_name().rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        let is_html = matches!(extension.as_deref(), Some("html" | "htm" | "xhtml"));
        RemoteFile::new(self.client.clone(), subject, url, is_html)
    }

    fn subject(&self, repository: &RepositoryId, what: String) -> Subject {
        Subject { what, page: format!("{}/{repository}", self.endpoint()) }
    }

    async fn retried<T, F: Future<Output = Result<T, HubError>>>(
        &self,
        subject: &Subject,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, HubError> {
        let mut backoff = Backoff::new(self.patience());
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(pause) = backoff.after(&error) else { return Err(error) };
            let (what, error) = (&subject.what, obstacle::chain(&error));
            tracing::warn!(what, error, pause_ms = pause.as_millis(), "the hub is asked again after a pause");
            tokio::time::sleep(pause).await;
        }
    }
}
