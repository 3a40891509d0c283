//! Regular expressions, compiled only where they are configured: one automaton for a list, one pass over a text, whatever
//! is in either.
//!
//! An automaton knows no word boundaries of Unicode. The engines that do are some hundred times slower, and would be met
//! by texts with a single letter that is not ASCII; so a pattern that asks for one is refused.

use std::cell::RefCell;

use outrigger_plugin::prelude::*;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::{Input, MatchKind, PatternSet};
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::config::{Pattern, RoleName, Rules};
use crate::limits::{PATTERNS_BYTES_MAX, STATES_BYTES};

/// Whose messages are looked at where a denied pattern does not say: a client writes them all.
const DENIED_TO: [RoleName; 5] = RoleName::ALL;

/// The same of an allowed one, which the rest of a conversation cannot be expected to have.
const ALLOWED_TO: [RoleName; 1] = [RoleName::User];

/// The patterns of some rules.
#[derive(Debug)]
pub(crate) struct Both<T = Patterns> {
    pub(crate) deny: T,
    pub(crate) allow: T,
}

impl Both {
    pub(crate) fn of(rules: &Rules) -> Result<Self> {
        Ok(Self { deny: Patterns::new(&rules.deny, &DENIED_TO)?, allow: Patterns::new(&rules.allow, &ALLOWED_TO)? })
    }
}

impl Both<Option<Patterns>> {
    /// Those that differ from the usual.
    pub(crate) fn own(rules: &Rules, usual: &Rules) -> Result<Self> {
        let own =
            |own: &[Pattern], usual: &[Pattern], roles| (own != usual).then(|| Patterns::new(own, roles)).transpose();
        Ok(Self {
            deny: own(&rules.deny, &usual.deny, &DENIED_TO)?,
            allow: own(&rules.allow, &usual.allow, &ALLOWED_TO)?,
        })
    }

    pub(crate) fn or<'a>(&'a self, usual: &'a Both) -> Both<&'a Patterns> {
        Both { deny: self.deny.as_ref().unwrap_or(&usual.deny), allow: self.allow.as_ref().unwrap_or(&usual.allow) }
    }
}

/// What these weigh, as far as their spelling tells, which is much cheaper than to compile them.
pub(crate) fn weigh(patterns: &[Pattern]) -> Result<usize, String> {
    let weight = read(patterns)?.iter().map(weight).fold(AUTOMATON_WEIGHT, usize::saturating_add);
    Ok(weight)
}

fn read(patterns: &[Pattern]) -> Result<Vec<Hir>, String> {
    let read = |Pattern { pattern, .. }: &Pattern| match regex_syntax::parse(pattern) {
        Ok(parsed) if parsed.properties().look_set().contains_word_unicode() => Err(format!(
            "the pattern `{pattern}` cannot be used: write `(?-u:\\b)` for the boundaries of words of ASCII letters, or \
             `(?:^|\\W)` and `(?:\\W|$)` for those of all scripts"
        )),
        Ok(parsed) => Ok(parsed),
        Err(error) => Err(format!("a pattern cannot be used: {error}")),
    };
    patterns.iter().map(read).collect()
}

/// What even an automaton without patterns weighs.
const AUTOMATON_WEIGHT: usize = 8;

/// About as many states as it has, compiled; each takes at most some hundred bytes (tested with patterns of all kinds).
fn weight(pattern: &Hir) -> usize {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len(),
        HirKind::Class(Class::Unicode(class)) => {
            // Beyond ASCII a range is several, one for each length in bytes.
            let beyond = class.ranges().iter().filter(|range| !range.end().is_ascii()).count();
            class.ranges().len() + (beyond.min(1) * 8) + beyond
        }
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(repetition.min).max(1);
            weight(&repetition.sub).saturating_add(1).saturating_mul(times as usize)
        }
        HirKind::Capture(capture) => weight(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(parts.len(), |sum, part| sum.saturating_add(weight(part)))
        }
    }
}

/// A list of patterns, and whose messages each is for.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    automaton: Option<(DFA, RefCell<Cache>)>,
    roles: Vec<Vec<Role>>,
}

