//! Answers to `POST /v1/completions`: every part of a stream has the form of the whole.

use std::collections::BTreeMap;

use inference::{Delta, TokenLogprobs, Usage};
use schemars::JsonSchema;
use serde::Serialize;

use super::ErrorBody;
use super::logprobs::{LOGPROB_MIN, spell};
use super::parts::{ChunkUsage, DONE, Notes, UsageMembers, event, finish_reason, finish_reasons_or_none};
use super::writer::{Head, Writer};
use crate::service::Finished;

/// How the client wants its answers.
#[derive(Debug, Clone)]
pub(super) struct CompletionForm {
    pub(super) include_usage: bool,
    pub(super) has_logprobs: bool,
    /// The prompts, where answers begin with them.
    pub(super) echoed: Option<Vec<String>>,
    /// Answers to each prompt.
    pub(super) choices: u32,
    /// Answers in all.
    pub(super) answers: u32,
}

/// Writes answers to `POST /v1/completions`.
pub(super) struct CompletionWriter {
    head: Head,
    form: CompletionForm,
    id: String,
    /// Of each choice: its text where it is collected, and how many characters it has.
    texts: Vec<Collected>,
}

#[derive(Default)]
struct Collected {
    text: String,
    logprobs: Logprobs,
    /// Characters whose tokens have been told of.
    characters: usize,
}

impl CompletionWriter {
    pub(super) fn new(head: Head, form: CompletionForm) -> Self {
        let id = format!("cmpl-{}", head.id);
        let texts = std::iter::repeat_with(Collected::default).take(form.answers as usize).collect();
        Self { head, form, id, texts }
    }

    fn echo(&self, choice: u32) -> Option<&str> {
        self.form
            .echoed
            .as_ref()
            .and_then(|echoed| echoed.get((choice / self.form.choices) as usize))
            .map(String::as_str)
    }

    fn write(&self, choices: Vec<Choice<'_>>, usage: ChunkUsage, notes: Option<Notes>) -> String {
        let body = Completion {
            id: &self.id,
            object: "text_completion",
            created: self.head.created,
            model: &self.head.model,
            system_fingerprint: &self.head.fingerprint,
            choices,
            usage,
            outrigger: notes,
        };
        serde_json::to_string(&body).expect("strings and numbers serialise")
    }

    /// Part of a stream.
    fn part(&self, choice: Choice<'_>, notes: Option<Notes>) -> String {
        event(&self.write(vec![choice], ChunkUsage::later(self.form.include_usage), notes))
    }
}

impl Writer for CompletionWriter {
    fn begin(&mut self) -> String {
        let echo = |index| {
            let text = self.echo(index)?;
            Some(self.part(Choice { index, text, logprobs: None, finish_reason: None }, None))
        };
        (0..self.form.answers).filter_map(echo).collect()
    }

    fn delta(&mut self, choice: u32, delta: Delta, logprobs: Vec<TokenLogprobs>) -> String {
        let Some(text) = text_of(&delta) else { return String::new() };
        let mut told = Logprobs::default();
        told.add(logprobs, &mut self.texts[choice as usize].characters);
        let logprobs = (self.form.has_logprobs && !told.tokens.is_empty()).then_some(told);
        self.part(Choice { index: choice, text, logprobs, finish_reason: None }, None)
    }

    fn finish(&mut self, finished: &Finished) -> String {
        let finish_reason = Some(finish_reason(finished.finish));
        let last = Choice { index: finished.choice, text: "", logprobs: None, finish_reason };
        let mut text = self.part(last, Notes::of([finished], self.form.answers));
        if let Some(usage) = finished.usage {
            if self.form.include_usage {
                text.push_str(&event(&self.write(Vec::new(), ChunkUsage::Counted(usage.into()), None)));
            }
            text.push_str(&event(DONE));
        }
        text
    }

    fn failed(&mut self, _status: u16, error: &ErrorBody) -> String {
        event(&error.json())
    }

    fn collect(&mut self, choice: u32, delta: Delta, logprobs: Vec<TokenLogprobs>) {
        let Some(text) = text_of(&delta) else { return };
        let collected = &mut self.texts[choice as usize];
        collected.text.push_str(text);
        collected.logprobs.add(logprobs, &mut collected.characters);
    }

    fn whole(&mut self, finished: &[Finished], usage: Usage) -> String {
        let texts = std::mem::take(&mut self.texts);
        let choices = finished.iter().zip(texts).map(|(end, Collected { text, logprobs, .. })| {
            let text = self.echo(end.choice).unwrap_or_default().to_owned() + &text;
            (text, self.form.has_logprobs.then_some(logprobs), end)
        });
        let mut choices: Vec<_> = choices.collect();
        let choices = choices.iter_mut().map(|(text, logprobs, end)| Choice {
            index: end.choice,
            text,
            logprobs: logprobs.take(),
            finish_reason: Some(finish_reason(end.finish)),
        });
        self.write(choices.collect(), ChunkUsage::Counted(usage.into()), Notes::of(finished, self.form.answers))
    }
}

/// What a delta adds to the text. No parser reads a completion, so nothing else comes.
fn text_of(delta: &Delta) -> Option<&str> {
    match delta {
        Delta::Content(text) => Some(text),
        Delta::Reasoning(_) | Delta::ToolCallStart { .. } | Delta::ToolArguments { .. } | Delta::ToolCallEnd { .. } => {
            None
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Completion")]
pub(super) struct Completion<'a> {
    id: &'a str,
    #[schemars(extend("const" = "text_completion"))]
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "ChunkUsage::is_unwanted")]
    #[schemars(with = "Option<UsageMembers>")]
    usage: ChunkUsage,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<Notes>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CompletionChoice")]
struct Choice<'a> {
    index: u32,
    text: &'a str,
    logprobs: Option<Logprobs>,
    #[schemars(extend("enum" = finish_reasons_or_none()))]
    finish_reason: Option<&'static str>,
}

/// Log probabilities in the old form: by token, side by side.
#[derive(Default, Serialize, JsonSchema)]
#[schemars(rename = "CompletionLogprobs")]
struct Logprobs {
    /// Where in the text each token begins, in characters.
    text_offset: Vec<usize>,
    #[serde(rename = "token_logprobs")]
    sampled: Vec<f32>,
    tokens: Vec<String>,
    /// The likeliest, by what they spell: of two that spell the same, the likelier.
    #[serde(rename = "top_logprobs")]
    likeliest: Vec<BTreeMap<String, f32>>,
}

impl Logprobs {
    fn add(&mut self, logprobs: Vec<TokenLogprobs>, characters: &mut usize) {
        for TokenLogprobs { sampled, top, .. } in logprobs {
            let mut likeliest = BTreeMap::new();
            for token in top {
                let logprob = token.logprob.max(LOGPROB_MIN);
                let known = likeliest.entry(spell(&token.bytes)).or_insert(logprob);
                *known = known.max(logprob);
            }
            self.text_offset.push(*characters);
            // A byte that begins no character is part of one that was counted.
            *characters += sampled.bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
            self.sampled.push(sampled.logprob.max(LOGPROB_MIN));
            self.tokens.push(spell(&sampled.bytes));
            self.likeliest.push(likeliest);
        }
    }
}
