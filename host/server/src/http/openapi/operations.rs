//! What the document says of each path. The table of routes (`routes.rs`) names one of these for each.

use serde_json::{Value, json};

use super::operation::{ADMIN_OFF, LOCAL, MODEL, NO_MODEL, NOT_LOADED, Operation, PLUGINS};
use crate::http::probes::Probe;
use crate::wire::schemas::{self, Schemas};
use crate::wire::{ErrorMembers, ModelList, ModelObject, RenderedObject, TextObject, TokenCount, TokenizedObject};

const INFERENCE: &str = "inference";
const MODELS: &str = "models";
const OPERATION: &str = "operation";

pub(in crate::http) fn chat(schemas: &mut Schemas) -> Operation {
    let (request, answer) = (schemas::chat_request(schemas), schemas::chat_answer(schemas));
    answering("createChatCompletion", "An answer to a conversation, in OpenAI's form.", request)
        .told("The last event of a whole stream is `[DONE]`; one that broke off ends with an event that has `error`.")
        .answers_or_streams(&answer, &schemas::chat_event(schemas))
}

pub(in crate::http) fn completion(schemas: &mut Schemas) -> Operation {
    let (request, answer) = (schemas::completion_request(schemas), schemas::completion_answer(schemas));
    answering("createCompletion", "Prompts as they stand, completed.", request)
        .told("The last event of a whole stream is `[DONE]`; one that broke off ends with an event that has `error`.")
        .answers_or_streams(&answer, &schemas::completion_event(schemas))
}

pub(in crate::http) fn message(schemas: &mut Schemas) -> Operation {
    let (request, answer) = (schemas::message_request(schemas), schemas::message_answer(schemas));
    answering("createMessage", "An answer to a conversation, in Anthropic's form.", request)
        .told("A whole stream ends with `message_stop`, one that broke off with `error`.")
        .anthropic()
        .answers_or_streams(&answer, &schemas::message_event(schemas))
}

pub(in crate::http) fn response(schemas: &mut Schemas) -> Operation {
    let (request, answer) = (schemas::response_request(schemas), schemas::response_answer(schemas));
    answering("createResponse", "An answer in the form of OpenAI's responses. Nothing is stored.", request)
        .told("A whole stream ends with `response.completed` or `response.incomplete`, one that broke off with `response.failed`.")
        .answers_or_streams(&answer, &schemas::response_event(schemas))
}

pub(in crate::http) fn count_tokens(schemas: &mut Schemas) -> Operation {
    let request = schemas::count_tokens_request(schemas);
    answering("countMessageTokens", "How many tokens the prompt of a message has.", request)
        .anthropic()
        .answers(&schemas.of::<TokenCount>())
}

pub(in crate::http) fn render(schemas: &mut Schemas) -> Operation {
    let request = schemas::render_request(schemas);
    answering("render", "The prompt that a chat or a completion would become.", request)
        .told("It shows what plugins add, and therefore answers over loopback alone.")
        .refuses(&LOCAL)
        .answers(&schemas.of::<RenderedObject>())
}

/// A request that passes the plugins.
fn answering(id: &str, summary: &str, request: Value) -> Operation {
    Operation::post(id, INFERENCE, summary, request).on_terms().refuses(&MODEL).refuses(&PLUGINS)
}

pub(in crate::http) fn tokenize(schemas: &mut Schemas) -> Operation {
    let request = schemas::tokenize_request(schemas);
    let answer = schemas.of::<TokenizedObject>();
    computed("tokenize", "A text's tokens.", request).answers(&answer)
}

pub(in crate::http) fn detokenize(schemas: &mut Schemas) -> Operation {
    let request = schemas::detokenize_request(schemas);
    let answer = schemas.of::<TextObject>();
    computed("detokenize", "The text of tokens.", request).answers(&answer)
}

pub(in crate::http) fn embeddings(schemas: &mut Schemas) -> Operation {
    let (request, answer) = (schemas::embeddings_request(schemas), schemas::embeddings_answer(schemas));
    computed("createEmbedding", "Vectors of texts.", request).answers(&answer)
}

