//! A client of the test hub, and what tests ask of it.

use std::ops::Range;
use std::time::Duration;

use hub::{Body, Endpoint, Hub, HubConfig, HubError, Patience, RemoteFile, Timeouts, TokenSource, Tokens};
use model::{Commit, RepositoryId, RepositoryPath, Revision};
use test_hub::{Builder, Content, Kind, Repo, Retry, TestHub};

/// The token that the test hub knows.
pub(crate) const TOKEN: &str = "hf_canaryQ7";
pub(crate) const ID: &str = "acme/tiny";
pub(crate) const WEIGHTS: &str = "model-Q4_K_M.gguf";
pub(crate) const WEIGHTS_BYTES: u64 = 300_000;
pub(crate) const README: &str = "README.md";

pub(crate) fn weights() -> Content {
    Content::generated(7, WEIGHTS_BYTES)
}

pub(crate) fn tiny() -> Repo {
    Repo::new(ID).file(WEIGHTS, weights(), Kind::Lfs).file(README, "# tiny\n", Kind::Git)
}

/// A hub with one repository and one token.
pub(crate) fn builder() -> Builder {
    TestHub::builder().repository(tiny()).token(TOKEN)
}

/// Retries at once, and never sleeps for long.
pub(crate) fn config(endpoint: &str) -> HubConfig {
    HubConfig {
        endpoint: Endpoint::parse(endpoint).expect("an endpoint"),
        offline: None,
        tokens: Tokens::none(),
        ca_files: Vec::new(),
        timeouts: Timeouts { connect: Duration::from_secs(5), idle: Duration::from_secs(20) },
        patience: Patience {
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_millis(5),
            retries_max: 3,
            asked_max: Duration::from_secs(30),
        },
    }
}

pub(crate) fn anonymous(hub: &TestHub) -> Hub {
    Hub::new(config(&hub.url())).expect("a client")
}

pub(crate) fn tokens(value: &str) -> Tokens {
    Tokens::none().value(value, TokenSource::Environment("HF_TOKEN")).expect("a sound token")
}

pub(crate) fn with_token(hub: &TestHub, token: &str) -> Hub {
    Hub::new(HubConfig { tokens: tokens(token), ..config(&hub.url()) }).expect("a client")
}

pub(crate) fn repository(id: &str) -> RepositoryId {
    let (org, model) = id.split_once('/').expect("org/model");
    RepositoryId::new(org, model).expect("a repository")
}

pub(crate) fn revision(name: &str) -> Revision {
    Revision::parse(name).expect("a revision")
}

pub(crate) fn commit(hub: &TestHub, id: &str) -> Commit {
    Commit::parse(&hub.commit(id, "main")).expect("a commit")
}

pub(crate) fn file(client: &Hub, hub: &TestHub, path: &str) -> RemoteFile {
    client.file(&repository(ID), &commit(hub, ID), &RepositoryPath::parse(path).expect("a path"))
}

/// What came, and which part of the file it is.
pub(crate) async fn read(file: &RemoteFile, range: Range<u64>, whole: u64) -> Result<(Range<u64>, Vec<u8>), HubError> {
    let mut body = file.read(range, whole).await?;
    let bytes = drain(&mut body).await?;
    Ok((body.range(), bytes))
}

pub(crate) async fn drain(body: &mut Body) -> Result<Vec<u8>, HubError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// All of the weights, or the first error.
pub(crate) async fn read_weights(client: &Hub, hub: &TestHub) -> Result<Vec<u8>, HubError> {
    let read = read(&file(client, hub, WEIGHTS), 0..WEIGHTS_BYTES, WEIGHTS_BYTES).await;
    read.map(|(_, bytes)| bytes)
}

/// Every form of "come back later" that asks for this many seconds.
pub(crate) fn each_retry(seconds: u64) -> [Retry; 3] {
    [Retry::RateLimit(seconds), Retry::Seconds(seconds), Retry::Date(seconds)]
}

/// The error and everything below it, in both forms.
pub(crate) fn everything(error: &HubError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text} {error} {error:?}");
        source = error.source();
    }
    text
}
