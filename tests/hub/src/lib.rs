//! A hub for tests: as faithful as the real one, and as faulty as a test asks.
//!
//! Two origins on loopback, the hub and its CDN, with TLS or without, and a third where no token should ever arrive.
//! Everything is blocking and runs in threads of its own; dropping the hub ends them. What is faithful here was
//! captured from the real hub, and is shown by clients that nobody here wrote (`tests/peers.rs`). The README has the
//! table of all it can do.
#![expect(clippy::missing_panics_doc, reason = "what cannot be had fails the test, everywhere in here")]

mod answer;
mod api;
mod cdn;
mod content;
mod fault;
mod matching;
mod refusal;
mod repo;
mod request;
mod route;
mod server;
mod state;
mod tls;
mod wire;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use content::Content;
pub use fault::{Fault, Retry};
pub use matching::Match;
pub use refusal::Access;
pub use repo::{Kind, Repo, Tree};
pub use request::{Origin, Seen};
pub use state::{Mirror, MirrorEtag};

use repo::Shelf;
use server::Servers;
use state::{Settings, State, lock};
use tls::Authority;

/// The real hub's page of `/tree` has been seen with 1000 entries.
const PAGE_SIZE: usize = 1000;
/// The real hub's signatures last about an hour.
const SIGNATURE_LIFETIME: Duration = Duration::from_hours(1);

/// A running hub. Dropping it ends its threads and closes its connections.
pub struct TestHub {
    // Ended before the folder with the certificate goes.
    _servers: Servers,
    state: Arc<State>,
    authority: Option<(tempfile::TempDir, String)>,
    secrets: Vec<String>,
}

/// A hub that does not run yet.
#[derive(Clone, Debug)]
pub struct Builder {
    repositories: Vec<Repo>,
    tokens: BTreeMap<String, Access>,
    tls: bool,
    prefix: String,
    page_size: usize,
    bad_token_passes: bool,
    mirror: Option<Mirror>,
    signature_lifetime: Duration,
}

impl Builder {
    /// Adds a repository.
    #[must_use]
    pub fn repository(mut self, repository: Repo) -> Self {
        self.repositories.push(repository);
        self
    }

    /// Serves both origins over TLS with an authority of its own: `TestHub::ca_file`.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Knows this token, which may see everything.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.token_with(token, Access::All)
    }

    /// Knows this token, which may do as much as `access` says.
    #[must_use]
    pub fn token_with(mut self, token: &str, access: Access) -> Self {
        self.tokens.insert(token.to_owned(), access);
        self
    }

    /// Answers public repositories to an invalid token too, as some of the real hub's endpoints do.
    #[must_use]
    pub fn bad_token_passes(mut self) -> Self {
        self.bad_token_passes = true;
        self
    }

    /// How many entries of a listing go in a page.
    #[must_use]
    pub fn page_size(mut self, entries: usize) -> Self {
        self.page_size = entries.max(1);
        self
    }

    /// Answers files itself, as mirrors do.
    #[must_use]
    pub fn mirror(mut self, mirror: Mirror) -> Self {
        self.mirror = Some(mirror);
        self
    }

    /// Serves everything below this path: `/api/huggingface`.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.trim_end_matches('/').clone_into(&mut self.prefix);
        self
    }

    /// How long a signed address of the CDN is good for.
    #[must_use]
    pub fn signature_lifetime(mut self, lifetime: Duration) -> Self {
        self.signature_lifetime = lifetime;
        self
    }

    /// Listens on free ports of loopback.
    #[must_use]
    pub fn start(self) -> TestHub {
        let bind = |address: Ipv4Addr| TcpListener::bind((address, 0));
        let hub = bind(Ipv4Addr::LOCALHOST).expect("a free port");
        // Another host than the hub's, where the system has one: then cookies, ports and tokens cannot be confused.
        let cdn = bind(Ipv4Addr::new(127, 0, 0, 2)).or_else(|_| bind(Ipv4Addr::LOCALHOST)).expect("a free port");
        let stranger = bind(Ipv4Addr::LOCALHOST).expect("a free port");
        let scheme = if self.tls { "https" } else { "http" };
        let url = |scheme: &str, listener: &TcpListener| {
            format!("{scheme}://{}", listener.local_addr().expect("the address of a listener"))
        };
        let settings = Settings {
            hub_url: url(scheme, &hub),
            cdn_url: url(scheme, &cdn),
            stranger_url: url("http", &stranger),
            prefix: self.prefix,
            page_size: self.page_size,
            bad_token_passes: self.bad_token_passes,
            mirror: self.mirror,
            signature_lifetime: self.signature_lifetime,
        };
        let secrets = self.tokens.keys().cloned().collect();
        let shelves = self.repositories.into_iter().map(|repo| (repo.id.clone(), Shelf::new(repo))).collect();
        let state = Arc::new(State::new(settings, shelves, self.tokens));
        let authority = self.tls.then(|| Authority::new(&["127.0.0.1", "127.0.0.2", "localhost"]));
        let tls = authority.as_ref().map(|authority| authority.server.clone());
        let authority = authority.map(|authority| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            std::fs::write(folder.path().join("ca.pem"), &authority.pem).expect("the certificate is written");
            let path = folder.path().join("ca.pem").to_str().expect("a temporary folder in UTF-8").to_owned();
            (folder, path)
        });
        let mut servers = Servers::new();
        servers.listen(hub, Origin::Hub, tls.clone(), &state);
        servers.listen(cdn, Origin::Cdn, tls, &state);
        servers.listen(stranger, Origin::Stranger, None, &state);
        TestHub { _servers: servers, state, authority, secrets }
    }
}