pub(in crate::http) fn rerank(schemas: &mut Schemas) -> Operation {
    let (request, answer) = (schemas::rerank_request(schemas), schemas::rerank_answer(schemas));
    computed("rerank", "Documents by how well they answer a query, the best first.", request).answers(&answer)
}

/// A request that no plugin is about.
fn computed(id: &str, summary: &str, request: Value) -> Operation {
    Operation::post(id, INFERENCE, summary, request).on_terms().refuses(&MODEL)
}

pub(in crate::http) fn models(schemas: &mut Schemas) -> Operation {
    Operation::get("listModels", MODELS, "What is served.").answers(&schemas.of::<ModelList>())
}

pub(in crate::http) fn model(schemas: &mut Schemas) -> Operation {
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1},
        "description": "A model's name, slashes and all."});
    Operation::get("retrieveModel", MODELS, "One model.")
        .parameter(id)
        .refuses(&NO_MODEL)
        .answers(&schemas.of::<ModelObject>())
}

pub(in crate::http) fn live(schemas: &mut Schemas) -> Operation {
    let summary = "Whether the engine gets on, also while models load and while the server ends.";
    probe(schemas, "live", summary, "An engine is stalled or has ended, and only a restart helps.")
}

pub(in crate::http) fn startup(schemas: &mut Schemas) -> Operation {
    probe(schemas, "startup", "Whether all models that are loaded at the start have been there.", "Not yet.")
}

pub(in crate::http) fn ready(schemas: &mut Schemas) -> Operation {
    readiness(schemas, "ready")
}

pub(in crate::http) fn health(schemas: &mut Schemas) -> Operation {
    readiness(schemas, "health")
}

pub(in crate::http) fn v1_ready(schemas: &mut Schemas) -> Operation {
    readiness(schemas, "v1Ready")
}

fn readiness(schemas: &mut Schemas, id: &str) -> Operation {
    let verbose = json!({"name": "verbose", "in": "query", "required": false, "allowEmptyValue": true,
        "schema": {"type": "string"}, "description": "Where it is there, whatever it says: how slots and line stand."});
    probe(schemas, id, "Whether requests are answered.", "Not yet, or no longer.").parameter(verbose)
}

/// What says yes, or no with a reason, to anybody.
fn probe(schemas: &mut Schemas, id: &str, summary: &str, no: &str) -> Operation {
    let probe = schemas.of::<Probe>();
    Operation::get(id, OPERATION, summary).keyless().answers(&probe).answers_with(
        "503",
        no,
        json!({"application/json": {"schema": probe}}),
    )
}

pub(in crate::http) fn metrics(_schemas: &mut Schemas) -> Operation {
    let text = json!({"schema": {"type": "string"}});
    let content = json!({"text/plain": text, "application/openmetrics-text": text});
    Operation::get("metrics", OPERATION, "Metrics for Prometheus.").answers_with("200", "All of them.", content)
}

pub(in crate::http) fn openapi(_schemas: &mut Schemas) -> Operation {
    Operation::get("openapi", OPERATION, "This document.").answers(&json!({"type": "object"}))
}

pub(in crate::http) fn plugins(_schemas: &mut Schemas) -> Operation {
    Operation::get("listPlugins", OPERATION, "The plugins that run, and how they do.")
        .told("For programs on this machine alone.")
        .refuses(&LOCAL)
        .refuses(&ADMIN_OFF)
        .refuses(&NOT_LOADED)
        .answers(&json!({"type": "object"}))
}

pub(in crate::http) fn reload(schemas: &mut Schemas) -> Operation {
    let error = schemas.of::<ErrorMembers>();
    let report =
        json!({"type": "object", "properties": {"error": error}, "required": ["error"], "additionalProperties": true});
    Operation::post(
        "reloadPlugins",
        OPERATION,
        "Reads the configuration anew and replaces the plugins.",
        json!({"type": "object", "maxProperties": 0}),
    )
    .told("For programs on this machine alone. Nothing changes where the new ones do not pass.")
    .optional()
    .refuses(&LOCAL)
    .refuses(&ADMIN_OFF)
    .refuses(&NOT_LOADED)
    .answers(&json!({"type": "object"}))
    .answers_with(
        "422",
        "They did not pass (`plugins_refused`), and why.",
        json!({"application/json": {"schema": report}}),
    )
}
