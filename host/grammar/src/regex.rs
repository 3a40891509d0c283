//! Regular expressions: read here first, so that an error names the place and nothing has a meaning that it would not
//! have in the `regex` crate.

use llguidance::regex_to_lark;
use regex_syntax::ast::{self, Ast, GroupKind, Visitor};
use regex_syntax::hir::{Hir, HirKind, Look};

use crate::limits::REGEX_DEPTH_MAX;

/// The expression as the only rule of a Lark grammar. It has to match from the beginning to the end of the text.
pub(crate) fn lark(pattern: &str) -> Result<String, String> {
    check(pattern)?;
    if pattern.is_empty() {
        return Err("it is empty, and so would the answer be".to_owned());
    }
    Ok(format!("start: /{}/\n", regex_to_lark(pattern, "")))
}

fn check(pattern: &str) -> Result<(), String> {
    let ast = ast::parse::ParserBuilder::new().nest_limit(REGEX_DEPTH_MAX).build().parse(pattern);
    let ast = ast.map_err(|error| format!("{} at byte {}", error.kind(), error.span().start.offset))?;
    ast::visit(&ast, NotHere)?;
    let hir = regex_syntax::hir::translate::Translator::new().translate(pattern, &ast);
    let hir = hir.map_err(|error| format!("{} at byte {}", error.kind(), error.span().start.offset))?;
    check_looks(&hir, true)
}

/// What llguidance gives another meaning, or what the way there would change.
struct NotHere;

impl Visitor for NotHere {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        let flags = match ast {
            Ast::Flags(flags) => Some(&flags.flags),
            Ast::Group(group) => match &group.kind {
                GroupKind::CaptureName { name, .. } if name.name == "stop" => {
                    return Err(format!("a group is called `stop` at byte {}; rename it", name.span.start.offset));
                }
                GroupKind::NonCapturing(flags) => Some(flags),
                GroupKind::CaptureName { .. } | GroupKind::CaptureIndex(_) => None,
            },
            _ => None,
        };
        match flags {
            Some(flags) if flags.flag_state(ast::Flag::IgnoreWhitespace) == Some(true) => {
                Err(format!("the flag `x` at byte {} is not supported", flags.span.start.offset))
            }
            _ => Ok(()),
        }
    }
}

/// `^` and `$` may stand where they mean nothing: at both ends of the whole expression.
fn check_looks(hir: &Hir, is_whole: bool) -> Result<(), String> {
    match hir.kind() {
        HirKind::Look(Look::Start | Look::End) if is_whole => Ok(()),
        HirKind::Look(_) => {
            Err("anchors and word boundaries are not supported; the whole answer has to match anyway".to_owned())
        }
        HirKind::Concat(parts) => {
            let last = parts.len() - 1;
            parts.iter().enumerate().try_for_each(|(place, part)| {
                let is_anchor = match part.kind() {
                    HirKind::Look(Look::Start) => place == 0,
                    HirKind::Look(Look::End) => place == last,
                    _ => false,
                };
                check_looks(part, is_whole && is_anchor)
            })
        }
        HirKind::Alternation(parts) => parts.iter().try_for_each(|part| check_looks(part, false)),
        HirKind::Repetition(repetition) => check_looks(&repetition.sub, false),
        HirKind::Capture(capture) => check_looks(&capture.sub, false),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(pattern: &str, expected: &str) {
        let error = lark(pattern).expect_err(pattern);
        assert!(error.contains(expected), "{pattern:.80}: {error}");
    }

    #[test]
    fn the_end_of_a_regex_is_not_the_end_of_its_rule() {
        assert_eq!(lark("a/b\nc"), Ok("start: /a\\/b\\nc/\n".to_owned()));
        refused("abc\\", "incomplete escape");
    }

    #[test]
    fn what_is_not_enforced_is_named_with_its_place() {
        refused("a(b", "unclosed group at byte 1");
        refused("a(?=b)", "look-around");
        refused(r"(a)\1", "backreferences are not supported at byte 3");
        refused("a^b", "anchors");
        refused(r"\bword", "word boundaries");
        refused("(?x) a b", "the flag `x` at byte 2");
        refused("a(?P<stop>b)", "`stop` at byte 5");
        refused("", "empty");
        assert!(lark("^[a-c]+$").is_ok());
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{}a{}", "(".repeat(60_000), ")".repeat(60_000));
        refused(&deep, "exceed the maximum number of nested parentheses");
    }
}
