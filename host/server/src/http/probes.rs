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
use schemars::JsonSchema;
use serde::Serialize;
use telemetry::Format;

use super::HttpConfig;
use super::routes::{self, App, json};
use super::status::Failure;
use crate::Standing;
use crate::models::Models;
use crate::service::{Liveness, Readiness, Service};

/// What needs no key.
const PROBES: [&str; 5] = ["/livez", "/startupz", "/readyz", "/health", "/v1/ready"];

const METRICS: &str = "/metrics";

/// Whether a path needs no key.
pub(super) fn is_probe(path: &str) -> bool {
    PROBES.contains(&path)
}

/// What an address for probes answers.
pub(super) fn router(models: Models, config: HttpConfig) -> Router {
    let is_here = |path: &str| is_probe(path) || path == METRICS;
    routes::assemble(App::new(models, config, true), is_here, not_here)
}

async fn not_here(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(128).collect();
    let message = format!("{path} is not answered on this address, which is for probes and {METRICS} alone");
    Failure::client(StatusCode::NOT_FOUND, "not_found", message)
}

/// Alive as long as it gets on, also while it loads and while it drains: an orchestrator that saw otherwise would kill what is
/// about to begin or to finish. Of several models the one counts with which it is worst.
pub(super) async fn live(State(app): State<Arc<App>>) -> Response {
    let (service, liveness) = app.models.liveness();
    let (engine, reason) = match liveness {
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
    let reason = reason.map(|reason| match app.models.only() {
        Some(_) => reason,
        None => format!("{}: {reason}", service.id()),
    });
    let (code, status) = match reason {
        None => (StatusCode::OK, "ok"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, engine),
    };
    (code, json(&Probe { status, reason, engine: Some(engine), ..Probe::default() })).into_response()
}

/// Started once all models that are loaded at the start are, and from then on: what comes later is for the other probes.
pub(super) async fn started(State(app): State<Arc<App>>) -> Response {
    if app.models.has_started() {
        return json(&Probe { status: "ok", ..Probe::default() });
    }
    let (status, reason) = state(&app, app.models.readiness());
    (StatusCode::SERVICE_UNAVAILABLE, json(&Probe { status, reason, ..Probe::default() })).into_response()
}

pub(super) async fn ready(State(app): State<Arc<App>>, uri: Uri) -> Response {
    // As Kubernetes' own probes have it: `?verbose`.
    let is_verbose =
        uri.query().is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("verbose")));
    let line = |service: &Service| is_verbose.then(|| Line::of(&service.standing()));
    let readiness = app.models.readiness();
    let code = match readiness {
        // Whoever waited for more than this before sending requests would wait for ever.
        Readiness::Ready | Readiness::OnFirstUse => StatusCode::OK,
        Readiness::Loading(_) | Readiness::Failed(_) | Readiness::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    let (status, reason) = state(&app, readiness);
    let status = if code == StatusCode::OK { "ok" } else { status };
    let (requests, models) = if let Some(only) = app.models.only() {
        (line(only), Vec::new())
    } else {
        let one = |service: &Arc<Service>| {
            let (state, reason) = state(&app, service.readiness());
            ModelProbe { id: service.id().to_owned(), state, reason, requests: line(service) }
        };
        (None, app.models.iter().map(one).collect())
    };
    (code, json(&Probe { status, reason, requests, models, ..Probe::default() })).into_response()
}

pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let format = Format::from_accept(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    ([(CONTENT_TYPE, format.content_type())], app.models.metrics().encode(format)).into_response()
}

/// A word for it, and what whoever asks here may know of it.
fn state(app: &App, readiness: Readiness) -> (&'static str, Option<String>) {
    match readiness {
        // It has paths and addresses of this machine in it, and who asks here may be anybody.
        Readiness::Failed(_) if app.is_for_probes => ("failed", Some("the log says why".to_owned())),
        readiness => routes::state(readiness),
    }
}

#[derive(Default, Serialize, JsonSchema)]
#[schemars(rename = "Probe")]
pub(super) struct Probe {
    #[schemars(extend("enum" = ["ok", "loading", "failed", "draining", "stalled", "stopped"]))]
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How the engine gets on.
    #[schemars(extend("enum" = ["none", "idle", "working", "stalled", "stopped"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Line>,
    /// Where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<ModelProbe>,
}

/// How one of several models is.
#[derive(Serialize, JsonSchema)]
struct ModelProbe {
    id: String,
    #[schemars(extend("enum" = ["ready", "on_first_use", "loading", "failed", "draining"]))]
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Line>,
}

/// How things stand with slots and line.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Line")]
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
