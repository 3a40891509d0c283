//! What a request would become, without an answer: `POST /render`, `POST /v1/messages/count_tokens`, `POST /tokenize` and
//! `POST /detokenize`.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use telemetry::Endpoint;

use super::generate::receive;
use super::guard::check_is_local;
use super::routes::{App, ArrivedAt, json, json_of, json_text};
use super::status::Failure;
use crate::{ChatError, wire};

/// The prompt of a chat's or a completion's body, as far as the plugins let it come. It shows what a policy put into it,
/// which is for programs on this machine alone.
pub(super) async fn render(
    State(app): State<Arc<App>>,
    arrived_at: Option<Extension<ArrivedAt>>,
    request: Request,
) -> Result<Response, Failure> {
    check_is_local(arrived_at.map(|Extension(at)| at), "prompts are shown")?;
    let (call, terms, body) = receive(&app, request).await?;
    let models = app.models.clone();
    let (asked, share) = app.bodies.parse(body, move |bytes| wire::parse_render(bytes, models.defaults())).await?;
    let prompt = if asked.prompts.is_empty() { "messages" } else { "prompt" };
    let service = app.models.of(&asked.request.model).map_err(|error| Failure::from(&error))?;
    let rendered = service.render(asked, call, &terms, Endpoint::Render).await;
    let rendered = rendered.map_err(|error| Failure::of(&error, prompt))?;
    // A prompt may be as long as a body, and is shown thrice: as text, in parts and as tokens.
    let written = tokio::task::spawn_blocking(move || json_text(&wire::RenderedObject::new(rendered)));
    let text = written.await.map_err(|_| Failure::from(&ChatError::Internal { attempted: "write the prompt" }))?;
    drop(share);
    Ok(json_of(text))
}

/// How many tokens the prompt of a message has, with all that the plugins make of it.
pub(super) async fn count_tokens(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (call, terms, body) = receive(&app, request).await?;
    let models = app.models.clone();
    let (asked, _share) =
        app.bodies.parse(body, move |bytes| wire::parse_count_tokens(bytes, models.defaults())).await?;
    let service = app.models.of(&asked.request.model).map_err(|error| Failure::from(&error))?;
    let rendered =
        service.render(asked, call, &terms, Endpoint::CountTokens).await.map_err(|error| Failure::from(&error))?;
    Ok(json(&wire::TokenCount { input_tokens: rendered.tokens.len() }))
}

pub(super) async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (_, terms, body) = receive(&app, request).await?;
    let (asked, _share) = app.bodies.parse(body, wire::parse_tokenize).await?;
    let wire::Tokenize { model, text, adds_special, wants_pieces } = asked;
    let service = app.models.of_or_only(model.as_deref()).map_err(|error| Failure::from(&error))?;
    let write = move |tokenized| json_text(&wire::TokenizedObject::new(&tokenized, wants_pieces));
    let written = service.tokenize(text, adds_special, wants_pieces, &terms, write).await;
    Ok(json_of(written.map_err(|error| Failure::from(&error))?))
}

pub(super) async fn detokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (_, terms, body) = receive(&app, request).await?;
    let ((model, tokens), _share) = app.bodies.parse(body, wire::parse_detokenize).await?;
    let service = app.models.of_or_only(model.as_deref()).map_err(|error| Failure::from(&error))?;
    let write = |text| json_text(&wire::TextObject { prompt: text });
    let written = service.detokenize(tokens, &terms, write).await;
    Ok(json_of(written.map_err(|error| Failure::from(&error))?))
}
