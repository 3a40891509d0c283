//! What a request would become, without an answer: `POST /render`, `POST /v1/messages/count_tokens`, `POST /tokenize` and
//! `POST /detokenize`.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use telemetry::Endpoint;

use super::generate::receive;
use super::guard::check_is_local;
use super::routes::{App, ArrivedAt, json};
use super::status::Failure;
use crate::wire;

/// The prompt of a chat's or a completion's body, as far as the plugins let it come. It shows what a policy put into it,
/// which is for programs on this machine alone.
pub(super) async fn render(
    State(app): State<Arc<App>>,
    arrived_at: Option<Extension<ArrivedAt>>,
    request: Request,
) -> Result<Response, Failure> {
    check_is_local(arrived_at.map(|Extension(at)| at), "prompts are shown")?;
    let (call, terms, body) = receive(&app, request).await?;
    let asked = wire::parse_render(&body.bytes, app.service.defaults())?;
    let prompt = if asked.prompts.is_empty() { "messages" } else { "prompt" };
    let rendered = app.service.render(asked, call, &terms, Endpoint::Render).await;
    Ok(json(&wire::RenderedObject::new(rendered.map_err(|error| Failure::of(&error, prompt))?)))
}

/// How many tokens the prompt of a message has, with all that the plugins make of it.
pub(super) async fn count_tokens(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (call, terms, body) = receive(&app, request).await?;
    let asked = wire::parse_count_tokens(&body.bytes, app.service.defaults())?;
    let rendered =
        app.service.render(asked, call, &terms, Endpoint::Messages).await.map_err(|error| Failure::from(&error))?;
    Ok(json(&wire::TokenCount { input_tokens: rendered.tokens.len() }))
}

pub(super) async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (_, terms, body) = receive(&app, request).await?;
    let wire::Tokenize { model, text, adds_special, wants_pieces } = wire::parse_tokenize(&body.bytes)?;
    let tokenized = app.service.tokenize(model.as_deref(), text, adds_special, wants_pieces, &terms).await;
    let tokenized = tokenized.map_err(|error| Failure::from(&error))?;
    Ok(json(&wire::TokenizedObject::new(&tokenized, wants_pieces)))
}

pub(super) async fn detokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (_, terms, body) = receive(&app, request).await?;
    let (model, tokens) = wire::parse_detokenize(&body.bytes)?;
    let text = app.service.detokenize(model.as_deref(), tokens, &terms).await.map_err(|error| Failure::from(&error))?;
    Ok(json(&wire::TextObject { prompt: text }))
}
