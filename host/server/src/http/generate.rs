//! The endpoints that have the model answer. Each reads a form of its own and writes it; between the two there is one path.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use inference::{Call, RequestId};
use telemetry::Endpoint;
use tokio::time::Instant;

use super::body::HeldBody;
use super::routes::App;
use super::status::Failure;
use super::stream::{EventStream, StreamOf, Waiting};
use super::{guard, terms};
use crate::service::{Answer, AnswerEvent, ChatError, Defaults, Terms};
use crate::wire::{self, Head, Parsed, Refusal, Writer};

/// A form in which the model is asked.
struct Form {
    endpoint: Endpoint,
    parse: fn(&[u8], &Defaults) -> Result<Parsed, Refusal>,
    /// The member that the prompt is made of.
    prompt: &'static str,
    /// Answers show parts of the request again.
    shows_request: bool,
}

const CHAT: Form =
    Form { endpoint: Endpoint::ChatCompletions, parse: wire::parse_chat, prompt: "messages", shows_request: false };
const COMPLETION: Form =
    Form { endpoint: Endpoint::Completions, parse: wire::parse_completion, prompt: "prompt", shows_request: true };
const MESSAGE: Form =
    Form { endpoint: Endpoint::Messages, parse: wire::parse_message, prompt: "messages", shows_request: false };
const RESPONSE: Form =
    Form { endpoint: Endpoint::Responses, parse: wire::parse_response, prompt: "input", shows_request: true };

pub(super) async fn chat(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    answer(&app, request, &CHAT).await
}

pub(super) async fn completion(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    answer(&app, request, &COMPLETION).await
}

pub(super) async fn message(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    answer(&app, request, &MESSAGE).await
}

pub(super) async fn response(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    answer(&app, request, &RESPONSE).await
}

async fn answer(app: &App, request: Request, form: &Form) -> Result<Response, Failure> {
    let (call, terms, body) = receive(app, request).await?;
    let (models, parse) = (app.models.clone(), form.parse);
    // The text lives on in the parsed request, and so does its share of the budget while it waits for a slot.
    let (Parsed { asked, writer }, share) =
        app.bodies.parse(body, move |bytes| parse(bytes, models.defaults())).await?;

    let (is_streamed, answers) = (asked.request.streaming, asked.answers());
    let service = app.models.of(&asked.request.model).map_err(|error| Failure::from(&error))?;
    let (service, place, endpoint) = (Arc::clone(service), Arc::clone(&terms.place), form.endpoint);
    let nobody = Head::nobody(&call.request_id, &asked.request.model);
    let mut answer = Box::pin(async move { service.generate(asked, call, &terms, endpoint).await });
    // As long as nothing was sent an error has its own status. Who waits for long has to hear something, though.
    let begun = if is_streamed {
        tokio::time::timeout(app.config.ping_interval, &mut answer).await.ok()
    } else {
        Some((&mut answer).await)
    };
    let begun = begun.transpose().map_err(|error| Failure::of(&error, form.prompt))?;
    // Choices that have not begun still need the text, and so does an answer that shows it.
    let keeps_text = answers > 1 || form.shows_request;
    if is_streamed {
        let of = StreamOf { prompt: form.prompt, ping_interval: app.config.ping_interval };
        let events = if let Some(answer) = begun {
            EventStream::new(answer, writer, of, share.filter(|_| keeps_text))
        } else {
            let waiting = Waiting { answer, place, writer, nobody, keeps_text };
            EventStream::waiting(waiting, of, share)
        };
        let headers = [
            (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
            (CACHE_CONTROL, "no-cache"),
            // What keeps nginx from collecting the stream before passing it on.
            (http::HeaderName::from_static("x-accel-buffering"), "no"),
        ];
        Ok((headers, Body::from_stream(events)).into_response())
    } else {
        let answer = begun.ok_or_else(|| Failure::from(&ChatError::Internal { attempted: "begin the answer" }))?;
        let share = share.filter(|_| keeps_text);
        let writer = writer(Head::of(&answer));
        let reply = whole(answer, writer, form).await;
        drop(share);
        reply
    }
}

/// The same answer, collected.
async fn whole(mut answer: Answer, mut writer: Box<dyn Writer>, form: &Form) -> Result<Response, Failure> {
    let mut ends = Vec::new();
    while let Some(event) = answer.next().await {
        match event.map_err(|error| Failure::of(&error, form.prompt))? {
            AnswerEvent::Delta { choice, delta, logprobs } => writer.collect(choice, delta, logprobs),
            AnswerEvent::Finished(finished) => {
                let usage = finished.usage;
                ends.push(finished);
                if let Some(usage) = usage {
                    ends.sort_by_key(|finished| finished.choice);
                    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
                    return Ok((headers, writer.whole(&ends, usage)).into_response());
                }
            }
        }
    }
    Err(Failure::from(&ChatError::Internal { attempted: "finish the answer" }))
}

/// What a request says beside its body, and the body.
pub(super) async fn receive(app: &App, request: Request) -> Result<(Call, Terms, HeldBody), Failure> {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    guard::check_is_json(&head.headers)?;
    let body = app.bodies.read(&head.headers, body).await?;
    let call = Call {
        request_id: head.extensions.get::<RequestId>().cloned().unwrap_or_else(super::routes::new_request_id),
        traceparent: text(&head.headers, "traceparent"),
        model: String::new(),
        headers: readable(&head.headers),
        choice: 0,
    };
    let access = app.config.access.now();
    let terms = terms::of(&head.headers, &head.extensions, &access.caller_header, body.bytes.len())?;
    let terms = Terms { arrived: Some(arrived), share: body.share.clone(), ..terms };
    Ok((call, terms, body))
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
