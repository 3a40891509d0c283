//! Keeps an answer inside a JSON schema. As a policy it names the grammar, which the host then enforces token by token;
//! as a filter it checks what came, since an answer may still be cut short, changed by another plugin, or asked for in a
//! form that no grammar enforces to the letter.
//!
//! Nothing is held back: syntax is followed byte by byte (`syntax.rs`), the schema is looked at when the answer is there
//! (`schema.rs`).

mod config;
mod form;
mod limits;
mod schema;
mod syntax;

pub use config::{Config, OnInvalid, OtherForm, Tools};
pub use form::{Answer, Form, Judgement};
use outrigger_plugin::prelude::*;
pub use schema::check;
use serde_json::Value;
pub use syntax::Syntax;

/// The plugin.
#[derive(Debug)]
pub struct JsonGuard {
    config: Config,
    /// What the answer to this request has to be.
    form: Option<Form>,
}

impl Plugin for JsonGuard {
    fn new(cx: &Context) -> Result<Self> {
        let mut config: Config = cx.config()?;
        if let Some(Value::String(json)) = &config.schema {
            let schema = serde_json::from_str(json).map_err(|error| format!("`schema` is not JSON: {error}"))?;
            config.schema = Some(schema);
        }
        match &config.schema {
            Some(schema) if !schema.is_object() => Err("`schema` is not a JSON schema: it has to be an object".into()),
            _ => Ok(Self { config, form: None }),
        }
    }
}

impl Policy for JsonGuard {
    fn inspect(&mut self, mut request: Request, _call: &Call) -> Result<Decision> {
        // An instance may be used again.
        self.form = None;
        let calls = Calls::of(&request);
        let Some(schema) = self.config.schema.clone() else {
            // Where a call is required the host drops the form: nothing is said beside it.
            self.form = if calls == Calls::Required { None } else { asked_for(request.grammar.as_ref()) };
            return Ok(Decision::accept());
        };
        if calls != Calls::None {
            return Ok(match self.config.tools {
                Tools::Pass => Decision::accept().note("json-guard", "not checked: the request has tools"),
                Tools::Reject => Decision::reject(
                    400,
                    "tools_not_allowed",
                    "Answers of this service have a fixed form, so no tools can be called. Leave `tools` out.",
                ),
            });
        }
        let is_other =
            request.grammar.is_some() && asked_for(request.grammar.as_ref()) != Some(Form::Schema(schema.clone()));
        match self.config.other_form {
            OtherForm::Keep if is_other => {
                self.form = asked_for(request.grammar.as_ref());
                Ok(Decision::accept())
            }
            OtherForm::Reject if is_other => Ok(Decision::reject(
                400,
                "form_not_allowed",
                "Answers of this service have a fixed form. Leave `response_format` out.",
            )),
            _ => {
                let is_same = request.grammar.is_some() && !is_other;
                let grammar = Grammar::JsonSchema(schema.to_string());
                self.form = Some(Form::Schema(schema));
                if is_same {
                    return Ok(Decision::accept());
                }
                request.grammar = Some(grammar);
                Ok(Decision::replace(request))
            }
        }
    }
}

/// Whether an answer may call tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    None,
    Possible,
    /// It does nothing else.
    Required,
}

impl Calls {
    fn of(request: &Request) -> Self {
        if request.tools.is_empty() {
            return Self::None;
        }
        let choice = request.extra.iter().find(|(name, _)| name == "tool_choice");
        match choice.and_then(|(_, json)| serde_json::from_str(json).ok()) {
            Some(Value::String(word)) if word == "none" => Self::None,
            // The other one names a function.
            Some(Value::String(word)) if word != "required" => Self::Possible,
            Some(_) => Self::Required,
            None => Self::Possible,
        }
    }
}

/// The form in JSON that a request asks for.
fn asked_for(grammar: Option<&Grammar>) -> Option<Form> {
    match grammar? {
        Grammar::JsonObject => Some(Form::Object),
        // One that is no JSON is refused when it is compiled.
        Grammar::JsonSchema(schema) => serde_json::from_str::<Value>(schema).ok().map(Form::Schema),
        Grammar::Regex(_) | Grammar::Lark(_) | Grammar::Gbnf(_) => None,
    }
}

impl Postprocess for JsonGuard {
    type Filter = Answer;

    fn open(&mut self, _call: &Call, _choice: u32) -> Result<(Answer, Profile)> {
        // Where no form is asked for no text need come by.
        let channels: &[Channel] = if self.form.is_some() { &[Channel::Content] } else { &[] };
        Ok((Answer::default(), Profile { max_holdback: 0, ..Profile::of(channels) }))
    }

    fn push(&mut self, answer: &mut Answer, chunk: &Chunk) -> Result<Output> {
        let on_invalid = self.config.on_invalid;
        let Some(form) = &self.form else { return Ok(Output::pass()) };
        let taken = answer.take(&chunk.window);
        if taken.is_ok() && !chunk.last {
            return Ok(Output::pass());
        }
        let problem = match answer.judge(form) {
            Judgement::Valid => return Ok(Output::pass().note("json-guard", "valid")),
            Judgement::NotChecked(why) => return Ok(Output::pass().note("json-guard", format!("not checked: {why}"))),
            Judgement::Invalid(problem) => problem,
        };
        match on_invalid {
            OnInvalid::Annotate if chunk.last => Ok(Output::pass().note("json-guard", problem)),
            OnInvalid::Annotate => Ok(Output::pass()),
            OnInvalid::Fail => {
                Err(Error::Unavailable(format!("the answer has not the form that was asked for: {problem}")))
            }
            OnInvalid::Stop => {
                let good = taken.err().unwrap_or(chunk.window.len());
                let good = chunk.window.floor_char_boundary(good);
                Ok(Output::pass_first(good).and_stop(Finish::Filtered).note("json-guard", problem))
            }
        }
    }
}

outrigger_plugin::export!(JsonGuard: Policy, Postprocess);
