//! What the document says of one path: how it is asked, and with what it may answer.

use serde_json::{Map, Value, json};

/// One path's entry in the document.
pub(in crate::http) struct Operation {
    pub(super) method: &'static str,
    /// In whose form errors are told.
    errors: ErrorForm,
    /// Whether it asks for a key where the server has any.
    is_keyed: bool,
    members: Map<String, Value>,
    parameters: Vec<Value>,
    answers: Map<String, Value>,
}

/// How errors are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorForm {
    OpenAi,
    Anthropic,
}

impl ErrorForm {
    pub(super) fn schema(self) -> &'static str {
        match self {
            Self::OpenAi => "#/components/schemas/Error",
            Self::Anthropic => "#/components/schemas/MessageError",
        }
    }
}

impl Operation {
    pub(super) fn get(id: &str, tag: &str, summary: &str) -> Self {
        Self::new("get", id, tag, summary)
    }

    /// With a body, and therefore with what can be wrong about one.
    pub(super) fn post(id: &str, tag: &str, summary: &str, schema: Value) -> Self {
        let mut operation = Self::new("post", id, tag, summary);
        let mut body = json!({"required": true, "content": {"application/json": {}}});
        body["content"]["application/json"]["schema"] = schema;
        operation.members.insert("requestBody".to_owned(), body);
        operation.refuses(&BODY)
    }

    fn new(method: &'static str, id: &str, tag: &str, summary: &str) -> Self {
        let members = [("operationId", json!(id)), ("tags", json!([tag])), ("summary", json!(summary))];
        let members = members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let errors = ErrorForm::OpenAi;
        Self { method, errors, is_keyed: true, members, parameters: Vec::new(), answers: Map::new() }.refuses(&SENDER)
    }

    pub(super) fn told(mut self, description: &str) -> Self {
        self.members.insert("description".to_owned(), json!(description));
        self
    }

    /// Whoever asks is answered, without a key too.
    pub(super) fn keyless(mut self) -> Self {
        self.is_keyed = false;
        self.members.insert("security".to_owned(), json!([]));
        self
    }

    /// The body may be left out.
    pub(super) fn optional(mut self) -> Self {
        self.members["requestBody"]["required"] = json!(false);
        self
    }

    pub(super) fn anthropic(mut self) -> Self {
        self.errors = ErrorForm::Anthropic;
        self
    }

    pub(super) fn parameter(mut self, parameter: Value) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// What requests for the model may say beside their bodies.
    pub(super) fn on_terms(mut self) -> Self {
        self.parameters.extend(TERMS.map(|name| json!({"$ref": format!("#/components/parameters/{name}")})));
        self
    }

    pub(super) fn answers(self, schema: &Value) -> Self {
        self.answers_with("200", "The answer.", json!({"application/json": {"schema": schema}}))
    }

    /// The answer in one piece, or as events where `stream` is true.
    pub(super) fn answers_or_streams(self, schema: &Value, event: &Value) -> Self {
        let events = json!({
            "schema": {"type": "string", "description": "Server-sent events; `x-event-schema` is of their `data`."},
            "x-event-schema": event,
        });
        let content = json!({"application/json": {"schema": schema}, "text/event-stream": events});
        self.answers_with("200", "The answer, or where `stream` is true its events.", content)
    }

    pub(super) fn answers_with(mut self, status: &str, description: &str, content: Value) -> Self {
        let mut answer = json!({"description": description});
        answer["content"] = content;
        answer["headers"] = json!({"x-request-id": {"$ref": "#/components/headers/RequestId"}});
        self.answers.insert(status.to_owned(), answer);
        self
    }

    pub(super) fn refuses(mut self, refusals: &[Refusal]) -> Self {
        for &Refusal { status, why, is_for_now } in refusals {
            let mut headers = json!({"x-request-id": {"$ref": "#/components/headers/RequestId"}});
            if is_for_now {
                headers["retry-after"] = json!({"$ref": "#/components/headers/RetryAfter"});
            }
            let known = self.answers.get(status).and_then(|answer| answer["description"].as_str());
            let description = known.map_or_else(|| why.to_owned(), |known| format!("{known} {why}"));
            self.answers.insert(status.to_owned(), json!({"description": description, "headers": headers}));
        }
        self
    }

    pub(super) fn finish(mut self) -> Value {
        if self.is_keyed {
            self = self.refuses(&[KEY]);
            self.answers[KEY.status]["headers"]["www-authenticate"] =
                json!({"$ref": "#/components/headers/WwwAuthenticate"});
        }
        let Self { errors, mut members, parameters, mut answers, .. } = self;
        let has_policies = answers.contains_key("4XX");
        for (status, answer) in &mut answers {
            if has_policies && status.starts_with('4') {
                // A policy may say when to come again with any status.
                answer["headers"]["retry-after"] = json!({"$ref": "#/components/headers/RetryAfter"});
            }
            if answer.get("content").is_none() {
                answer["content"] = json!({"application/json": {"schema": {"$ref": errors.schema()}}});
            }
            if errors == ErrorForm::Anthropic {
                answer["headers"]["request-id"] = json!({"$ref": "#/components/headers/RequestId"});
            }
        }
        answers.sort_keys();
        if !parameters.is_empty() {
            members.insert("parameters".to_owned(), json!(parameters));
        }
        members.insert("responses".to_owned(), Value::Object(answers));
        Value::Object(members)
    }
}

