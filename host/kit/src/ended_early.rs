//! An answer that ends before its time, at `max_tokens`: whatever a plugin had held back at that moment has to come out.
//!
//! What was to come of it nobody knows, since plugins change text. But text that is sent where the answer goes on by a space, and is not
//! where it ends, is lost by the end alone.

use crate::answer::Sent;
use crate::chunking;
use crate::drive::{Cut, Run};
use crate::judge::difference;
use crate::limits::PREFIXES_MAX;
use crate::suite::Trial;

/// Behind these, which are little of anything, hardly a text is still held.
const MORE: [&str; 2] = [" ", "\n"];

/// What is lost of the answer that `whole` is of, in words.
pub(crate) fn objection(trial: &Trial<'_>, whole: &Run) -> Option<String> {
    let answer = whole.written.as_str();
    if trial.case.expect.drops_end || whole.sent.error.is_some() {
        return None;
    }
    let sent = |pieces: &[&str]| Some(trial.run_as(&trial.case.request, Cut::Short(pieces)).sent).filter(is_at_its_end);
    let is_unchanged = whole.sent.content == answer && whole.sent.stop.is_none();
    for beginning in chunking::beginnings(answer, PREFIXES_MAX) {
        let Some(short) = sent(&[beginning, ""]) else { continue };
        if short.content == beginning {
            continue;
        }
        // What is changed there has a reason of its own; what is missing at the end has none.
        if is_unchanged && beginning.starts_with(&short.content) {
            return Some(lost(&difference("output", beginning, &short.content)));
        }
        for more in MORE {
            let missing = sent(&[beginning, more, ""]).and_then(|longer| missing(&short, &longer, more));
            if let Some((part, longer)) = missing {
                let differs = difference(part, longer.trim_end(), &short.part(part));
                return Some(lost(&format!(
                    "{differs}\n  where it ends behind {beginning:?}, and it is sent where {more:?} follows"
                )));
            }
        }
    }
    None
}

fn lost(how: &str) -> String {
    format!(
        "text is lost where the answer ends early (max_tokens): {how}\n  with `last`, what is held has to be sent; if it is dropped on \
         purpose, say so with `drops_end = true` in `expect`"
    )
}

/// Whether the end was the model's.
fn is_at_its_end(sent: &Sent) -> bool {
    sent.error.is_none() && sent.stop.is_none()
}

/// The part in which `longer` goes on with more than space behind all that `short` has, and what it is there; `None` also where the
/// two differ in other ways, as text that is sent as something else is not lost. `more`: what `longer` was given beyond it, which a
/// parser may have written as JSON does.
fn missing(short: &Sent, longer: &Sent, more: &str) -> Option<(&'static str, String)> {
    if short.calls.len() != longer.calls.len() {
        return None;
    }
    let texts = |sent: &Sent| {
        let arguments = sent.calls.iter().map(|call| ("tool_calls", call.arguments.clone()));
        [("output", sent.content.clone()), ("reasoning", sent.reasoning.clone())]
            .into_iter()
            .chain(arguments)
            .collect::<Vec<_>>()
    };
    let (mut found, as_json) = (None, more.escape_default().to_string());
    for ((part, short), (_, text)) in texts(short).into_iter().zip(texts(longer)) {
        let rest = text.strip_prefix(short.as_str())?;
        let rest = rest.strip_suffix(as_json.as_str()).unwrap_or(rest);
        if found.is_none() && !rest.trim().is_empty() {
            found = Some((part, longer.part(part)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Call;

    #[test]
    fn what_is_missing_is_found_in_every_channel() {
        let sent = |content: &str, reasoning: &str, arguments: &str| Sent {
            content: content.to_owned(),
            reasoning: reasoning.to_owned(),
            calls: vec![Call { name: "f".to_owned(), arguments: arguments.to_owned() }],
            ..Sent::default()
        };
        let check = |short: Sent, longer: Sent, expected: Option<&str>| {
            assert_eq!(missing(&short, &longer, "\n").map(|(part, _)| part), expected, "{short:?} {longer:?}");
        };
        check(sent("a", "b", "c"), sent("a fu ", "b", "c"), Some("output"));
        check(sent("a", "b", "c"), sent("a", "b fu ", "c"), Some("reasoning"));
        check(sent("a", "b", "c"), sent("a", "b", "c fu "), Some("tool_calls"));
        check(sent("a", "b", "c"), sent("a", "b", "c fu\\n"), Some("tool_calls"));
        check(sent("a", "b", "c"), sent("a ", "b\n", "c\\n"), None);
        check(sent("a", "b", "c"), sent("ab", "", "c"), None);
        check(sent("a", "b", "c"), Sent { calls: Vec::new(), ..sent("abc", "b", "c") }, None);
    }
}
