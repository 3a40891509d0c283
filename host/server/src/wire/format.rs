//! The members that ask for a form of the answer, by the names that the field uses for them.
//!
//! `response_format` is OpenAI's. `grammar` (GBNF) and `json_schema` are llama-server's, as is a `schema` beside
//! `response_format.type`. `structured_outputs` is vLLM's. What is asked for is kept as text: whether it can be enforced is
//! found out when the request has a slot.

use inference::OutputFormat;

use super::Refusal;
use super::members::{Kind, Member};
use crate::limits;

/// The form that a request asks for, from whichever member says so; more than one is refused.
#[derive(Default)]
pub(super) struct FormatMembers {
    format: Option<(String, OutputFormat)>,
}

impl FormatMembers {
    /// Takes a member of the request if it is about this.
    pub(super) fn take(&mut self, name: &str, value: &Member<'_>) -> Result<bool, Refusal> {
        let format = match name {
            "response_format" => parse_response_format(value)?,
            "json_schema" => Some(schema(value)?),
            "grammar" => Some(OutputFormat::Gbnf(grammar(value)?)),
            "structured_outputs" => Some(parse_structured_outputs(value)?),
            "guided_json" | "guided_regex" | "guided_choice" | "guided_grammar" => {
                let member = name.trim_start_matches("guided_");
                return Err(value.unsupported(&format!("is not supported; send `structured_outputs.{member}`")));
            }
            "grammar_lazy" | "grammar_triggers" | "guided_decoding_backend" | "guided_whitespace_pattern" => {
                return Err(value.unsupported("is not supported; a grammar holds from the answer's first token"));
            }
            _ => return Ok(false),
        };
        let Some(format) = format else { return Ok(true) };
        if let Some((other, _)) = &self.format {
            return Err(value.wrong(&format!("and `{other}` ask for a form of the answer; send one of them")));
        }
        self.format = Some((name.to_owned(), format));
        Ok(true)
    }

    /// What was asked for.
    pub(super) fn finish(self) -> Option<OutputFormat> {
        self.format.map(|(_, format)| format)
    }
}

fn parse_response_format(value: &Member<'_>) -> Result<Option<OutputFormat>, Refusal> {
    let (mut kind, mut bare, mut named) = (None, None, None);
    for (name, member) in value.object()? {
        match name.as_str() {
            "type" => kind = Some((member.text(limits::SHORT_TEXT_BYTES_MAX)?, member)),
            "schema" => bare = Some((schema(&member)?, member)),
            "json_schema" => named = Some((parse_json_schema(&member)?, member)),
            _ => return Err(member.unknown()),
        }
    }
    let Some((kind, member)) = kind else { return Err(value.wrong("has no `type`: text, json_object or json_schema")) };
    match (kind.as_str(), bare, named) {
        ("text", None, None) => Ok(None),
        ("json_object", None, None) => Ok(Some(OutputFormat::JsonObject)),
        ("json_object" | "json_schema", Some((schema, _)), None) | ("json_schema", None, Some((schema, _))) => {
            Ok(Some(schema))
        }
        ("json_schema", None, None) => Err(value.wrong("has no `json_schema`: an object with `name` and `schema`")),
        ("json_schema", Some((_, other)), Some(_))
        | ("text", Some((_, other)), _)
        | ("text" | "json_object", _, Some((_, other))) => {
            Err(other.wrong(&format!("does not go with the type `{kind}` and what else is said here")))
        }
        _ => Err(member.wrong("must be text, json_object or json_schema")),
    }
}

