//! What a case expects.

use std::collections::BTreeMap;

use inference::FaultKind;
use serde::Deserialize;

use crate::steps::ExpectedStep;

/// What is expected; what is left out may be anything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// The plugin does not load with this configuration, and says this, among other things.
    pub refused: Option<String>,
    /// A policy rejects the request.
    pub rejected: Option<Rejected>,
    /// The plugin calls the request invalid, and says this, among other things.
    pub invalid: Option<String>,
    /// The plugin breaks its contract: `timeout`, `memory`, `error`, …
    pub fault: Option<String>,
    /// The request as the policies leave it has these members, in `OpenAI`'s form.
    pub request: Option<toml::Table>,
    /// The prompt's text.
    pub prompt: Option<String>,
    /// The prompt's segments: `{ template = "…" }`, whose control tokens count, or `{ content = "…" }`, whose do not.
    pub segments: Option<Vec<BTreeMap<String, String>>>,
    /// The answer's text.
    pub output: Option<String>,
    /// The thoughts before it.
    pub reasoning: Option<String>,
    /// The calls of tools.
    pub tool_calls: Option<Vec<ExpectedCall>>,
    /// Where an answer ends early, text at its end is dropped, and is to be.
    pub drops_end: bool,
    /// Why it ended: `stop`, `length`, `tool-calls`, `filtered`.
    pub finish: Option<String>,
    /// What the plugin that controls tokens says, step by step; the same said again and again stands there once.
    pub steps: Option<Vec<ExpectedStep>>,
    /// Notes that are there, and perhaps others.
    pub notes: Option<BTreeMap<String, String>>,
    /// What it may use at most.
    pub at_most: AtMost,
}

/// A rejection; what is left out may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rejected {
    /// HTTP status.
    pub status: Option<u16>,
    /// For programs.
    pub code: Option<String>,
    /// For people.
    pub message: Option<String>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedCall {
    /// The function.
    pub name: String,
    /// Its arguments.
    pub arguments: toml::Table,
}

/// Bounds that are closer than the host's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AtMost {
    /// Instructions of the whole request, with the answer in one piece.
    pub instructions: Option<u64>,
    /// Linear memory.
    pub memory_bytes: Option<u64>,
    /// Bytes held back, however the answer is cut.
    pub held_bytes: Option<u64>,
}

impl Expect {
    /// What is expected can all be true at once, and all of it is judged.
    pub(super) fn check(&self, has_answer: bool) -> Result<(), String> {
        let endings = [
            ("refused", self.refused.is_some()),
            ("rejected", self.rejected.is_some()),
            ("invalid", self.invalid.is_some()),
            ("fault", self.fault.is_some()),
        ];
        let endings: Vec<&str> =
            endings.into_iter().filter(|(_, is_expected)| *is_expected).map(|(it, _)| it).collect();
        if let [one, other, ..] = endings[..] {
            return Err(format!("`expect.{one}` and `expect.{other}` cannot both be"));
        }
        // Each with what it is of, and the endings beside which it is not there to be judged.
        let early: &[&str] = &["refused", "rejected"];
        let all: &[&str] = &["refused", "rejected", "invalid", "fault"];
        let members: [(&str, bool, bool, &[&str]); 11] = [
            ("output", self.output.is_some(), true, all),
            ("reasoning", self.reasoning.is_some(), true, all),
            ("tool_calls", self.tool_calls.is_some(), true, all),
            ("finish", self.finish.is_some(), true, all),
            ("drops_end", self.drops_end, true, all),
            ("steps", self.steps.is_some(), true, early),
            ("request", self.request.is_some(), false, early),
            ("prompt", self.prompt.is_some(), false, early),
            ("segments", self.segments.is_some(), false, early),
            ("notes", self.notes.is_some(), false, &["refused"]),
            ("at_most", self.at_most != AtMost::default(), false, &["refused", "fault"]),
        ];
        for (key, _, is_of_answer, unjudged) in members.into_iter().filter(|(_, is_expected, ..)| *is_expected) {
            if is_of_answer && !has_answer {
                return Err(format!("`expect.{key}` is of an answer, and there is no `answer`"));
            }
            if let Some(ending) = endings.iter().find(|ending| unjudged.contains(ending)) {
                return Err(format!("`expect.{key}` is not there to be judged beside `expect.{ending}`"));
            }
        }
        if let Some(fault) = self.fault.as_ref().filter(|fault| FAULTS.iter().all(|kind| kind.as_str() != *fault)) {
            let kinds: Vec<_> = FAULTS.iter().map(|kind| kind.as_str()).collect();
            return Err(format!("`expect.fault` is `{fault}`; {} are possible", kinds.join(", ")));
        }
        for (place, step) in self.steps.iter().flatten().enumerate() {
            step.check().map_err(|reason| format!("`expect.steps[{place}]` {reason}"))?;
        }
        match &self.finish {
            Some(finish) if !FINISHES.contains(&finish.as_str()) => {
                Err(format!("`expect.finish` is `{finish}`; {} are possible", FINISHES.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

/// How an answer may end that went well.
const FINISHES: [&str; 4] = ["stop", "length", "tool-calls", "filtered"];

/// The kinds of faults.
const FAULTS: [FaultKind; 8] = [
    FaultKind::Trap,
    FaultKind::Timeout,
    FaultKind::Memory,
    FaultKind::Stack,
    FaultKind::OutputSize,
    FaultKind::HostCalls,
    FaultKind::Contract,
    FaultKind::Error,
];
