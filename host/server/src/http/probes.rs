//! Has it started, is it alive, is it ready, and what has it counted: for whoever watches over us. They are answered on the API's
//! addresses and, with nothing else, on one of their own, as a kubelet cannot reach a pod's loopback.
//!
//! Probes need no key: what they tell is no content. `/metrics` needs one where the API does, but not on the address for probes,
//! where a scraper is who one expects.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use telemetry::Format;

use super::HttpConfig;
use super::routes::{self, App, json};
use super::status::Failure;
use crate::Standing;
use crate::service::{Liveness, Readiness, Service};

/// What needs no key.
const PROBES: [&str; 5] = ["/livez", "/startupz", "/readyz", "/health", "/v1/ready"];

const METRICS: &str = "/metrics";

/// Whether a path needs no key.
pub(super) fn is_probe(path: &str) -> bool {
    PROBES.contains(&path)
}

/// What an address for probes answers.
pub(super) fn router(service: Arc<Service>, config: HttpConfig) -> Router {
    let is_here = |path: &str| is_probe(path) || path == METRICS;
    routes::assemble(App::new(service, config, true), is_here, not_here)
}

async fn not_here(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(128).collect();
    let message = format!("{path} is not answered on this address, which is for probes and {METRICS} alone");
    Failure::client(StatusCode::NOT_FOUND, "not_found", message)
}

/// Alive as long as it gets on, also while it loads and while it drains: an orchestrator that saw otherwise would kill what is
/// about to begin or to finish.
pub(super) async fn live(State(app): State<Arc<App>>) -> Response {
    let (engine, reason) = match app.service.liveness() {
        Liveness::NotLoaded => ("none", None),
        Liveness::Idle => ("idle", None),
        Liveness::Working => ("working", None),
        Liveness::Stalled { since_step } => {
            let seconds = since_step.as_secs();
            let reason =
                format!("there is work, and the engine has not ended a step for {seconds} s; only a restart helps");
            ("stalled", Some(reason))
        }
        Liveness::Stopped => {
            ("stopped", Some("the engine's thread has ended, which the log explains; only a restart helps".to_owned()))
        }
    };
    let (code, status) = match reason {
        None => (StatusCode::OK, "ok"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, engine),
    };
    (code, json(&Probe { status, reason, engine: Some(engine), requests: None })).into_response()
}

/// Started once the model is loaded, or waits for its first use, and from then on: what comes later is for the other probes.
pub(super) async fn started(State(app): State<Arc<App>>) -> Response {
    if app.service.has_started() {
        return json(&Probe { status: "ok", ..Probe::default() });
    }
    let (status, reason) = reason(&app, app.service.readiness());
    (StatusCode::SERVICE_UNAVAILABLE, json(&Probe { status, reason, ..Probe::default() })).into_response()
}

pub(super) async fn ready(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let readiness = app.service.readiness();
    let code = match readiness {
        Readiness::Ready | Readiness::OnFirstUse => StatusCode::OK,
        Readiness::Loading(_) | Readiness::Failed(_) | Readiness::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    let (status, reason) = reason(&app, readiness);
    // As Kubernetes' own probes have it: `?verbose`.
    let is_verbose =
        uri.query().is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("verbose")));
    let requests = is_verbose.then(|| Line::of(&app.service.standing()));
    (code, json(&Probe { status, reason, requests, ..Probe::default() })).into_response()
}

pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let format = Format::from_accept(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    ([(CONTENT_TYPE, format.content_type())], app.service.metrics().encode(format)).into_response()
}

fn reason(app: &App, readiness: Readiness) -> (&'static str, Option<String>) {
    match readiness {
        Readiness::Ready => ("ok", None),
        // Whoever waited for more than this before sending requests would wait for ever.
        Readiness::OnFirstUse => ("ok", Some("the model is loaded at its first use".to_owned())),
        Readiness::Loading(progress) => ("loading", Some(progress)),
        // It has paths and addresses of this machine in it, and who asks here may be anybody.
        Readiness::Failed(_) if app.is_for_probes => ("failed", Some("the log says why".to_owned())),
        Readiness::Failed(reason) => ("failed", Some(reason)),
        Readiness::Draining => ("draining", None),
    }
}

#[derive(Default, Serialize)]
struct Probe {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Line>,
}

/// How things stand with slots and line.
#[derive(Serialize)]
struct Line {
    running: usize,
    waiting: usize,
    batch_waiting: usize,
    prompt_tokens_waiting: u64,
    callers: usize,
    /// The mean time that a request holds its slot; `null` until enough were answered.
    request_ms: Option<u128>,
}

impl Line {
    fn of(standing: &Standing) -> Self {
        Self {
            running: standing.running,
            waiting: standing.waiting(),
            batch_waiting: standing.batch_waiting,
            prompt_tokens_waiting: standing.waiting_tokens,
            callers: standing.callers,
            request_ms: standing.service.map(|service| service.as_millis()),
        }
    }
}