/// OpenAI's `json_schema`. A schema is enforced whether or not `strict` says so, and what it is called changes nothing.
fn parse_json_schema(value: &Member<'_>) -> Result<OutputFormat, Refusal> {
    let mut found = None;
    for (name, member) in value.object()? {
        match name.as_str() {
            "schema" => found = Some(schema(&member)?),
            "name" => drop(member.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "description" => drop(member.text(limits::FORMAT_TEXT_BYTES_MAX)?),
            "strict" => drop(member.flag()?),
            _ => return Err(member.unknown()),
        }
    }
    found.ok_or_else(|| value.wrong("has no `schema`: a JSON schema"))
}

fn parse_structured_outputs(value: &Member<'_>) -> Result<OutputFormat, Refusal> {
    let mut format = None;
    for (name, member) in value.object()? {
        let found = match name.as_str() {
            // As an object, or as its text.
            "json" if member.kind() == Kind::Text => OutputFormat::JsonSchema(grammar(&member)?),
            "json" => schema(&member)?,
            "json_object" if member.flag()? => OutputFormat::JsonObject,
            // It asks for nothing.
            "json_object" => continue,
            "regex" => OutputFormat::Regex(grammar(&member)?),
            "choice" => OutputFormat::Regex(one_of(&member)?),
            // Both kinds go by this name there; only GBNF has `::=`.
            "grammar" => match grammar(&member)? {
                text if text.contains("::=") => OutputFormat::Gbnf(text),
                text => OutputFormat::Lark(text),
            },
            "structural_tag"
            | "disable_fallback"
            | "disable_any_whitespace"
            | "disable_additional_properties"
            | "whitespace_pattern" => return Err(member.unsupported("is not supported by this server; remove it")),
            _ => return Err(member.unknown()),
        };
        if format.replace(found).is_some() {
            return Err(
                value.wrong("asks for more than one form; send one of json, json_object, regex, choice and grammar")
            );
        }
    }
    format.ok_or_else(|| value.wrong("asks for no form; send one of json, json_object, regex, choice and grammar"))
}

/// A JSON schema, as the client wrote it. What it says is judged where it is compiled.
pub(super) fn schema(value: &Member<'_>) -> Result<OutputFormat, Refusal> {
    if value.kind() != Kind::Object && !matches!(value.json(), "true" | "false") {
        return Err(value.wrong("must be a JSON schema: an object, true or false"));
    }
    Ok(OutputFormat::JsonSchema(value.json_for_others(limits::FORMAT_TEXT_BYTES_MAX)?.to_owned()))
}

fn grammar(value: &Member<'_>) -> Result<String, Refusal> {
    match value.text(limits::FORMAT_TEXT_BYTES_MAX)? {
        text if text.trim().is_empty() => Err(value.wrong("must not be empty")),
        text => Ok(text),
    }
}

/// A regular expression that matches these texts, character by character, and nothing else.
fn one_of(value: &Member<'_>) -> Result<String, Refusal> {
    let choices = value.array(limits::CHOICES_MAX)?;
    let escaped = choices.iter().map(|choice| {
        let text = choice.text(limits::SHORT_TEXT_BYTES_MAX)?;
        if text.is_empty() {
            return Err(choice.wrong("must not be empty"));
        }
        let escape = |character: char| match character {
            character if character.is_alphanumeric() => character.to_string(),
            character => format!("\\x{{{:x}}}", u32::from(character)),
        };
        Ok(text.chars().map(escape).collect::<String>())
    });
    match escaped.collect::<Result<Vec<_>, _>>()? {
        choices if choices.is_empty() => Err(value.wrong("must have at least one choice")),
        choices => Ok(choices.join("|")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Option<OutputFormat>, Refusal> {
        let mut members = FormatMembers::default();
        for (name, value) in Member::body(json, limits::JSON_DEPTH_MAX)?.object()? {
            assert!(members.take(&name, &value)?, "{name} is about the form");
        }
        Ok(members.finish())
    }

    fn check(json: &str, expected: &OutputFormat) {
        let found = parse(json).unwrap_or_else(|refusal| panic!("{json}: {}", refusal.message));
        assert_eq!(found.as_ref(), Some(expected), "{json}");
    }

    fn refused(json: &str, param: &str, expected: &str) {
        let refusal = parse(json).expect_err(json);
        assert!(refusal.message.contains(expected), "{json}: {}", refusal.message);
        assert_eq!(refusal.param.as_deref(), Some(param), "{json}");
    }

    fn schema(text: &str) -> OutputFormat {
        OutputFormat::JsonSchema(text.to_owned())
    }

    #[test]
    fn every_spelling_of_a_schema_is_one() {
        check(
            r#"{"response_format":{"type":"json_schema","json_schema":{"name":"a","strict":false,"schema":{"x":1}}}}"#,
            &schema(r#"{"x":1}"#),
        );
        check(r#"{"response_format":{"type":"json_object","schema":{"x":1}}}"#, &schema(r#"{"x":1}"#));
        check(r#"{"response_format":{"type":"json_schema","schema":true}}"#, &schema("true"));
        check(r#"{"json_schema":{"x":1}}"#, &schema(r#"{"x":1}"#));
        check(r#"{"structured_outputs":{"json":{"x":1}}}"#, &schema(r#"{"x":1}"#));
        check(r#"{"structured_outputs":{"json":"{\"x\":1}","regex":null}}"#, &schema(r#"{"x":1}"#));
    }

    #[test]
    fn the_other_forms_are_read() {
        assert_eq!(parse(r#"{"response_format":{"type":"text"}}"#).expect("any text"), None);
        check(r#"{"response_format":{"type":"json_object"}}"#, &OutputFormat::JsonObject);
        check(r#"{"grammar":"root ::= \"a\""}"#, &OutputFormat::Gbnf("root ::= \"a\"".to_owned()));
        check(r#"{"structured_outputs":{"grammar":"start: \"a\""}}"#, &OutputFormat::Lark("start: \"a\"".to_owned()));
        check(r#"{"structured_outputs":{"regex":"a+","json_object":false}}"#, &OutputFormat::Regex("a+".to_owned()));
        check(
            r#"{"structured_outputs":{"choice":["yes","n/o.","é"]}}"#,
            &OutputFormat::Regex(r"yes|n\x{2f}o\x{2e}|é".to_owned()),
        );
        check(
            r#"{"response_format":{"type":"text"},"grammar":"root ::= \"a\""}"#,
            &OutputFormat::Gbnf("root ::= \"a\"".to_owned()),
        );
    }

    #[test]
    fn what_is_meant_must_be_clear() {
        refused(r#"{"grammar":"a","json_schema":{}}"#, "json_schema", "and `grammar` ask for a form");
        refused(r#"{"structured_outputs":{"regex":"a","choice":["b"]}}"#, "structured_outputs", "more than one form");
        refused(r#"{"structured_outputs":{}}"#, "structured_outputs", "asks for no form");
        refused(r#"{"response_format":{"type":"xml"}}"#, "response_format.type", "must be text");
        refused(r#"{"response_format":{}}"#, "response_format", "has no `type`");
        refused(r#"{"response_format":{"type":"json_schema"}}"#, "response_format", "has no `json_schema`");
        refused(
            r#"{"response_format":{"type":"json_schema","json_schema":{"name":"a"}}}"#,
            "response_format.json_schema",
            "has no `schema`",
        );
        refused(r#"{"response_format":{"type":"text","schema":{}}}"#, "response_format.schema", "does not go with");
        refused(
            r#"{"response_format":{"type":"json_schema","json_schema":{"schema":[]}}}"#,
            "response_format.json_schema.schema",
            "must be a JSON schema",
        );
        refused(r#"{"json_schema":{"a":{"b":1,"b":2}}}"#, "json_schema.a", "twice");
        refused(r#"{"guided_regex":"a"}"#, "guided_regex", "structured_outputs.regex");
        refused(
            r#"{"structured_outputs":{"structural_tag":"a"}}"#,
            "structured_outputs.structural_tag",
            "not supported",
        );
        refused(r#"{"grammar":" "}"#, "grammar", "must not be empty");
        refused(r#"{"structured_outputs":{"choice":[]}}"#, "structured_outputs.choice", "at least one choice");
    }
}
