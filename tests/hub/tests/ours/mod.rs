//! Our own store, pulling from any hub, with the patience of a test.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hub::{Endpoint, Hub, HubConfig, Patience, Timeouts, TokenSource, Tokens};
use model::HubReference;
use store::{LocalModel, Progress, PullOptions, Snapshot, Store};

/// How a pull ended.
pub(crate) struct Pulled {
    /// The model, or the whole chain of what went wrong. `None`: it had not ended when it was given up.
    pub result: Option<Result<LocalModel, String>>,
    pub snapshot: Snapshot,
}

impl Pulled {
    #[track_caller]
    pub(crate) fn unwrap(self) -> LocalModel {
        self.result.expect("a pull that ends").unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A hub's client that is as stubborn as it is for people, in less time.
pub(crate) fn client(endpoint: &str, ca_file: Option<&Path>, token: Option<&str>) -> Hub {
    let mut tokens = Tokens::none();
    if let Some(token) = token {
        tokens = tokens.value(token, TokenSource::Config("the test".to_owned())).expect("a token");
    }
    let config = HubConfig {
        endpoint: Endpoint::parse(endpoint).expect("an endpoint"),
        offline: None,
        tokens,
        ca_files: ca_file.map(Path::to_owned).into_iter().collect(),
        timeouts: Timeouts { idle: Duration::from_millis(500), ..Timeouts::default() },
        patience: Patience {
            delay_min: Duration::from_millis(5),
            delay_max: Duration::from_millis(50),
            retries_max: 5,
            asked_max: Duration::from_secs(5),
        },
    };
    Hub::new(config).expect("a client")
}

/// Pulls into `models_dir`, and gives up after `limit`.
pub(crate) fn pull(models_dir: &Path, hub: &Hub, reference: &str, limit: Duration) -> Pulled {
    let reference = HubReference::parse(reference).expect("a reference");
    let progress = Arc::new(Progress::default());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let result = runtime.block_on(async {
        let store = Store::open(models_dir).map_err(|error| chain(&error))?;
        let pull = store.pull(hub, &reference, PullOptions::default(), &progress);
        match tokio::time::timeout(limit, pull).await {
            Ok(pulled) => pulled.map(Some).map_err(|error| chain(&error)),
            Err(_) => Ok(None),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    Pulled { result: result.transpose(), snapshot: progress.snapshot() }
}

/// An error with all its causes, as the command shows them.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.extend([": ", &error.to_string()]);
        source = error.source();
    }
    text
}
