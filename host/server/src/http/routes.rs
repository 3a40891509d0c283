//! Which path is answered by whom, and what goes around every answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode, Uri};
use inference::RequestId;
use serde::Serialize;
use uuid::Uuid;

use super::body::BodyReader;
use super::openapi::{Operation, operations};
use super::status::Failure;
use super::terms::Caller;
use super::{HttpConfig, admin, encode, generate, guard, openapi, probes, prompts};
use crate::limits;
use crate::models::Models;
use crate::service::{Readiness, Service};
use crate::wire::schemas::Schemas;
use crate::wire::{self, ModelList, ModelObject};

/// What every handler may need.
pub(super) struct App {
    pub(super) models: Models,
    pub(super) config: HttpConfig,
    pub(super) bodies: BodyReader,
    /// Only probes and metrics are answered, to anybody.
    pub(super) is_for_probes: bool,
}

impl App {
    pub(super) fn new(models: Models, config: HttpConfig, is_for_probes: bool) -> Arc<Self> {
        let bodies = BodyReader::new(config.body_bytes_max, config.body_timeout);
        Arc::new(Self { models, config, bodies, is_for_probes })
    }
}

/// Where a request's connection arrived; put into its extensions by the connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum ArrivedAt {
    /// At this address.
    Address(IpAddr),
    /// At a Unix socket, from this user.
    Socket { uid: u32 },
}

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

pub(super) const ROUTES: [Route; 21] = [
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
    route("/livez", "livez", operations::live, Reach::Facts, || get(probes::live)),
    route("/startupz", "startupz", operations::startup, Reach::Facts, || get(probes::started)),
    route("/readyz", "readyz", operations::ready, Reach::Facts, || get(probes::ready)),
    route("/health", "readyz", operations::health, Reach::Facts, || get(probes::ready)),
    route("/v1/ready", "readyz", operations::v1_ready, Reach::Facts, || get(probes::ready)),
    route("/openapi.json", "openapi", operations::openapi, Reach::Facts, || get(openapi_document)),
    route("/metrics", "metrics", operations::metrics, Reach::Facts, || get(probes::metrics)),
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
    assemble(App::new(models, config, false), |_| true, not_found)
}

/// The routes whose paths are `here`, with everything that goes around them.
pub(super) fn assemble<T: 'static>(
    app: Arc<App>,
    here: impl Fn(&str) -> bool,
    fallback: impl Handler<T, Arc<App>>,
) -> Router {
    ROUTES
        .iter()
        .filter(|route| here(route.path))
        .fold(Router::new(), |router, route| router.route(route.path, (route.method)()))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(fallback)
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
    let checked = check(&app, &request);
    let mut response = match checked {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
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

/// Whether the request may come in, and who it is known to be from.
fn check(app: &App, request: &Request) -> Result<Option<Caller>, Failure> {
    let (headers, access) = (request.headers(), app.config.access.now());
    let loopback = ArrivedAt::Address(IpAddr::from([127, 0, 0, 1]));
    let arrived_at = request.extensions().get::<ArrivedAt>().copied().unwrap_or(loopback);
    guard::check_sender(request.uri(), headers, arrived_at, &access.hosts)?;
    match (arrived_at, &access.keys) {
        (ArrivedAt::Socket { uid }, _) => Ok(Some(Caller::User(uid))),
        (ArrivedAt::Address(_), Some(keys)) if !app.is_for_probes && !probes::is_probe(request.uri().path()) => {
            guard::check_key(headers, keys).map(|holder| Some(Caller::Key(holder)))
        }
        (ArrivedAt::Address(_), _) => Ok(None),
    }
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
pub(super) fn state(readiness: Readiness) -> (&'static str, Option<String>) {
    match readiness {
        Readiness::Ready => ("ready", None),
        Readiness::OnFirstUse => ("on_first_use", Some("the model is loaded at its first use".to_owned())),
        Readiness::Loading(progress) => ("loading", Some(progress)),
        Readiness::Failed(reason) => ("failed", Some(reason)),
        Readiness::Draining => ("draining", None),
    }
}

/// What can be asked here, and how.
async fn openapi_document() -> Response {
    ([(CONTENT_TYPE, "application/json")], openapi::openapi()).into_response()
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
