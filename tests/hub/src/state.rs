//! What the listeners share: the repositories, the signatures given out, the faults to come and the record of requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::content::{Content, sha256_of};
use crate::fault::Fault;
use crate::refusal::{Access, Caller};
use crate::repo::{File, Shelf, Tree};
use crate::request::{Request, Seen, percent_encode};

/// Signatures beyond this number drop the oldest ones.
const GRANTS_MAX: usize = 200_000;
/// The record stops here: a client in an endless loop fills no memory.
const SEEN_MAX: usize = 200_000;

/// A hub that answers files itself instead of redirecting, and not all that a client would like to know.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that mirrors were seen to leave out")]
pub struct Mirror {
    /// Whether it says `X-Repo-Commit`; Artifactory does not.
    pub commit_header: bool,
    /// Whether it answers ranges; else 200 and the whole file.
    pub ranges: bool,
    /// Whether it says how long a file is; else it sends chunks.
    pub length: bool,
    /// Its `ETag`.
    pub etag: MirrorEtag,
    /// Whether `/tree/{rev}` answers an absolute 307 to the same with a slash at the end, as olah does.
    pub slash_redirect: bool,
}

/// What a mirror says as `ETag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorEtag {
    /// Nothing.
    None,
    /// The digest without quotes.
    Unquoted,
    /// The digest in quotes.
    Quoted,
}

impl Mirror {
    /// All that a client needs, in one answer.
    #[must_use]
    pub fn good() -> Self {
        Self { commit_header: true, ranges: true, length: true, etag: MirrorEtag::Quoted, slash_redirect: false }
    }

    /// As `good` without `X-Repo-Commit` (`huggingface_hub#1796`).
    #[must_use]
    pub fn artifactory() -> Self {
        Self { commit_header: false, ..Self::good() }
    }

    /// No ranges, `ETag`, length or commit: olah serving a local repository.
    #[must_use]
    pub fn bare() -> Self {
        Self { commit_header: false, ranges: false, length: false, etag: MirrorEtag::None, slash_redirect: true }
    }
}

/// What does not change while the hub runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub hub_url: String,
    pub cdn_url: String,
    pub stranger_url: String,
    pub prefix: String,
    pub page_size: usize,
    pub bad_token_passes: bool,
    pub mirror: Option<Mirror>,
    pub signature_lifetime: Duration,
}

/// What one signed address is good for.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub file: String,
    pub content: Content,
    pub etag: String,
    pub path: String,
    expires: SystemTime,
}

pub(crate) struct State {
    pub settings: Settings,
    pub shelves: Mutex<BTreeMap<String, Shelf>>,
    pub tokens: Mutex<BTreeMap<String, Access>>,
    pub faults: Mutex<Vec<Fault>>,
    seen: Mutex<Vec<Seen>>,
    grants: Mutex<Grants>,
    counter: AtomicU64,
}

#[derive(Default)]
struct Grants {
    by_signature: BTreeMap<String, Grant>,
    order: VecDeque<String>,
}

/// A poisoned lock only means that a test failed elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(crate) fn new(settings: Settings, shelves: BTreeMap<String, Shelf>, tokens: BTreeMap<String, Access>) -> Self {
        Self {
            settings,
            shelves: Mutex::new(shelves),
            tokens: Mutex::new(tokens),
            faults: Mutex::default(),
            seen: Mutex::default(),
            grants: Mutex::default(),
            counter: AtomicU64::new(0),
        }
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn caller(&self, request: &Request) -> Caller {
        match request.header("authorization") {
            None => Caller::Anonymous,
            Some(_) => match request.bearer().and_then(|token| lock(&self.tokens).get(token).copied()) {
                Some(access) => Caller::Known(access),
                None => Caller::BadToken,
            },
        }
    }

    pub(crate) fn move_branch(&self, repository: &str, branch: &str, tree: Tree) -> String {
        lock(&self.shelves)
            .get_mut(repository)
            .unwrap_or_else(|| panic!("the test hub has no {repository}"))
            .move_branch(branch, tree)
    }

    /// A signed address of a file, another one each time.
    pub(crate) fn sign(&self, repository: &str, path: &str, file: &File) -> String {
        let number = self.next_number();
        let signature = sha256_of(&format!("signature {number} {path} {}", self.settings.cdn_url));
        let expires = SystemTime::now() + self.settings.signature_lifetime;
        let object = format!("/xet-bridge-us/{:.24}/{}", sha256_of(repository), file.xet_hash());
        let name = percent_encode(path.rsplit('/').next().unwrap_or(path), "");
        let seconds = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let grant = Grant {
            file: path.to_owned(),
            content: file.content.clone(),
            etag: format!("\"{}\"", file.xet_hash()),
            path: object.clone(),
            expires,
        };
        let mut grants = lock(&self.grants);
        grants.by_signature.insert(signature.clone(), grant);
        grants.order.push_back(signature.clone());
        if grants.order.len() > GRANTS_MAX
            && let Some(oldest) = grants.order.pop_front()
        {
            grants.by_signature.remove(&oldest);
        }
        format!(
            "{}{object}?response-content-disposition=inline%3B%20filename%2A%3DUTF-8%27%27{name}&Expires={seconds}\
             &Policy=eyJTdGF0ZW1lbnQiOltdfQ__&Signature={signature}&Key-Pair-Id=K2L8F4GPSG1IFC",
            self.settings.cdn_url
        )
    }

    pub(crate) fn grant(&self, request: &Request) -> Option<Grant> {
        let signature = request.parameters("Signature").pop()?;
        lock(&self.grants).by_signature.get(&signature).filter(|grant| grant.path == request.path).cloned()
    }

    pub(crate) fn expire_signatures(&self) {
        for grant in lock(&self.grants).by_signature.values_mut() {
            grant.expires = UNIX_EPOCH;
        }
    }

    /// Keeps a record of the request; its number serves to complete it.
    pub(crate) fn record(&self, seen: Seen) -> usize {
        let mut record = lock(&self.seen);
        if record.len() == SEEN_MAX {
            return usize::MAX;
        }
        record.push(seen);
        record.len() - 1
    }

    pub(crate) fn amend(&self, number: usize, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = lock(&self.seen).get_mut(number) {
            change(seen);
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    pub(crate) fn forget_seen(&self) {
        lock(&self.seen).clear();
    }
}

impl Grant {
    pub(crate) fn is_expired(&self) -> bool {
        self.expires <= SystemTime::now()
    }
}