/// A status that says no.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    status: &'static str,
    why: &'static str,
    /// `Retry-After` may say when it is worth asking again.
    is_for_now: bool,
}

const fn refusal(status: &'static str, why: &'static str) -> Refusal {
    Refusal { status, why, is_for_now: false }
}

const fn for_now(status: &'static str, why: &'static str) -> Refusal {
    Refusal { status, why, is_for_now: true }
}

/// By the checks of every request (`guard`).
const SENDER: [Refusal; 2] = [
    refusal("400", "There is not one `Host`, or it is none (`invalid_host`)."),
    refusal(
        "403",
        "The `Host` is not one of this server, or a web page asks (`host_not_allowed`, `origin_not_allowed`).",
    ),
];

/// By the check of keys (`guard`), where the server has any.
const KEY: Refusal =
    refusal("401", "There is no key, or it is none of this server (`missing_api_key`, `invalid_api_key`).");

/// By the reader of bodies, and by their parsers.
const BODY: [Refusal; 5] = [
    refusal("400", "What the body or a header says is wrong, unknown or not supported; `param` names the member."),
    refusal("408", "The body did not arrive in time (`request_timeout`)."),
    refusal("413", "The body is too large (`body_too_large`)."),
    refusal("415", "The body is not `application/json` (`unsupported_media_type`)."),
    for_now("503", "The bodies of other requests take all the memory for them (`overloaded`)."),
];

/// By whatever stands between a body and the model.
pub(super) const MODEL: [Refusal; 5] = [
    refusal("404", "No such model is served (`model_not_found`)."),
    for_now(
        "429",
        "The caller has more than its share, or more than a minute may have (`over_share`, `rate_limited`).",
    ),
    refusal("500", "The model, or the server, failed (`engine_failed`, `internal_error`)."),
    for_now(
        "503",
        "The model is not there yet, the line is full, the wait was in vain, or the server is shutting down \
         (`model_loading`, `model_failed`, `queue_full`, `queue_timeout`, `displaced`, `shutting_down`).",
    ),
    refusal("504", "The answer was not complete in time (`deadline_exceeded`)."),
];

/// By plugins.
pub(super) const PLUGINS: [Refusal; 3] = [
    for_now("4XX", "A policy's verdict, with a status and a code of its own."),
    refusal("500", "A plugin failed; `outrigger` names it (`plugin_failed`)."),
    for_now(
        "503",
        "A plugin is not asked for a while, or too many wait for plugins (`plugin_unavailable`, `plugins_overloaded`).",
    ),
];

/// By what is for programs on this machine.
pub(super) const LOCAL: [Refusal; 1] =
    [refusal("403", "The connection did not arrive at a loopback address (`not_local`).")];

pub(super) const NO_MODEL: [Refusal; 1] = [refusal("404", "No such model is served (`model_not_found`).")];

pub(super) const ADMIN_OFF: [Refusal; 1] = [refusal("404", "The admin routes are turned off (`not_found`).")];

pub(super) const NOT_LOADED: [Refusal; 1] = [refusal("409", "No plugins are loaded (`not_loaded`).")];

/// What [`Operation::on_terms`] refers to.
const TERMS: [&str; 4] = ["RequestTimeout", "RequestPriority", "Caller", "Traceparent"];

/// Parameters and headers that several operations have.
pub(super) fn shared(caller_header: &str) -> (Value, Value) {
    let header = |name: &str, schema: Value, description: &str| json!({"name": name, "in": "header", "required": false, "schema": schema, "description": description});
    let seconds = json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1e9});
    let priority = json!({"type": "string", "enum": ["interactive", "batch"]});
    let text = || json!({"type": "string"});
    let parameters = json!({
        "RequestTimeout": header("X-Request-Timeout", seconds, "Seconds that the answer may take, waiting included."),
        "RequestPriority": header("X-Request-Priority", priority, "`batch` waits behind all others."),
        "Caller": header(caller_header, text(), "Who asks. Callers share the slots fairly; who says nothing is one."),
        "Traceparent": header("traceparent", text(), "W3C trace context; plugins see it."),
    });
    let headers = json!({
        "RequestId": {"schema": text(), "description": "The request's name, as in the log."},
        "WwwAuthenticate": {"schema": text(), "description": "How to show a key."},
        "RetryAfter": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds."},
    });
    (parameters, headers)
}
