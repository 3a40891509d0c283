//! Which path is answered by whom, and what goes around every answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use inference::RequestId;
use schemars::JsonSchema;
use serde::Serialize;
use telemetry::Format;
use uuid::Uuid;

use super::body::BodyReader;
use super::openapi::{Operation, operations};
use super::status::Failure;
use super::{HttpConfig, admin, encode, generate, guard, openapi, prompts};
use crate::models::Models;
use crate::service::{Readiness, Service};
use crate::wire::schemas::Schemas;
use crate::wire::{self, ModelList, ModelObject};
use crate::{Standing, limits};

/// What every handler may need.
pub(super) struct App {
    pub(super) models: Models,
    pub(super) config: HttpConfig,
    pub(super) bodies: BodyReader,
}

/// The address that a request's connection arrived at; put into its extensions by the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct ArrivedAt(pub(super) IpAddr);

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The model answers: every plugin has a part in it.
    Answer,
    /// The prompt that the model would read: the plugins before the model have a part in it.
    Prompt,
    /// A model that encodes. No plugin is there for one.
    Encoding,
    /// Tokens, facts and figures: nothing that a plugin is about.
    Facts,
}

/// A path that is served.
pub(super) struct Route {
    pub(super) path: &'static str,
    /// What metrics call it.
    name: &'static str,
    /// What the OpenAPI document says of it.
    pub(super) described: fn(&mut Schemas) -> Operation,
    reach: Reach,
    method: fn() -> MethodRouter<Arc<App>>,
}

pub(super) const ROUTES: [Route; 20] = [
    route("/v1/chat/completions", "chat_completions", operations::chat, Reach::Answer, || post(generate::chat)),
    route("/v1/completions", "completions", operations::completion, Reach::Answer, || post(generate::completion)),
    route("/v1/messages", "messages", operations::message, Reach::Answer, || post(generate::message)),
    route("/v1/responses", "responses", operations::response, Reach::Answer, || post(generate::response)),
    route("/v1/messages/count_tokens", "count_tokens", operations::count_tokens, Reach::Prompt, || {
        post(prompts::count_tokens)
    }),
    route("/render", "render", operations::render, Reach::Prompt, || post(prompts::render)),
    route("/tokenize", "tokenize", operations::tokenize, Reach::Facts, || post(prompts::tokenize)),
    route("/detokenize", "detokenize", operations::detokenize, Reach::Facts, || post(prompts::detokenize)),
    route("/v1/embeddings", "embeddings", operations::embeddings, Reach::Encoding, || post(encode::embeddings)),
    route("/v1/rerank", "rerank", operations::rerank, Reach::Encoding, || post(encode::rerank)),
    route("/v1/models", "models", operations::models, Reach::Facts, || get(models)),
    route("/v1/models/{*id}", "models", operations::model, Reach::Facts, || get(model)),
    route("/livez", "livez", operations::live, Reach::Facts, || get(live)),
    route("/readyz", "readyz", operations::ready, Reach::Facts, || get(ready)),
    route("/health", "readyz", operations::health, Reach::Facts, || get(ready)),
    route("/v1/ready", "readyz", operations::v1_ready, Reach::Facts, || get(ready)),
    route("/openapi.json", "openapi", operations::openapi, Reach::Facts, || get(openapi_document)),
    route("/metrics", "metrics", operations::metrics, Reach::Facts, || get(metrics)),
    route("/admin/plugins", "admin", operations::plugins, Reach::Facts, || get(admin::plugins)),
    route("/admin/plugins/reload", "admin", operations::reload, Reach::Facts, || post(admin::reload)),
];

const fn route(
    path: &'static str,
    name: &'static str,
    described: fn(&mut Schemas) -> Operation,
    reach: Reach,
    method: fn() -> MethodRouter<Arc<App>>,
) -> Route {
    Route { path, name, described, reach, method }
}

/// Every path that is served, as the router has it, and what it leads to.
pub fn routes() -> impl Iterator<Item = (&'static str, Reach)> {
    ROUTES.iter().map(|route| (route.path, route.reach))
}

pub(super) fn router(models: Models, config: HttpConfig) -> Router {
    let bodies = BodyReader::new(config.body_bytes_max, config.body_timeout);
    let app = Arc::new(App { models, config, bodies });
    ROUTES
        .iter()
        .fold(Router::new(), |router, route| router.route(route.path, (route.method)()))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), around))
        .with_state(app)
}

