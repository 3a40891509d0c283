//! `outrigger serve`: listen first, download and load behind it, drain at the end.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, anyhow};
use server::{Drained, HttpConfig, Models, PluginAdmin, Service};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::{Serve, SettingsArguments};
use crate::config::{Said, Settings};
use crate::console::Stderr;
use crate::doors::Doors;
use crate::lifecycle::Lifecycle;
use crate::reload::{self, Admin, Everything, Reloader};
use crate::{Failure, exit, service_manager, wiring};

/// Threads for work off the async ones: tokenizing for requests that hold a slot, a load, the files of a download. More slots than that
/// are for more processors than tokenizing should have beside the model; what finds no thread waits for one, in its slot.
const BLOCKING_THREADS_MAX: usize = 64;

pub(crate) fn serve(arguments: Serve) -> Result<(), Failure> {
    let Serve { settings: arguments } = arguments;
    let said = arguments.said.clone().or_file(arguments.config.as_deref()).map_err(Failure::usage)?;
    let settings = Settings::from_said(said.clone()).map_err(Failure::usage)?;
    telemetry::logging::init(settings.log_format, &settings.log, Stderr::default)
        .map_err(|error| Failure::usage(error.into()))?;
    settings.store.log_warnings();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(io_threads())
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(listen_and_serve(settings, said, arguments));
    // A load that is still under way in C++ is not waited for.
    runtime.shutdown_background();
    result
}

/// Threads that move bytes. The processors are for the model: each of these that wakes for a token takes one of them
/// away from it, for some 150 µs with cold caches (two cores, SmolLM2), so one thread is enough for four cores.
fn io_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get() / 4).clamp(1, 4)
}

/// `arguments`: what `said` and the `settings` were made of, to be read again.
async fn listen_and_serve(settings: Settings, said: Said, arguments: SettingsArguments) -> Result<(), Failure> {
    // The port first: whoever asks learns from the first moment that the model is on its way.
    let (doors, listeners) = Doors::open(&settings).await?;
    let address = listeners.iter().filter(|listener| !listener.is_for_probes()).find_map(server::Listener::address);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "outrigger");

    let metrics = wiring::metrics();
    let service = |model| Arc::new(Service::new(wiring::service_config(&settings, model), metrics.clone()));
    let models = Models::new(settings.models.iter().map(service).collect());
    let drain = settings.drain;
    let reloader = Reloader::new(arguments.clone(), &settings, models.clone(), metrics.plugins.clone());
    let reloader = Arc::new(reloader);
    // From here on, SIGHUP does not end the process.
    let hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let everything = Everything {
        arguments,
        said: Mutex::new(said),
        doors: Arc::clone(&doors),
        models: models.clone(),
        plugins: Arc::clone(&reloader),
    };
    tokio::spawn(everything.on_hangup(hangup));
    let access = doors.access();
    tokio::spawn(doors.watch());
    tokio::spawn(service_manager::watch_over(models.clone()));
    let started = models.clone();
    tokio::spawn(async move {
        started.started().await;
        service_manager::ready();
    });
    if settings.plugin_watch {
        tokio::spawn(reload::watch(Arc::clone(&reloader)));
    }
    let admin = settings.admin.then(|| Arc::new(Admin(Arc::clone(&reloader))) as Arc<dyn PluginAdmin>);
    let connections_max = settings.connections_max;
    let http = HttpConfig { access, admin, connections_max, drain_grace: drain, ..HttpConfig::default() };

    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(server::serve(listeners, models.clone(), http, async {
        let _ = stopped.await;
    }));
    let mut signals = Signals::new()?;

    let lifecycle = Lifecycle::new(&settings, &models, &metrics, &reloader)?;
    let is_ready = tokio::select! {
        brought = lifecycle.bring() => brought.map(|()| true)?,
        () = signals.next() => false,
    };
    if is_ready {
        tracing::info!(address = address.map(|address| address.to_string()), "ready");
        signals.next().await;
    }
    service_manager::stopping();
    tracing::info!("draining: running answers may finish; a second signal ends at once");
    drop(stop);
    let drained = tokio::select! {
        drained = server => drained.context("the server panicked")?,
        () = signals.next() => leave(exit::SECOND_SIGNAL, "ended by a second signal; answers were cut off"),
    };
    if !is_ready || lifecycle.is_busy() {
        // C++ may be still reading a model on another thread; the destructors of a normal exit would pull its ground away.
        let code = if drained == Drained::Complete { 0 } else { exit::CUT_OFF };
        leave(code, "ended before the model was loaded");
    }
    match drained {
        Drained::Complete => {
            tracing::info!("ended; every request was answered");
            Ok(())
        }
        Drained::Cancelled { requests } => {
            let seconds = drain.as_secs();
            let error = anyhow!("{requests} requests did not finish within the {seconds} s of drain_seconds");
            Err(Failure { code: exit::CUT_OFF, error })
        }
    }
}

/// Ends the process without destructors of any kind.
fn leave(code: u8, why: &str) -> ! {
    tracing::warn!("{why}");
    #[expect(unsafe_code, reason = "std can only exit with destructors")]
    // SAFETY: takes no pointers and does not return.
    unsafe {
        libc::_exit(code.into())
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let attempt = || anyhow!("cannot listen for signals");
        Ok(Self {
            terminate: signal(SignalKind::terminate()).with_context(attempt)?,
            interrupt: signal(SignalKind::interrupt()).with_context(attempt)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
