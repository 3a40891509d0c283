//! One file of the hub: found once, read in parts.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use http::StatusCode;
use tokio::sync::{Mutex, MutexGuard};
use url::Url;

use crate::answer::Answer;
use crate::body::{Body, wrong_range};
use crate::error::HubError;
use crate::http::{Client, Journey, Subject};

/// A file of a repository at a commit. Clones share what one of them found out: the hub sends the first reader to a
/// storage with a signed address, and all further parts ask there, until the storage no longer takes the signature.
#[derive(Clone)]
pub struct RemoteFile {
    client: Arc<Client>,
    subject: Arc<Subject>,
    /// The hub's own address of the file.
    url: Url,
    /// Where the hub sent us last. Held while the hub is asked, so that parts that start together ask it once.
    storage: Arc<Mutex<Option<Url>>>,
    is_html: bool,
}

/// Without the storage's address, which is signed.
impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteFile").field(&self.subject.what).finish()
    }
}

impl RemoteFile {
    pub(crate) fn new(client: Arc<Client>, subject: Subject, url: Url, is_html: bool) -> Self {
        Self { client, subject: Arc::new(subject), url, storage: Arc::default(), is_html }
    }

    /// Asks for a range of the file, which is `whole` bytes long: one attempt, without retries. A signed address that
    /// has expired is renewed within it.
    pub async fn read(&self, range: Range<u64>, whole: u64) -> Result<Body, HubError> {
        // An empty file has no range to ask for.
        let asked = (!range.is_empty()).then(|| range.clone());
        self.ask(Asked { range, header: asked, whole }).await
    }

    /// As [`read`](Self::read), for all of the file and without a word of ranges: for servers that get them wrong.
    pub async fn read_whole(&self, whole: u64) -> Result<Body, HubError> {
        self.ask(Asked { range: 0..whole, header: None, whole }).await
    }

    async fn ask(&self, asked: Asked) -> Result<Body, HubError> {
        let known = self.storage.lock().await.clone();
        if let Some(known) = &known {
            match self.ask_storage(known.clone(), &asked).await {
                Err(error) if outdates(&error) => {
                    tracing::debug!(what = self.subject.what, error = %error, "asking the hub for a fresh address");
                    self.forget(known).await;
                }
                read => return read,
            }
        }
        let storage = self.storage.lock().await;
        let fresh = match storage.clone() {
            // Another part asked meanwhile. It is let go of here: what follows waits for a server, and may forget again.
            Some(fresh) => {
                drop(storage);
                fresh
            }
            None => match self.ask_hub(storage, &asked).await? {
                Found::Here(body) => return Ok(*body),
                Found::Elsewhere(fresh) => fresh,
            },
        };
        let read = self.ask_storage(fresh.clone(), &asked).await;
        if read.as_ref().is_err_and(outdates) {
            self.forget(&fresh).await;
        }
        read
    }

    /// Asks the hub itself, which answers or says where the bytes are.
    async fn ask_hub(&self, mut storage: MutexGuard<'_, Option<Url>>, asked: &Asked) -> Result<Found, HubError> {
        let mut journey = Journey::to_hub(&self.client, &self.subject, self.url.clone(), asked.header.clone())?;
        match journey.until_abroad().await? {
            Some(answer) => Ok(Found::Here(Box::new(self.body(answer, asked).await?))),
            None => Ok(Found::Elsewhere(storage.insert(journey.next().clone()).clone())),
        }
    }

    async fn ask_storage(&self, url: Url, asked: &Asked) -> Result<Body, HubError> {
        let journey = Journey::to_storage(&self.client, &self.subject, url, asked.header.clone())?;
        self.body(journey.finish().await?, asked).await
    }

    async fn body(&self, answer: Answer<'_>, asked: &Asked) -> Result<Body, HubError> {
        let Asked { range, whole, .. } = asked;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Body::new(answer.plain(self.is_html)?, range, *whole),
            StatusCode::RANGE_NOT_SATISFIABLE => Err(wrong_range(&answer, range, *whole)),
            _ => Err(answer.refusal().await),
        }
    }

    /// Forgets an address, unless another part has replaced it already.
    async fn forget(&self, outdated: &Url) {
        let mut storage = self.storage.lock().await;
        if storage.as_ref() == Some(outdated) {
            *storage = None;
        }
    }
}

/// Who has the bytes.
enum Found {
    Here(Box<Body>),
    Elsewhere(Url),
}

/// What is asked for.
struct Asked {
    range: Range<u64>,
    /// As the request says it, if it does.
    header: Option<Range<u64>>,
    /// Bytes of the file.
    whole: u64,
}

/// Whether an error of a storage says that its address is no longer good, or may be better elsewhere.
fn outdates(error: &HubError) -> bool {
    match error {
        HubError::Refused(refusal) => refusal.kind() == crate::refusal::RefusalKind::Storage,
        HubError::Unreachable { .. } | HubError::Redirect { .. } => true,
        _ => false,
    }
}
