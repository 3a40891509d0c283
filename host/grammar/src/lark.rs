//! Lark grammars: bounded before llguidance's parser recurses, and without what the engine could not honour.

use crate::limits::{GRAMMAR_DEPTH_MAX, RULES_MAX};

/// Attributes of rules that ask for more than a form. The answer would be another one if they were ignored.
const ATTRIBUTES: [&str; 3] = ["temperature", "stop", "stop_capture"];

/// Refuses what is not enforced. Whether it is Lark at all is for llguidance to say.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let (mut depth, mut rules, mut line) = (0_usize, 0, 1);
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
    Ok(())
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
        let error = check(text).expect_err(text);
        assert!(error.contains(expected), "{text:.80}: {error}");
    }

    #[test]
    fn brackets_count_outside_texts() {
        let text = format!("start: {}\n", "\"(\" /[(]{2}/ // (((\n".repeat(60));
        assert_eq!(check(&text), Ok(()));
        refused(&format!("start: {}\"a\"", "(".repeat(60_000)), "line 1 nests more than");
    }

    #[test]
    fn what_is_not_enforced_is_named_with_its_line() {
        refused("start: a\na: <|im_end|>", "line 2 names tokens");
        refused("start: \"a\n\"\na[temperature = 0.5]: /b/", "line 3 sets `temperature`");
        refused("start[stop=\"x\"]: /b/", "line 1 sets `stop`");
        refused(&"a: \"b\"\n".repeat(2_000), "2000 rules");
        refused("start: \"abc", "never closed");
        assert_eq!(check("start: stop\nstop: \"temperature=\""), Ok(()));
    }
}
