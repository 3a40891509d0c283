//! One question after the other about a component, and its answers, as JSON: what the tests of `plugins/testkit` ask.
//!
//! Whoever asks was built at another time than this, so the first line says which protocol is spoken. A question has a case as
//! files have it, and is about one run of it or about all ways to cut its answer.

use inference::PipelineError;
use plugin::{PluginSpec, probe::Used};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::{Call, described, finish_name};
use crate::case::Case;
use crate::drive::{Cut, Run, Script};
use crate::judge::{request_json, segment_lines, text_of};
use crate::limits::{RANDOM_CHUNKINGS, TOKENS_SHOWN_MAX};
use crate::stand::{LoadFailed, Loaded, Stand};
use crate::steps;
use crate::suite::{self, Options, Outcome, UseLimits};

/// Changes with every question or answer that an older `plugins/testkit` would not understand.
const PROTOCOL: u32 = 1;

/// A component that questions are asked about.
pub struct Harness {
    stand: Stand,
    spec: PluginSpec,
    /// The last of those that were asked about, with its configuration and the model's template.
    loaded: Option<(String, Option<String>, Result<Loaded, LoadFailed>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    case: Value,
    chat_template: Option<String>,
    /// The pieces in which the answer comes, once; without it: one piece, or with `random` all ways.
    pieces: Option<Vec<String>>,
    /// Ways by chance, beside all others.
    random: Option<u32>,
}

/// What came of a case.
#[derive(Serialize)]
struct Ran {
    error: Option<Failed>,
    output: String,
    reasoning: String,
    tool_calls: Vec<Call>,
    finish: &'static str,
    notes: Vec<(String, String)>,
    /// As the policies left it.
    request: Option<Value>,
    prompt: Option<String>,
    segments: Vec<String>,
    /// What the model wrote: the answer, as a plugin that controls its tokens left it.
    written: String,
    steps: Vec<String>,
    used: Option<Used>,
    limits: UseLimits,
    /// Ways in which the answer was cut.
    chunkings: usize,
    warnings: Vec<String>,
}

/// How a request broke off.
#[derive(Serialize)]
struct Failed {
    /// `rejected`, `invalid`, `unavailable`, `overloaded`, or the kind of a fault.
    kind: &'static str,
    message: String,
    status: Option<u16>,
    code: Option<String>,
}

impl Harness {
    /// Asks about this plugin, whose configuration is the questions'.
    #[must_use]
    pub fn new(stand: Stand, spec: PluginSpec) -> Self {
        Self { stand, spec, loaded: None }
    }

    /// What it says before it is asked.
    #[must_use]
    pub fn greeting(&self) -> String {
        json!({"protocol": PROTOCOL, "outrigger": env!("CARGO_PKG_VERSION"), "plugin": self.spec.name}).to_string()
    }

    /// The answer to a line: `{"ran": …}`, `{"failed": "…"}` where what has to hold does not, or `{"error": "…"}`.
    pub fn answer(&mut self, line: &str) -> String {
        let answer = match serde_json::from_str(line) {
            Ok(question) => self.answered(question).unwrap_or_else(|error| json!({ "error": error })),
            Err(error) => json!({"error": format!("the question is not one: {error}")}),
        };
        answer.to_string()
    }

    fn answered(&mut self, question: Question) -> Result<Value, String> {
        let Question { case, chat_template, pieces, random } = question;
        let mut case = Case::of_json(case)?;
        if let Some(pieces) = &pieces {
            case.answer = Some(pieces.concat());
        }
        let spec = &self.spec;
        let is_loaded = |(config, template, _): &(String, Option<String>, _)| {
            *config == case.config_json && *template == chat_template
        };
        if !self.loaded.as_ref().is_some_and(is_loaded) {
            let with_template = chat_template.as_ref().map(|template| self.stand.with_template(template));
            let stand = with_template.as_ref().unwrap_or(&self.stand);
            let loaded = stand.load(PluginSpec { config_json: case.config_json.clone(), ..spec.clone() });
            self.loaded = Some((case.config_json.clone(), chat_template, loaded));
        }
        let Some((_, _, loaded)) = &self.loaded else { return Err("nothing is loaded".to_owned()) };
        let ready = loaded.as_ref().map_err(|error| format!("the plugin does not load: {error}"))?;
        let script = Script {
            request: &case.request,
            headers: &case.headers,
            times: case.times,
            answer: case.answer.as_deref(),
        };
        let cut: Option<Vec<&str>> = pieces.as_ref().map(|pieces| pieces.iter().map(String::as_str).collect());
        let run = script.run(ready, cut.as_ref().map_or(Cut::Whole, |pieces| Cut::Pieces(pieces)));
        if pieces.is_some() && run.sent.error.is_none() && run.written != case.answer.clone().unwrap_or_default() {
            return Err(format!(
                "the answer cannot come in these pieces: under control the model wrote {:?}",
                run.written
            ));
        }
        let mut ran = Ran::of(run, ready, UseLimits::of(spec));
        if pieces.is_none() && random.is_some() {
            let options = Options { random: random.unwrap_or(RANDOM_CHUNKINGS), ..Options::default() };
            let Outcome { failures, warnings, chunkings, used, .. } = suite::outcome(loaded, spec, &case, &options);
            if !failures.is_empty() {
                return Ok(json!({"failed": failures.join("\n")}));
            }
            (ran.warnings, ran.chunkings, ran.used) = (warnings, chunkings, used);
        }
        Ok(json!({ "ran": ran }))
    }
}

impl Ran {
    fn of(run: Run, loaded: &Loaded, limits: UseLimits) -> Self {
        let vocabulary = loaded.model().vocabulary();
        let finish = finish_name(run.sent.finish());
        let (request, prompt) = run.prepared.unzip();
        Self {
            error: run.sent.error.map(|error| Failed::of(&error)),
            output: run.sent.content,
            reasoning: run.sent.reasoning,
            tool_calls: run.sent.calls,
            finish,
            notes: run.sent.notes,
            request: request.as_ref().map(request_json),
            segments: prompt.iter().flat_map(segment_lines).collect(),
            prompt: prompt.as_ref().map(text_of),
            written: run.written,
            steps: run.steps.iter().flatten().map(|step| steps::line(step, vocabulary, TOKENS_SHOWN_MAX)).collect(),
            used: run.used,
            limits,
            chunkings: 1,
            warnings: Vec::new(),
        }
    }
}

impl Failed {
    fn of(error: &PipelineError) -> Self {
        let (kind, status, code, message) = match error {
            PipelineError::Rejected { status, code, message, .. } => {
                ("rejected", Some(*status), Some(code.clone()), message.clone())
            }
            PipelineError::Invalid { message, .. } => ("invalid", None, None, message.clone()),
            PipelineError::Fault { kind, .. } => (kind.as_str(), None, None, described(error)),
            PipelineError::Unavailable { .. } => ("unavailable", None, None, described(error)),
            PipelineError::Overloaded => ("overloaded", None, None, described(error)),
        };
        Self { kind, message, status, code }
    }
}
