//! Where clients come in and what lets them in: listeners, and the keys and certificates that are read again when they change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use plugin::FileStamp;
use server::{Access, Keys, Listener, Replaceable, TlsFiles, TlsSettings};
use tokio::time::MissedTickBehavior;

use crate::config::{ListenPlace, ListenSettings, Settings};
use crate::{Failure, exit};

/// How often the files are looked at. A kubelet takes a minute to bring a changed secret into a pod; and a look is some calls
/// of the system, which work on every file system, as notifications do not.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What lets clients in, as it is now, and what it was read from.
pub(crate) struct Doors {
    access: Replaceable<Access>,
    /// There from the start or not at all: a listener speaks TLS or does not.
    tls: Option<Replaceable<TlsSettings>>,
    source: Mutex<Source>,
    /// Held by who reads and replaces: whoever began with older settings does not have the last word.
    turn: tokio::sync::Mutex<()>,
}

struct Source {
    settings: ListenSettings,
    /// As they were before they were read.
    files: Vec<FileStamp>,
}

/// What lets clients in, read and not yet in force.
pub(crate) struct Credentials {
    keys: Option<Keys>,
    tls: Option<TlsSettings>,
    files: Vec<FileStamp>,
}

impl Credentials {
    /// Reads what the settings name.
    pub(crate) fn read(settings: &ListenSettings) -> anyhow::Result<Self> {
        let paths = settings.keys_file.iter().map(PathBuf::as_path);
        let paths = paths.chain(settings.tls.iter().flat_map(TlsFiles::paths));
        let files = paths.map(FileStamp::of).collect();
        let keys = settings.keys_file.as_deref().map(Keys::read).transpose()?;
        let tls = settings.tls.as_ref().map(TlsFiles::load).transpose().context("cannot speak TLS")?;
        Ok(Self { keys, tls, files })
    }

    fn log(&self, settings: &ListenSettings) {
        let (Some(keys), Some(path)) = (&self.keys, &settings.keys_file) else { return };
        tracing::info!(keys = keys.count(), file = %path.display(), "API keys read");
        if let Some(mode) = keys.others_may_read() {
            tracing::warn!(
                "{} has mode {mode:04o}: others on this machine may read the API keys; chmod 600 keeps them out",
                path.display()
            );
        }
    }
}

impl Doors {
    /// Opens them all, or says why one of them stays shut.
    pub(crate) async fn open(settings: &Settings) -> Result<(Arc<Self>, Vec<Listener>), Failure> {
        let listen = &settings.listen;
        let credentials = Credentials::read(listen).map_err(Failure::usage)?;
        credentials.log(listen);
        let Credentials { keys, tls, files } = credentials;
        let tls = tls.map(Replaceable::new);
        let mut listeners = Vec::new();
        for place in &listen.places {
            let listener = match place {
                ListenPlace::Address(address) => Listener::tcp(*address).await.map_err(anyhow::Error::from),
                ListenPlace::Socket(socket) => Listener::unix(socket).map_err(anyhow::Error::from),
            };
            let listener = listener.with_context(|| format!("cannot listen on {place}")).map_err(not_to_be_had)?;
            listeners.push(tls.iter().cloned().fold(listener, Listener::with_tls));
        }
        if let Some(address) = listen.probes {
            let listener =
                Listener::tcp(address).await.with_context(|| format!("cannot listen on {address} for probes"));
            listeners.push(listener.map_err(not_to_be_had)?.for_probes());
        }
        let access = Replaceable::new(access(settings, keys));
        let source = Mutex::new(Source { settings: listen.clone(), files });
        Ok((Arc::new(Self { access, tls, source, turn: tokio::sync::Mutex::default() }), listeners))
    }

    /// Who may ask, for the server to look at.
    pub(crate) fn access(&self) -> Replaceable<Access> {
        self.access.clone()
    }

    /// Whether listeners speak TLS, which takes a restart to change.
    pub(crate) fn speak_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// From now on these let clients in, by these settings. Connections that are open go on.
    pub(crate) async fn replace(&self, settings: &Settings, credentials: Credentials) {
        let _turn = self.turn.lock().await;
        credentials.log(&settings.listen);
        let Credentials { keys, tls, files } = credentials;
        self.access.replace(access(settings, keys));
        self.put(settings.listen.clone(), tls, files);
    }

    fn put(&self, settings: ListenSettings, new: Option<TlsSettings>, files: Vec<FileStamp>) {
        if let (Some(tls), Some(new)) = (&self.tls, new) {
            tls.replace(new);
        }
        *self.source() = Source { settings, files };
    }

    /// Reads the files again that are others now. What cannot be used leaves everything as it is.
    fn refresh(&self) {
        let _turn = self.turn.blocking_lock();
        let settings = self.source().settings.clone();
        match Credentials::read(&settings) {
            Ok(credentials) => {
                credentials.log(&settings);
                let Credentials { keys, tls, files } = credentials;
                self.access.replace(Access { keys, ..(*self.access.now()).clone() });
                self.put(settings, tls, files);
                tracing::info!("keys and certificates were read again; connections that are open go on");
            }
            Err(error) => {
                tracing::error!(
                    "keys and certificates stay as they were, since the changed files cannot be used: {error:#}"
                );
                // Said once for each change.
                let mut source = self.source();
                source.files = source.files.iter().map(|file| FileStamp::of(&file.path)).collect();
            }
        }
    }

    /// Looks after the files for ever.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut clock = tokio::time::interval(LOOK_INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed: Option<Vec<FileStamp>> = None;
        loop {
            clock.tick().await;
            let before = self.source().files.clone();
            let now: Vec<FileStamp> = before.iter().map(|file| FileStamp::of(&file.path)).collect();
            if now == before {
                changed = None;
            } else if changed.as_ref() == Some(&now) {
                // Whoever writes them is done: a certificate and its key come one after the other.
                let this = Arc::clone(&self);
                let _ended = tokio::task::spawn_blocking(move || this.refresh()).await;
                changed = None;
            } else {
                changed = Some(now);
            }
        }
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn access(settings: &Settings, keys: Option<Keys>) -> Access {
    Access { hosts: settings.allowed_hosts.clone(), caller_header: settings.caller_header.clone(), keys }
}

fn not_to_be_had(error: anyhow::Error) -> Failure {
    Failure { code: exit::LISTEN, error }
}
