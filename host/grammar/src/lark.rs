//! Lark grammars: bounded before llguidance's parser recurses, and without what the engine could not honour.

use serde_json::Value;

use crate::compiler::Author;
use crate::limits::{GRAMMAR_DEPTH_MAX, RULES_MAX};
use crate::schema;

/// Attributes of rules that ask for more than a form. The answer would be another one if they were ignored.
const ATTRIBUTES: [&str; 3] = ["temperature", "stop", "stop_capture"];

/// The grammar as llguidance gets it: with its JSON schemas (`%json {…}`) as [`schema::parse`] leaves them. Refuses what is not
/// enforced; whether it is Lark at all is for llguidance to say.
pub(crate) fn prepare(text: &str, author: Author) -> Result<String, String> {
    let (mut depth, mut rules, mut line) = (0_usize, 0, 1);
    let (mut prepared, mut copied) = (String::with_capacity(text.len()), 0);
    let mut word = String::new();
    let mut rest = text.char_indices().peekable();
    while let Some((place, character)) = rest.next() {
        let previous = std::mem::take(&mut word);
        match character {
            '\n' => line += 1,
            '"' | '/' => {
                let is_comment = character == '/' && rest.peek().is_some_and(|&(_, next)| next == '/');
                let length =
                    if is_comment { to_line_end(&text[place..]) } else { closing(&text[place + 1..], character)? + 1 };
                line += text[place..place + length].matches('\n').count();
                while rest.next_if(|&(next, _)| next < place + length).is_some() {}
            }
            '#' => {
                let end = place + to_line_end(&text[place..]);
                while rest.next_if(|&(next, _)| next < end).is_some() {}
            }
            '%' if text[place..].starts_with(JSON) => {
                let start = place + JSON.len();
                let (schema, length) = first_schema(&text[start..]).map_err(|error| format!("line {line}: {error}"))?;
                prepared.push_str(&text[copied..start]);
                prepared.push_str(&schema.to_string());
                copied = start + length;
                line += text[place..copied].matches('\n').count();
                while rest.next_if(|&(next, _)| next < copied).is_some() {}
            }
            '<' if author == Author::Prompt && numbered(&text[place..]) => {}
            '<' => {
                return Err(format!(
                    "line {line} names tokens (`<…>`), which are this model's alone; write their text"
                ));
            }
            '(' | '[' | '{' => {
                depth += 1;
                if depth > GRAMMAR_DEPTH_MAX {
                    return Err(format!("line {line} nests more than {GRAMMAR_DEPTH_MAX} deep"));
                }
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ':' => rules += 1,
            '=' if ATTRIBUTES.contains(&previous.trim_end()) => {
                return Err(format!("line {line} sets `{}`, which is not supported", previous.trim_end()));
            }
            _ if character.is_ascii_alphanumeric() || character == '_' || character == ' ' => {
                word = previous;
                if character != ' ' && word.ends_with(' ') {
                    word.clear();
                }
                word.push(character);
            }
            _ => {}
        }
    }
    if rules > RULES_MAX {
        return Err(format!("it has {rules} rules, and at most {RULES_MAX} are compiled"));
    }
    if text.contains("allow_invalid_utf8") {
        return Err("`allow_invalid_utf8` is not supported: answers are text".to_owned());
    }
    prepared.push_str(&text[copied..]);
    Ok(prepared)
}

/// What a JSON schema inside a grammar begins with.
const JSON: &str = "%json";

/// The schema that `text` begins with, and its length with the white space before it.
fn first_schema(text: &str) -> Result<(Value, usize), String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&serde_json::value::RawValue>();
    let raw = values.next().ok_or("`%json` is followed by no schema")?.map_err(|error| format!("no JSON: {error}"))?;
    Ok((schema::parse(raw.get())?, values.byte_offset()))
}

/// Whether a token's number stands here: `<[128010]>`.
fn numbered(text: &str) -> bool {
    let number = text.strip_prefix("<[").and_then(|rest| rest.split_once("]>"));
    number.is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn to_line_end(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// Bytes up to and with the delimiter that ends a string or a regular expression.
fn closing(text: &str, delimiter: char) -> Result<usize, String> {
    let mut escaped = false;
    for (place, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == delimiter => return Ok(place + 1),
            _ => {}
        }
    }
    Err(format!("a {delimiter} is never closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, expected: &str) {
        let error = prepare(text, Author::Client).expect_err(text);
        assert!(error.contains(expected), "{text:.80}: {error}");
    }

    #[test]
    fn brackets_count_outside_texts() {
        let text = format!("start: {}\n", "\"(\" /[(]{2}/ // (((\n".repeat(60));
        assert_eq!(prepare(&text, Author::Client), Ok(text));
        refused(&format!("start: {}\"a\"", "(".repeat(60_000)), "line 1 nests more than");
    }

    #[test]
    fn what_is_not_enforced_is_named_with_its_line() {
        refused("start: a\na: <|im_end|>", "line 2 names tokens");
        refused("start: \"a\n\"\na[temperature = 0.5]: /b/", "line 3 sets `temperature`");
        refused("start[stop=\"x\"]: /b/", "line 1 sets `stop`");
        refused(&"a: \"b\"\n".repeat(2_000), "2000 rules");
        refused("start: \"abc", "never closed");
        assert!(prepare("start: stop\nstop: \"temperature=\"", Author::Client).is_ok());
    }

    #[test]
    fn schemas_inside_are_schemas() {
        refused("start: \"a\"\nb: %json {\"not\": {}}", "line 2: at `/not`: the keyword `not`");
        refused("start: %json", "line 1: `%json` is followed by no schema");
        refused("start: %json {\"a\"", "line 1: no JSON");
        refused("start: %json {\"a\": 1} <[7]>", "names tokens");
        let deep = format!("start: %json {}1{}", "[".repeat(10_000), "]".repeat(10_000));
        refused(&deep, "line 1");
        // What would be structure of the grammar is text of the schema.
        let text = "start: a b\na: %json {\"enum\": [\"(((<x>/#\"]}\nb: \"c\"";
        let prepared = prepare(text, Author::Client).expect("a grammar");
        assert!(prepared.starts_with("start: a b\na: %json{") && prepared.ends_with("}\nb: \"c\""), "{prepared}");
        assert!(prepared.contains("x-guidance"), "{prepared}");
    }

    #[test]
    fn only_a_prompt_names_tokens_and_only_by_number() {
        assert!(prepare("start: <[7]>", Author::Prompt).is_ok());
        for tokens in ["<|end|>", "<[^7]>", "<[*]>", "<[]>", "<[7-9]>"] {
            assert!(prepare(&format!("start: {tokens}"), Author::Prompt).is_err(), "{tokens}");
        }
        refused("start: <[7]>", "names tokens");
    }
}
