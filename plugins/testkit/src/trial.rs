//! One request, and how its answer comes.

use serde_json::{Map, Value, json};

use crate::{Component, Error, Ran};

/// Ways by chance in which an answer is cut, beside all others.
const RANDOM_CHUNKINGS: u32 = 200;

/// What is asked, and what the model answers. [`Trial::run`] and its kin try it.
#[must_use = "a trial does nothing before it is run"]
#[derive(Clone)]
pub struct Trial<'a> {
    component: &'a Component,
    /// A case, as files have it.
    case: Map<String, Value>,
    chat_template: Option<String>,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(component: &'a Component) -> Self {
        Self { component, case: Map::new(), chat_template: None }.with("name", "a trial".into())
    }

    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.case.insert(key.to_owned(), value);
        self
    }

    /// What is asked: the user's text, or a body as `POST /v1/chat/completions` takes it.
    pub fn request(self, request: impl Into<Value>) -> Self {
        self.with("request", request.into())
    }

    /// What the model answers; under `token-control`, what it would like to.
    pub fn answer(self, answer: impl Into<String>) -> Self {
        self.with("answer", answer.into().into())
    }

    /// The plugin's configuration: a JSON object.
    pub fn config(self, config: Value) -> Self {
        self.with("config", config)
    }

    /// A header of the request, which the plugin sees if its manifest asks for it.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let headers = self.case.entry("headers").or_insert_with(|| json!({}));
        headers[name] = value.into();
        self
    }

    /// How often the request is sent; what comes of it is of the last. Stores (`kv`) are empty before the first.
    pub fn times(self, times: u32) -> Self {
        self.with("times", times.into())
    }

    /// The chat template of the stand-in for a model.
    pub fn chat_template(mut self, template: impl Into<String>) -> Self {
        self.chat_template = Some(template.into());
        self
    }

    /// Tries it with the answer in one piece.
    pub fn run(&self) -> Result<Ran, Error> {
        self.ask(&Value::Null, &Value::Null)
    }

    /// Tries it with an answer that comes in these pieces.
    pub fn run_in<T: AsRef<str>>(&self, pieces: impl IntoIterator<Item = T>) -> Result<Ran, Error> {
        let pieces: Vec<String> = pieces.into_iter().map(|piece| piece.as_ref().to_owned()).collect();
        self.ask(&pieces.into(), &Value::Null)
    }

    /// Tries it in one piece, twice, streamed and buffered, cut in two at every place, character by character, in ways by chance,
    /// and ended early. What comes of it has to be the same and no text may be lost; otherwise it is [`Error::Failed`], which
    /// shows the pieces. Of what was used, `held_bytes` is the most of all.
    pub fn every_chunking(&self) -> Result<Ran, Error> {
        self.ask(&Value::Null, &RANDOM_CHUNKINGS.into())
    }

    fn ask(&self, pieces: &Value, random: &Value) -> Result<Ran, Error> {
        let Self { case, chat_template, .. } = self;
        self.component.ask(&json!({"case": case, "chat_template": chat_template, "pieces": pieces, "random": random}))
    }
}
