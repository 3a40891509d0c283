//! `POST /v1/embeddings` and `POST /v1/rerank`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use inference::RequestId;
use tokio::time::Instant;

use super::body::HeldBody;
use super::routes::App;
use super::status::Failure;
use super::{guard, terms};
use crate::service::{Outputs, Terms};
use crate::{ChatError, wire};

pub(super) async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (id, terms, body) = read(&app, request).await?;
    let ((request, format), share) = app.bodies.parse(body, wire::parse_embeddings).await?;
    let service = app.models.of(&request.model).map_err(|error| Failure::from(&error))?;
    let outputs = service.embed(request, id, &terms).await.map_err(|error| Failure::from(&error))?;
    drop((share, terms));
    written(outputs, move |outputs| wire::write_embeddings(outputs, format)).await
}

pub(super) async fn rerank(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (id, terms, body) = read(&app, request).await?;
    let ((request, options), share) = app.bodies.parse(body, wire::parse_rerank).await?;
    let service = app.models.of(&request.model).map_err(|error| Failure::from(&error))?;
    let outputs = service.rank(request, id.clone(), &terms).await.map_err(|error| Failure::from(&error))?;
    // With the documents, which may be shown again.
    let written = written(outputs, move |outputs| wire::write_rerank(id.as_str(), outputs, &options)).await;
    drop((share, terms));
    written
}

/// The request's name and its body, with the body's share of the memory for bodies: its text lives on in what is parsed of
/// it, until it is encoded.
async fn read(app: &App, request: Request) -> Result<(RequestId, Terms, HeldBody), Failure> {
    let arrived = Instant::now();
    let (Parts { headers, extensions, .. }, body) = request.into_parts();
    guard::check_is_json(&headers)?;
    let body = app.bodies.read(&headers, body).await?;
    let id = extensions.get::<RequestId>().cloned().unwrap_or_else(super::routes::new_request_id);
    let access = app.config.access.now();
    let terms = terms::of(&headers, &extensions, &access.caller_header, body.bytes.len())?;
    let terms = Terms { arrived: Some(arrived), share: body.share.clone(), ..terms };
    Ok((id, terms, body))
}

/// Two thousand vectors are millions of digits: they are written off the async threads.
async fn written(
    outputs: Outputs,
    write: impl FnOnce(&Outputs) -> String + Send + 'static,
) -> Result<Response, Failure> {
    let body = tokio::task::spawn_blocking(move || write(&outputs))
        .await
        .map_err(|_| Failure::from(&ChatError::Internal { attempted: "write the answer" }))?;
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], body).into_response())
}
