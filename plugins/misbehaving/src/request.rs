//! The stages before the model.

use crate::act::{Where, act, is_told, tell, told};
use crate::bindings::exports::outrigger::plugin::policy::{self, Rejection, Verdict};
use crate::bindings::exports::outrigger::plugin::prompt::{self, Options, Rendered, Segment};
use crate::bindings::outrigger::plugin::types::{
    Annotations, Call, Error, Grammar, MediaRef, Message, Part, Request, Role, Tool,
};
use crate::{Misbehaving, script};

impl policy::Guest for Misbehaving {
    fn inspect(req: Request, call: Call) -> Result<(Verdict, Annotations), Error> {
        if let Some((_, behaviour)) = call.headers.iter().find(|(name, _)| name == "x-behaviour") {
            tell(behaviour);
        }
        act(Where::Policy)?;
        Ok((verdict(req), notes(&call)))
    }
}

fn verdict(mut request: Request) -> Verdict {
    match told().as_str() {
        "reject" => reject(429),
        "reject-with-odd-status" => reject(200),
        "replace-messages" => {
            request.messages.insert(0, message(Role::System, "Be brief."));
            Verdict::Replace(request)
        }
        "replace-with-nothing" => {
            request.messages.clear();
            Verdict::Replace(request)
        }
        "replace-model" => {
            request.model.push_str("-other");
            Verdict::Replace(request)
        }
        "replace-sampling" => {
            request.sampling.max_tokens = Some(1);
            Verdict::Replace(request)
        }
        "replace-with-odd-sampling" => {
            request.sampling.temperature = Some(f32::NAN);
            Verdict::Replace(request)
        }
        "replace-tools" => {
            let (name, schema_json) = ("rm".to_owned(), "{}".to_owned());
            request.tools.push(Tool { name, description: None, schema_json, strict: false });
            Verdict::Replace(request)
        }
        "replace-grammar" => {
            request.grammar = Some(Grammar::Regex("[0-9]+".to_owned()));
            Verdict::Replace(request)
        }
        "replace-extra" => {
            request.extra.push(("presence_penalty".to_owned(), "1.5".to_owned()));
            Verdict::Replace(request)
        }
        "replace-unknown-extra" => {
            request.extra.push(("lora".to_owned(), "{}".to_owned()));
            Verdict::Replace(request)
        }
        "replace-media" => {
            let media = MediaRef { index: 0, mime: "image/png".to_owned(), size: 1, sha256: None };
            request.messages[0].parts.push(Part::Media(media));
            Verdict::Replace(request)
        }
        "replace-with-the-same" => Verdict::Replace(request),
        _ => Verdict::Accept,
    }
}

fn reject(status: u16) -> Verdict {
    Verdict::Reject(Rejection {
        status,
        code: "told-to".to_owned(),
        message: "told to reject".to_owned(),
        retry_after_ms: Some(1_500),
    })
}

fn notes(call: &Call) -> Annotations {
    match told().as_str() {
        "note-headers" => call.headers.clone(),
        "note-too-much" => (0..1_000).map(|note| (format!("note-{note}"), "é".repeat(300))).collect(),
        // 2^18 pairs of nothing: small for the guest, large for a host that believes it.
        "huge-list" => vec![(String::new(), String::new()); 1 << 18],
        "note" => vec![("seen".to_owned(), "yes".to_owned())],
        _ => script::run(),
    }
}

fn message(role: Role, text: &str) -> Message {
    Message { role, name: None, parts: vec![Part::Text(text.to_owned())] }
}

impl prompt::Guest for Misbehaving {
    fn render(messages: Vec<Message>, _opts: Options, _call: Call) -> Result<Rendered, Error> {
        act(Where::Render)?;
        let mut segments = Vec::new();
        for message in messages {
            segments.push(Segment::Template(format!("<|{:?}|>", message.role)));
            segments.extend(message.parts.into_iter().filter_map(|part| match part {
                Part::Text(text) => Some(Segment::Content(text)),
                _ => None,
            }));
        }
        if is_told("huge-result") {
            segments.push(Segment::Content("x".repeat(6 << 20)));
        }
        if is_told("unknown-token") {
            segments.push(Segment::Tokens(vec![u32::MAX]));
        }
        let grammar = is_told("grammar").then_some(Grammar::JsonObject);
        let stop = if is_told("empty-stop") { vec![String::new()] } else { vec!["<|end|>".to_owned()] };
        Ok(Rendered { segments, stop, grammar, prefix: String::new(), marks: Vec::new() })
    }
}
