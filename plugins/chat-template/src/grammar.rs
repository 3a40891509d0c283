//! The grammar that holds an answer to what the request asks of its calls, in llguidance's Lark: the model's own form of calls
//! around the functions' schemas.

mod parameters;

use std::fmt::Write as _;

use outrigger_plugin::types::{Error, Tool};
use serde_json::{Value, json};

use crate::conversation::{Choice, Conversation};
use crate::format::Format;
use crate::limits::CALLS_MAX;
use crate::parse::Reading;

/// The grammar, where one is needed and the form of the calls is known.
pub(crate) fn of(
    conversation: &Conversation,
    reading: &Reading,
    template: &str,
    prefix: &str,
    token: &dyn Fn(&str) -> Option<u32>,
) -> Result<Option<String>, Error> {
    let tools = &conversation.tools;
    let is_needed = match conversation.tool_choice {
        Choice::Required | Choice::Named(_) => true,
        Choice::Auto => !tools.is_empty() && (conversation.single_call || tools.iter().any(|tool| tool.strict)),
    };
    let (true, Some(format)) = (is_needed, reading.calls) else { return Ok(None) };
    let tokens = reading.marks(true).into_iter().filter_map(|mark| token(&mark).map(|token| (mark, token))).collect();
    let mut grammar = Grammar { format, tokens, rules: String::new(), has_text: false };
    let Some(names) = grammar.calls(conversation)? else { return Ok(None) };
    let Some(thought) = grammar.thought(reading, template, prefix) else { return Ok(None) };
    let may_answer = conversation.tool_choice == Choice::Auto;
    let is_single = conversation.single_call || matches!(conversation.tool_choice, Choice::Named(_));
    let start = if may_answer {
        grammar.either(&names, is_single)
    } else {
        grammar.list(&grammar.text(grammar.mark()), &names, is_single)
    };
    Ok(Some(format!("start: {thought} {start}\n{}", grammar.rules)))
}

struct Grammar {
    format: Format,
    /// The marks that are control tokens, with their numbers.
    tokens: Vec<(String, u32)>,
    rules: String,
    /// One of the rules is that of a text between tags.
    has_text: bool,
}

impl Grammar {
    /// A rule for each call that may be made; returns what stands for any of them. `None`: their form has no place for the
    /// schemas.
    fn calls(&mut self, conversation: &Conversation) -> Result<Option<String>, Error> {
        let mut names = Vec::new();
        for (number, tool) in conversation.tools.iter().enumerate() {
            match &conversation.tool_choice {
                Choice::Named(name) if *name != tool.name => continue,
                _ => {}
            }
            let is_promised = tool.strict || conversation.tool_choice != Choice::Auto;
            // Parameters without JSON around them need the schema to know their names.
            let schema =
                if is_promised || self.format == Format::QwenXml { schema(tool)? } else { json!({"type": "object"}) };
            if self.format == Format::QwenXml {
                let Some(parameters) = self.parameters(number, &schema, is_promised) else { return Ok(None) };
                let before = quoted(&format!("\n<function={}>\n", tool.name));
                let _ = writeln!(self.rules, "call_{number}: {before} {parameters} \"</function>\\n</tool_call>\"");
            } else {
                let [before, between, behind] = self.format.frame();
                let before = before.strip_prefix(self.mark()).unwrap_or(before);
                let head = self.text(&format!("{before}{}{between}", tool.name));
                let behind = self.text(behind);
                let _ = writeln!(self.rules, "call_{number}: {head} arguments_{number} {behind}");
                let _ = writeln!(self.rules, "arguments_{number}: %json {schema}");
            }
            names.push(format!("call_{number}"));
        }
        Ok((!names.is_empty()).then(|| format!("({})", names.join(" | "))))
    }

