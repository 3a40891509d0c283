//! `POST /v1/chat/completions`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use inference::{Call, RequestId, ToolChoice};
use telemetry::Endpoint;

use super::guard;
use super::routes::App;
use super::status::Failure;
use super::stream::EventStream;
use crate::service::{Answer, AnswerEvent};
use crate::wire::{self, ChunkWriter, Collected};

pub(super) async fn chat(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    guard::check_is_json(&head.headers)?;
    let body = app.bodies.read(&head.headers, body).await?;
    let (request, options) = wire::parse_chat(&body.bytes, app.service.defaults())?;
    // The text lives on in the parsed request, and so does its share of the budget while it waits for a slot.
    let share = body.share;
    drop(body.bytes);

    let (is_streamed, has_logprobs) = (request.streaming, request.logprobs.is_some());
    let is_calls = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    let id = head.extensions.get::<RequestId>().cloned().unwrap_or_else(super::routes::new_request_id);
    let call = Call {
        request_id: id,
        traceparent: text(&head.headers, "traceparent"),
        model: String::new(),
        headers: readable(&head.headers),
        choice: 0,
    };
    let answer = app
        .service
        .chat(request, call, Endpoint::ChatCompletions, options.choices)
        .await
        .map_err(|error| Failure::from(&error))?;
    // Only choices that have not begun still need the text.
    let share = share.filter(|_| options.choices.get() > 1);

    let writer = ChunkWriter {
        id: format!("chatcmpl-{}", answer.id()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        model: answer.model().to_owned(),
        fingerprint: answer.fingerprint().to_owned(),
        include_usage: options.include_usage,
        has_logprobs,
        is_calls,
        choices: options.choices.get(),
    };
    if is_streamed {
        let events = EventStream::new(answer, writer, app.config.ping_interval, share);
        let headers = [
            (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
            (CACHE_CONTROL, "no-cache"),
            // What keeps nginx from collecting the stream before passing it on.
            (http::HeaderName::from_static("x-accel-buffering"), "no"),
        ];
        Ok((headers, Body::from_stream(events)).into_response())
    } else {
        whole(answer, &writer).await
    }
}

/// The same answer, collected.
async fn whole(mut answer: Answer, writer: &ChunkWriter) -> Result<Response, Failure> {
    let mut collected = vec![Collected::default(); writer.choices as usize];
    let mut choices = Vec::with_capacity(collected.len());
    while let Some(event) = answer.next().await {
        match event.map_err(|error| Failure::from(&error))? {
            AnswerEvent::Delta { choice, delta, logprobs } => collected[choice as usize].add(delta, logprobs),
            AnswerEvent::Finished(finished) => {
                let usage = finished.usage;
                choices.push((std::mem::take(&mut collected[finished.choice as usize]), finished));
                if let Some(usage) = usage {
                    choices.sort_by_key(|(_, finished)| finished.choice);
                    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
                    return Ok((headers, writer.whole(choices, usage)).into_response());
                }
            }
        }
    }
    Err(Failure::from(&crate::ChatError::Internal { attempted: "finish the answer" }))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Headers as plugins see them, those that an operator granted: text only, names in lower case as `http` keeps them.
fn readable(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}