impl Patterns {
    /// Compiles them; `usual` are the roles of those that name none.
    pub(crate) fn new(patterns: &[Pattern], usual: &[RoleName]) -> Result<Self> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let wrong = |what: String| format!("the plugin's configuration is wrong: {what}");
        let parsed = read(patterns).map_err(wrong)?;
        let nfa = thompson::Compiler::new()
            .configure(
                thompson::Config::new().nfa_size_limit(Some(PATTERNS_BYTES_MAX)).which_captures(WhichCaptures::None),
            )
            .build_many_from_hir(&parsed)
            .map_err(|error| wrong(format!("the patterns cannot be used: {error}")))?;
        let automaton = DFA::builder()
            .configure(
                DFA::config().match_kind(MatchKind::All).cache_capacity(STATES_BYTES).skip_cache_capacity_check(true),
            )
            .build_from_nfa(nfa)
            .map_err(|error| wrong(format!("the patterns cannot be used: {error}")))?;
        let cache = RefCell::new(automaton.create_cache());
        let roles_of = |pattern: &Pattern| -> Vec<Role> {
            pattern.roles.as_deref().unwrap_or(usual).iter().map(|role| role.role()).collect()
        };
        let roles = patterns.iter().map(roles_of).collect();
        Ok(Self { automaton: Some((automaton, cache)), roles })
    }

    /// Whether any pattern is for messages of this role.
    pub(crate) fn are_for(&self, role: Role) -> bool {
        self.roles.iter().any(|roles| roles.contains(&role))
    }

    /// The first pattern for this role that the text has.
    pub(crate) fn find(&self, role: Role, text: &str) -> Option<usize> {
        if self.are_for(role) { self.first(text, |which| self.roles[which].contains(&role)) } else { None }
    }

    /// The first pattern that the text has, for whosever messages it is.
    pub(crate) fn find_any(&self, text: &str) -> Option<usize> {
        self.first(text, |_| true)
    }

    fn first(&self, text: &str, counts: impl Fn(usize) -> bool) -> Option<usize> {
        let (automaton, cache) = self.automaton.as_ref()?;
        let mut found = PatternSet::new(automaton.pattern_len());
        automaton
            .try_which_overlapping_matches(&mut cache.borrow_mut(), &Input::new(text), &mut found)
            .expect("nothing makes the automaton give up or quit");
        found.iter().map(|which| which.as_usize()).find(|&which| counts(which))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::TENANT_WEIGHT_MAX;

    fn pattern(pattern: &str) -> Pattern {
        Pattern { pattern: pattern.to_owned(), name: None, roles: None, message: None }
    }

    /// Bytes of the automaton's states.
    fn bytes(pattern: &str) -> usize {
        thompson::Compiler::new().build(pattern).expect("it compiles").memory_usage()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// What weighs little enough when it is loaded can be compiled when a request comes.
        #[test]
        fn what_is_light_is_small(
            parts in proptest::collection::vec(
                (
                    prop_oneof![
                        Just(r"\w".to_owned()), Just(r"\pL".to_owned()), Just(".".to_owned()), Just(r"\PN".to_owned()),
                        Just("(?i)k".to_owned()), Just(r"[\x{80}-\x{10FFFF}]".to_owned()), Just(r"[\x{7f}-\x{801}]".to_owned()),
                        Just("(?-u:\\b)".to_owned()), Just("(a|bc|)".to_owned()), Just("[^a-z]".to_owned()),
                        "[a-zé日]{1,8}",
                    ],
                    prop_oneof![
                        Just(String::new()), Just("*".to_owned()), Just("+".to_owned()), Just("??".to_owned()),
                        Just("{3,}".to_owned()), (1..40_u32).prop_map(|times| format!("{{{times}}}")),
                        (1..40_u32).prop_map(|times| format!("{{0,{times}}}")),
                    ],
                ),
                1..8,
            ),
        ) {
            let text = parts.iter().map(|(part, times)| format!("(?:{part}){times}")).collect::<Vec<_>>().concat();
            let weight = weigh(&[pattern(&text)]).expect("it is read");
            let most = PATTERNS_BYTES_MAX / TENANT_WEIGHT_MAX;
            prop_assert!(bytes(&text) <= weight * most, "{text}: {} bytes weigh {weight}", bytes(&text));
        }
    }

    #[test]
    fn the_heaviest_that_a_tenant_may_have_compiles() {
        for part in [r"\w", r"[\x{80}-\x{10FFFF}]", "[0-9A-Za-z_]", "é", "(?i)sk"] {
            let one = weigh(&[pattern(part)]).expect("it is read") - AUTOMATON_WEIGHT + 1;
            let text = format!("(?:{part}){{{}}}", (TENANT_WEIGHT_MAX - AUTOMATON_WEIGHT) / one);
            assert!(weigh(&[pattern(&text)]).is_ok_and(|weight| weight <= TENANT_WEIGHT_MAX), "{text}");
            Patterns::new(&[pattern(&text)], &DENIED_TO).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        }
    }
}