impl TestHub {
    /// A hub without repositories and tokens, over plain HTTP.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            repositories: Vec::new(),
            tokens: BTreeMap::new(),
            tls: false,
            prefix: String::new(),
            page_size: PAGE_SIZE,
            bad_token_passes: false,
            mirror: None,
            signature_lifetime: SIGNATURE_LIFETIME,
        }
    }

    /// What goes into `HF_ENDPOINT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}{}", self.state.settings.hub_url, self.state.settings.prefix)
    }

    /// The scheme, host and port of the CDN. Only signed addresses lead to something there.
    #[must_use]
    pub fn cdn_url(&self) -> &str {
        &self.state.settings.cdn_url
    }

    /// A third origin, on the hub's host at another port and always plain HTTP. It serves what the CDN serves.
    #[must_use]
    pub fn stranger_url(&self) -> &str {
        &self.state.settings.stranger_url
    }

    /// The certificate to trust, as a PEM file. Panics without `Builder::tls`.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        Path::new(&self.authority.as_ref().expect("a hub started with tls()").1)
    }

    /// Every request so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.state.seen()
    }

    /// The requests that reached one of the origins.
    #[must_use]
    pub fn requests_to(&self, origin: Origin) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| seen.origin == origin).collect()
    }

    /// The requests, of any method and to any origin, for files in large file storage.
    #[must_use]
    pub fn weight_requests(&self) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| seen.is_weight || seen.origin != Origin::Hub).collect()
    }

    /// The requests for any file of a repository, large or small.
    #[must_use]
    pub fn file_requests(&self) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| seen.file.is_some() || seen.origin != Origin::Hub).collect()
    }

    /// The requests that carried a token, or anything as `Authorization`, anywhere but to the hub.
    #[must_use]
    pub fn leaks(&self) -> Vec<Seen> {
        let leaks = |seen: &Seen| {
            seen.header("authorization").is_some() || self.secrets.iter().any(|secret| seen.contains(secret))
        };
        self.requests().into_iter().filter(|seen| seen.origin != Origin::Hub && leaks(seen)).collect()
    }

    /// Begins the record of requests anew.
    pub fn forget_requests(&self) {
        self.state.forget_seen();
    }

    /// Adds a fault. The first that fits a request hits it, alone.
    pub fn fault(&self, fault: Fault) {
        lock(&self.state.faults).push(fault);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        lock(&self.state.faults).clear();
    }

    /// The commit that a revision means now.
    #[must_use]
    pub fn commit(&self, repository: &str, revision: &str) -> String {
        let shelves = lock(&self.state.shelves);
        let commit = shelves.get(repository).and_then(|shelf| shelf.commit(revision));
        commit.unwrap_or_else(|| panic!("the test hub has no {repository}@{revision}")).sha.clone()
    }

    /// Commits `tree` to a branch, new or old, and returns the commit. Earlier commits stay.
    #[expect(clippy::must_use_candidate, reason = "most tests only want the branch moved")]
    pub fn move_branch(&self, repository: &str, branch: &str, tree: Tree) -> String {
        self.state.move_branch(repository, branch, tree)
    }

    /// Adds a repository, or replaces one.
    pub fn put(&self, repository: Repo) {
        lock(&self.state.shelves).insert(repository.id.clone(), Shelf::new(repository));
    }

    /// Makes every signed address that was given out an expired one.
    pub fn expire_signatures(&self) {
        self.state.expire_signatures();
    }

    /// From now on knows this token too. `leaks` knows only those of the builder.
    pub fn accept_token(&self, token: &str, access: Access) {
        lock(&self.state.tokens).insert(token.to_owned(), access);
    }

    /// From now on this token is an invalid one.
    pub fn revoke_token(&self, token: &str) {
        lock(&self.state.tokens).remove(token);
    }
}
