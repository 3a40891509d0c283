//! HTTP/1.1 on a listener, from the first connection to the last byte of the drain.

mod admin;
mod body;
mod connection;
mod encode;
mod generate;
mod guard;
mod listener;
mod openapi;
mod probes;
mod prompts;
mod routes;
mod socket;
mod status;
mod stream;
mod terms;
mod unix_socket;
mod watch;

pub use listener::Listener;
pub use openapi::openapi;
pub use routes::{Reach, routes};
pub use unix_socket::{SocketConfig, SocketError};

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::select_all;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::access::{Access, Replaceable};
use crate::admin::PluginAdmin;
use crate::limits;
use crate::models::Models;

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request was answered.
    Complete,
    /// The grace period was over first.
    Cancelled {
        /// Requests that were broken off.
        requests: usize,
    },
}

/// Serves `models` on `listeners` until `shutdown`, then drains.
///
/// While it drains it goes on accepting connections, since a probe that is refused has an orchestrator kill what is
/// about to finish: `/livez` says 200, `/readyz` 503, and chats are refused. Requests that run or wait get
/// [`HttpConfig::drain_grace`] to finish; the rest is broken off with an error that says so.
pub async fn serve(
    listeners: Vec<Listener>,
    models: impl Into<Models>,
    config: HttpConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let (models, config) = (models.into(), Arc::new(config));
    for listener in &listeners {
        listener.announce();
    }
    info!(
        connections_max = config.connections_max,
        memory_mib_max =
            limits::memory_bytes_max(config.connections_max + limits::PROBE_CONNECTIONS_MAX) / (1024 * 1024),
        "serving"
    );
    let (draining, _) = tokio::sync::watch::channel(false);
    let (probes, api): (Vec<_>, Vec<_>) = listeners.into_iter().partition(Listener::is_for_probes);
    let connections = |listeners, router, places: usize| Connections {
        listeners,
        router,
        places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
        config: Arc::clone(&config),
        draining: draining.clone(),
        tasks: JoinSet::new(),
    };
    let router = routes::router(models.clone(), (*config).clone());
    let mut api = connections(api, router, config.connections_max);
    // Places of their own: however many clients there are, whoever watches over us gets in.
    let router = probes::router(models.clone(), (*config).clone());
    let mut probes = connections(probes, router, limits::PROBE_CONNECTIONS_MAX);

    tokio::select! {
        () = api.accept() => {}
        () = probes.accept() => {}
        () = shutdown => {}
    }
    models.drain();
    draining.send_replace(true);
    let deadline = Instant::now() + config.drain_grace;
    info!(requests = models.active(), grace_s = config.drain_grace.as_secs_f32(), "draining");
    tokio::select! {
        () = api.accept() => {}
        () = probes.accept() => {}
        () = finished(&models) => {}
        () = tokio::time::sleep_until(deadline) => {}
    }

    let requests = models.active();
    if requests > 0 {
        warn!(requests, "the grace period is over; breaking off what still runs");
        models.cancel();
    }
    let close_by = if requests > 0 { Instant::now() } else { deadline };
    let deadline = close_by + limits::CLOSE_GRACE;
    tokio::join!(api.close(deadline), probes.close(deadline));
    if requests > 0 { Drained::Cancelled { requests } } else { Drained::Complete }
}

/// Connections that share their places.
struct Connections {
    listeners: Vec<Listener>,
    router: axum::Router,
    config: Arc<HttpConfig>,
    places: Arc<Semaphore>,
    draining: tokio::sync::watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Accepts for ever. May be dropped and called again.
    async fn accept(&mut self) {
        if self.listeners.is_empty() {
            return std::future::pending().await;
        }
        loop {
            // The place comes first: whom we have no place for waits in the kernel, at no cost to us.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let (accepted, index, _) =
                select_all(self.listeners.iter().map(|listener| listener.accept().boxed())).await;
            // The next one is looked at first: one that always has somebody does not keep the others from having anybody.
            self.listeners.rotate_left(index + 1);
            let arrived = match accepted {
                Ok(arrived) => arrived,
                Err(error) => {
                    warn!(%error, "failed to accept a connection; trying again shortly");
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (router, config) = (self.router.clone(), Arc::clone(&self.config));
            let draining = self.draining.subscribe();
            self.tasks.spawn(async move {
                connection::serve_connection(arrived, router, &config, draining).await;
                drop(place);
            });
            // Those that ended meanwhile, so that the set does not grow with the connections of a lifetime.
            while self.tasks.try_join_next().is_some() {}
        }
    }

    /// Stops listening and lets connections carry their last bytes.
    async fn close(self, deadline: Instant) {
        let Self { listeners, mut tasks, .. } = self;
        drop(listeners);
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        let _in_time = tokio::time::timeout_at(deadline, all_ended).await;
    }
}

/// Waits until no request runs or waits.
async fn finished(models: &Models) {
    while models.active() > 0 {
        tokio::time::sleep(limits::DRAIN_INTERVAL).await;
    }
}

/// What an operator decides about connections.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Who may ask.
    pub access: Replaceable<Access>,
    /// Who answers the admin routes; `None`: nobody.
    pub admin: Option<Arc<dyn PluginAdmin>>,
    /// Connections at once.
    pub connections_max: usize,
    /// Bytes of a request body.
    pub body_bytes_max: usize,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time for a request's head to arrive.
    pub head_timeout: Duration,
    /// Time for a request's whole body to arrive.
    pub body_timeout: Duration,
    /// Time that a connection may stay open between two requests.
    pub idle_timeout: Duration,
    /// Time after which a client that does not read loses its connection.
    pub write_stall_max: Duration,
    /// Silence after which a stream carries a comment.
    pub ping_interval: Duration,
    /// Time that running requests get to finish after `shutdown`.
    pub drain_grace: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            access: Replaceable::default(),
            admin: None,
            connections_max: limits::CONNECTIONS_MAX_DEFAULT,
            body_bytes_max: limits::BODY_BYTES_MAX_DEFAULT,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT_DEFAULT,
            head_timeout: limits::HEAD_TIMEOUT_DEFAULT,
            body_timeout: limits::BODY_TIMEOUT_DEFAULT,
            idle_timeout: limits::IDLE_TIMEOUT_DEFAULT,
            write_stall_max: limits::WRITE_STALL_MAX_DEFAULT,
            ping_interval: limits::PING_INTERVAL,
            drain_grace: limits::DRAIN_GRACE_DEFAULT,
        }
    }
}