/// Around every request: its name, the check of its sender, and the count of its response.
async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = new_request_id();
    let path = request.uri().path();
    let route = route_name(path);
    // Whoever speaks this form reads no other, whatever it is that went wrong.
    let is_messages = path.strip_prefix(MESSAGES).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let arrived_at = request.extensions().get::<ArrivedAt>().map_or(IpAddr::from([127, 0, 0, 1]), |at| at.0);
    let checked = guard::check_sender(request.uri(), request.headers(), arrived_at, &app.config.hosts_allowed);
    let mut response = match checked {
        Ok(()) => {
            request.extensions_mut().insert(id.clone());
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    };
    if is_messages && let Some(failure) = response.extensions_mut().remove::<Failure>() {
        // Only the body: a header may say when to come again, or which method is right.
        let error = wire::message_error(failure.status.as_u16(), &failure.body, id.as_str());
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = error.into();
    }
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        if is_messages {
            response.headers_mut().insert("request-id", id.clone());
        }
        response.headers_mut().insert("x-request-id", id);
    }
    app.models.metrics().http_response(route, response.status().as_u16());
    response
}

/// Time-ordered, so that names sort as the requests came.
pub(super) fn new_request_id() -> RequestId {
    RequestId::new(Uuid::now_v7().simple().to_string())
}

async fn models(State(app): State<Arc<App>>) -> Response {
    json(&ModelList::new(app.models.iter().map(|service| described(service)).collect()))
}

async fn model(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    // What is no text names no model.
    let id = id.map_or_else(|_| uri.path().trim_start_matches("/v1/models/").to_owned(), |Path(id)| id);
    // What is not served may be of any length.
    let id = if id.len() > limits::SHORT_TEXT_BYTES_MAX { id.chars().take(64).collect() } else { id };
    let service = app.models.of(&id).map_err(|error| Failure::from(&error))?;
    Ok(json(&described(service)))
}

fn described(service: &Service) -> ModelObject {
    let (state, reason) = state(service.readiness());
    ModelObject::new(service.id(), state, reason, service.model(), service.device().as_deref())
}

/// A word for how a model is, and what there is to say of it.
fn state(readiness: Readiness) -> (&'static str, Option<String>) {
    match readiness {
        Readiness::Ready => ("ready", None),
        Readiness::OnFirstUse => ("on_first_use", Some("the model is loaded at its first use".to_owned())),
        Readiness::Loading(progress) => ("loading", Some(progress)),
        Readiness::Failed(reason) => ("failed", Some(reason)),
        Readiness::Draining => ("draining", None),
    }
}

/// Alive as long as it answers at all, also while it drains: an orchestrator that saw otherwise would kill what is
/// about to finish.
async fn live() -> Response {
    json(&Probe { status: "ok", reason: None, requests: None, models: Vec::new() })
}

async fn ready(State(app): State<Arc<App>>, uri: Uri) -> Response {
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
    let (status, reason) = state(readiness);
    let status = if code == StatusCode::OK { "ok" } else { status };
    let probe = if let Some(only) = app.models.only() {
        Probe { status, reason, requests: line(only), models: Vec::new() }
    } else {
        let one = |service: &Arc<Service>| {
            let (state, reason) = state(service.readiness());
            ModelProbe { id: service.id().to_owned(), state, reason, requests: line(service) }
        };
        Probe { status, reason, requests: None, models: app.models.iter().map(one).collect() }
    };
    (code, json(&probe)).into_response()
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

/// What can be asked here, and how.
async fn openapi_document() -> Response {
    ([(CONTENT_TYPE, "application/json")], openapi::openapi()).into_response()
}

async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let format = Format::from_accept(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    ([(CONTENT_TYPE, format.content_type())], app.models.metrics().encode(format)).into_response()
}

/// axum adds `Allow`.
async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    let message = format!("{method} is not allowed on {}; the Allow header says what is", uri.path());
    Failure::client(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn not_found(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(128).collect();
    match path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next()) {
        Some(area) if OPENAI_AREAS.contains(&area) => Failure::unserved(&path),
        _ => {
            let message =
                format!("{path} is not a path of this server; try /v1/chat/completions, /v1/embeddings or /v1/models");
            Failure::client(StatusCode::NOT_FOUND, "not_found", message)
        }
    }
}

/// Where Anthropic's form is spoken.
const MESSAGES: &str = "/v1/messages";

/// R34: parts of OpenAI's API. Where they are not served, a client learns that, rather than that its URL is wrong.
const OPENAI_AREAS: [&str; 22] = [
    "assistants",
    "audio",
    "batches",
    "chat",
    "completions",
    "containers",
    "conversations",
    "embeddings",
    "evals",
    "files",
    "fine_tuning",
    "images",
    "messages",
    "moderations",
    "organization",
    "realtime",
    "rerank",
    "responses",
    "threads",
    "uploads",
    "vector_stores",
    "videos",
];

/// What metrics call a path: a few fixed words, whatever clients ask for.
fn route_name(path: &str) -> &'static str {
    match ROUTES.iter().find(|route| route.path == path) {
        Some(route) => route.name,
        None if path.starts_with("/v1/models/") => "models",
        None => "other",
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Probe")]
pub(super) struct Probe {
    #[schemars(extend("enum" = ["ok", "loading", "failed", "draining"]))]
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
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

pub(super) fn json(value: &impl Serialize) -> Response {
    json_of(json_text(value))
}

/// JSON that is written already.
pub(super) fn json_of(text: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

pub(super) fn json_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers serialise")
}