    /// What every call, or a list of calls, begins with; empty where nothing marks it.
    fn mark(&self) -> &'static str {
        match self.format {
            Format::Llama | Format::Json | Format::Harmony => "",
            format => format.opens()[0],
        }
    }

    /// Calls and nothing else, the first of them behind `opened`, which stands for its mark.
    fn list(&self, opened: &str, call: &str, is_single: bool) -> String {
        let (before, between, behind) = self.format.list();
        // The mark is that of a whole list, or that of every call.
        let (before, again) = before.strip_prefix(self.mark()).map_or((before, self.mark()), |rest| (rest, ""));
        let more = match between {
            Some(between) if !is_single => {
                format!("({} {call}){{0,{}}}", self.text(&format!("{between}{again}")), CALLS_MAX - 1)
            }
            _ => String::new(),
        };
        format!("{opened} {} {call} {more} {}", self.text(before), self.text(behind))
    }

    /// Calls, or text in which no call begins, or both.
    fn either(&mut self, call: &str, is_single: bool) -> String {
        let forbidden: Vec<String> = self.format.opens().iter().map(|open| escaped(open)).collect();
        let forbidden = forbidden.join("|");
        match self.format {
            Format::Llama | Format::Json => {
                let _ = writeln!(
                    self.rules,
                    "TEXT: /[ \\n]{{0,4}}[^ \\t\\r\\n{{\\[](.|\\n)*/ & ~/(.|\\n)*({forbidden})(.|\\n)*/"
                );
                format!("({} | TEXT)", self.list("", call, is_single))
            }
            Format::Harmony => {
                let answer = self.text("<|channel|>final<|message|>");
                let _ = writeln!(self.rules, "TEXT: /(.|\\n)+/");
                format!("({} | {answer} TEXT)", self.list("", call, is_single))
            }
            _ => {
                let _ = writeln!(self.rules, "TEXT: /(.|\\n)+/ & ~/(.|\\n)*({forbidden})(.|\\n)*/");
                let opened = if self.is_token(self.mark()) {
                    format!("TEXT? {}", self.text(self.mark()))
                } else {
                    // As short as it can be: it ends with the first mark.
                    let _ = writeln!(self.rules, "opened[lazy]: /(.|\\n)*{}/", escaped(self.mark()));
                    "opened".to_owned()
                };
                format!("(TEXT? | {})", self.list(&opened, call, is_single))
            }
        }
    }

    /// What a model thinks before it calls or answers. `None`: it is not known how that ends.
    fn thought(&mut self, reading: &Reading, template: &str, prefix: &str) -> Option<String> {
        if self.format == Format::Harmony {
            let is_token = |mark: &str| self.is_token(mark);
            if !["<|channel|>", "<|message|>", "<|start|>", "<|end|>"].into_iter().all(is_token) {
                return None;
            }
            let (before, behind) =
                (self.text("<|channel|>analysis<|message|>"), self.text("<|end|><|start|>assistant"));
            let _ = writeln!(self.rules, "THOUGHT: /(.|\\n)+/");
            return Some(format!("({before} THOUGHT {behind})?"));
        }
        let is_open = |open: &str| prefix.trim_start().starts_with(open);
        let Some(pair) = reading.thoughts.iter().find(|pair| is_open(&pair.open) || template.contains(&pair.open))
        else {
            return Some(String::new());
        };
        if self.is_token(&pair.close) {
            let close = self.text(&pair.close);
            let _ = writeln!(self.rules, "thought: THOUGHT? {close} (\"\\n\" | \"\\n\\n\")?\nTHOUGHT: /(.|\\n)+/");
        } else {
            let close = escaped(&pair.close);
            let _ =
                writeln!(self.rules, "thought: thinking (\"\\n\" | \"\\n\\n\")?\nthinking[lazy]: /(.|\\n)*{close}/");
        }
        Some(if is_open(&pair.open) { "thought".to_owned() } else { format!("({} thought)?", self.text(&pair.open)) })
    }

    /// Text of a call, with the control tokens that it spells.
    fn text(&self, text: &str) -> String {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((at, mark, token)) = self.first_token(rest) {
            if at > 0 {
                parts.push(quoted(&rest[..at]));
            }
            parts.push(format!("<[{token}]>"));
            rest = &rest[at + mark.len()..];
        }
        if !rest.is_empty() {
            parts.push(quoted(rest));
        }
        parts.join(" ")
    }

    fn first_token(&self, text: &str) -> Option<(usize, &str, u32)> {
        let found = self.tokens.iter().filter_map(|(mark, token)| Some((text.find(mark)?, mark.as_str(), *token)));
        found.min_by_key(|(at, mark, _)| (*at, usize::MAX - mark.len()))
    }

    fn is_token(&self, mark: &str) -> bool {
        self.tokens.iter().any(|(known, _)| known == mark)
    }
}

/// A function's schema. What it does not say about further members means none, as with llama.cpp: a model that may add some
/// does, without end.
fn schema(tool: &Tool) -> Result<Value, Error> {
    let mut schema: Value = serde_json::from_str(&tool.schema_json)
        .map_err(|error| Error::Invalid(format!("the parameters of tool `{}` are not JSON: {error}", tool.name)))?;
    if let Value::Object(members) = &mut schema {
        members.entry("type").or_insert_with(|| "object".into());
        members.entry("properties").or_insert_with(|| json!({}));
    }
    // Of several schemas that hold at once none may forbid what another one asks for.
    if !tool.schema_json.contains("\"allOf\"") && !tool.schema_json.contains("\"$ref\"") {
        close(&mut schema);
    }
    Ok(schema)
}

fn close(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    let is_plain = !["anyOf", "oneOf", "patternProperties"].iter().any(|name| members.contains_key(*name));
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        properties.values_mut().for_each(close);
        if is_plain {
            members.entry("additionalProperties").or_insert(Value::Bool(false));
        }
    }
    if let Some(items) = members.get_mut("items") {
        close(items);
    }
}

/// A text as Lark writes it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A text in a regular expression.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\.+*?()|[]{}^$#&-~/".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests;
