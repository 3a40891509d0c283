//! Which path is answered by whom, and what goes around every answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
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
use super::status::Failure;
use super::terms::Caller;
use super::{HttpConfig, admin, encode, generate, guard, probes, prompts};
use crate::service::{ChatError, Service};
use crate::wire::{self, ModelList, ModelObject};

/// What every handler may need.
pub(super) struct App {
    pub(super) service: Arc<Service>,
    pub(super) config: HttpConfig,
    pub(super) bodies: BodyReader,
    /// Only probes and metrics are answered, to anybody.
    pub(super) is_for_probes: bool,
}

impl App {
    pub(super) fn new(service: Arc<Service>, config: HttpConfig, is_for_probes: bool) -> Arc<Self> {
        let bodies = BodyReader::new(config.body_bytes_max, config.body_timeout);
        Arc::new(Self { service, config, bodies, is_for_probes })
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
    /// A model that encodes. Beside plugins none is served.
    Encoding,
    /// Tokens, facts and figures: nothing that a plugin is about.
    Facts,
}

/// A path that is served.
struct Route {
    path: &'static str,
    /// What metrics call it.
    name: &'static str,
    reach: Reach,
    method: fn() -> MethodRouter<Arc<App>>,
}

const ROUTES: [Route; 20] = [
    route("/v1/chat/completions", "chat_completions", Reach::Answer, || post(generate::chat)),
    route("/v1/completions", "completions", Reach::Answer, || post(generate::completion)),
    route("/v1/messages", "messages", Reach::Answer, || post(generate::message)),
    route("/v1/responses", "responses", Reach::Answer, || post(generate::response)),
    route("/v1/messages/count_tokens", "count_tokens", Reach::Prompt, || post(prompts::count_tokens)),
    route("/render", "render", Reach::Prompt, || post(prompts::render)),
    route("/tokenize", "tokenize", Reach::Facts, || post(prompts::tokenize)),
    route("/detokenize", "detokenize", Reach::Facts, || post(prompts::detokenize)),
    route("/v1/embeddings", "embeddings", Reach::Encoding, || post(encode::embeddings)),
    route("/v1/rerank", "rerank", Reach::Encoding, || post(encode::rerank)),
    route("/v1/models", "models", Reach::Facts, || get(models)),
    route("/v1/models/{*id}", "models", Reach::Facts, || get(model)),
    route("/livez", "livez", Reach::Facts, || get(probes::live)),
    route("/startupz", "startupz", Reach::Facts, || get(probes::started)),
    route("/readyz", "readyz", Reach::Facts, || get(probes::ready)),
    route("/health", "readyz", Reach::Facts, || get(probes::ready)),
    route("/v1/ready", "readyz", Reach::Facts, || get(probes::ready)),
    route("/metrics", "metrics", Reach::Facts, || get(probes::metrics)),
    route("/admin/plugins", "admin", Reach::Facts, || get(admin::plugins)),
    route("/admin/plugins/reload", "admin", Reach::Facts, || post(admin::reload)),
];

const fn route(path: &'static str, name: &'static str, reach: Reach, method: fn() -> MethodRouter<Arc<App>>) -> Route {
    Route { path, name, reach, method }
}

/// Every path that is served, as the router has it, and what it leads to.
pub fn routes() -> impl Iterator<Item = (&'static str, Reach)> {
    ROUTES.iter().map(|route| (route.path, route.reach))
}

pub(super) fn router(service: Arc<Service>, config: HttpConfig) -> Router {
    assemble(App::new(service, config, false), |_| true, not_found)
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
    app.service.metrics().http_response(route, response.status().as_u16());
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
    json(&ModelList::new(&app.service.models(), app.service.device(), app.service.model_expected()))
}

async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Failure> {
    if let Some(expected) = app.service.model_expected().filter(|expected| *expected == id) {
        return Ok(json(&ModelObject::expected(expected)));
    }
    let models = app.service.models();
    let model = models.iter().find(|(card, _)| card.id == id).ok_or_else(|| {
        let served = models.iter().map(|(card, _)| card.id.as_str()).collect::<Vec<_>>().join("`, `");
        Failure::from(&ChatError::ModelNotFound { model: id.chars().take(64).collect(), served })
    })?;
    Ok(json(&ModelObject::new(model, app.service.device())))
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
    let text = serde_json::to_string(value).expect("strings and numbers serialise");
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}
