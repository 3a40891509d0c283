//! The API as an OpenAPI document: of the table of routes, the schemas of bodies and the errors of `status.rs`.

mod operation;
pub(super) mod operations;

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

pub(super) use operation::Operation;

use super::routes::ROUTES;
use crate::limits;
use crate::wire::schemas::Schemas;
use crate::wire::{ErrorBody, MessageError};

/// The API as an OpenAPI document (3.1), which is also served at `/openapi.json`.
#[must_use]
pub fn openapi() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| format!("{:#}", document()))
}

fn document() -> Value {
    let mut schemas = Schemas::new();
    // What every operation's errors refer to.
    schemas.of::<ErrorBody>();
    schemas.of::<MessageError<'_>>();
    let paths: Map<String, Value> = ROUTES
        .iter()
        .map(|route| {
            let operation = (route.described)(&mut schemas);
            let method = operation.method;
            (route.path.replace("{*id}", "{id}"), json!({method: operation.finish()}))
        })
        .collect();
    let (parameters, headers) = operation::shared(limits::CALLER_HEADER_DEFAULT);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Outrigger",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": DESCRIPTION,
        },
        "servers": [{"url": "/"}],
        // The last: an operator may ask for none.
        "security": [{"Bearer": []}, {"ApiKey": []}, {}],
        "tags": [
            {"name": "inference", "description": "What is asked of a model."},
            {"name": "models", "description": "What is served."},
            {"name": "operation", "description": "Probes, figures and plugins."},
        ],
        "paths": paths,
        "components": {"schemas": schemas.finish(), "parameters": parameters, "headers": headers, "securitySchemes": {
            "Bearer": {"type": "http", "scheme": "bearer"},
            "ApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }},
    })
}

const DESCRIPTION: &str = "\
A language model behind OpenAI's and Anthropic's forms. Members that are null count as absent, those that are not listed are \
refused, and none is named twice. `maxLength` is in bytes of UTF-8. What the request does not say of sampling is the \
operator's to say. Other methods are answered 405 and other paths 404, or 501 where OpenAI serves them; what is no HTTP is \
answered without a body.";
