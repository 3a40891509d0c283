//! Regular expressions, compiled only where they are configured: one automaton for a list, one pass over a text, whatever
//! is in either.
//!
//! An automaton knows no word boundaries of Unicode. The engines that do are some hundred times slower, and would be met
//! by texts with a single letter that is not ASCII; so a pattern that asks for one is refused.

use std::cell::RefCell;

use outrigger_plugin::prelude::*;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::{Input, MatchKind, PatternSet};

use crate::config::{Pattern, Rules};
use crate::limits::{PATTERNS_BYTES_MAX, STATES_BYTES};

/// The patterns of some rules.
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) deny: Patterns,
    pub(crate) allow: Patterns,
}

impl Both {
    pub(crate) fn of(rules: &Rules) -> Result<Self> {
        Ok(Self { deny: Patterns::new(&rules.deny)?, allow: Patterns::new(&rules.allow)? })
    }
}

/// Whether these can be compiled, as far as their spelling tells: much cheaper than to compile them.
pub(crate) fn check(patterns: &[Pattern]) -> Result<(), String> {
    patterns.iter().try_for_each(|Pattern { pattern, .. }| match regex_syntax::parse(pattern) {
        Ok(parsed) if parsed.properties().look_set().contains_word_unicode() => Err(format!(
            "the pattern `{pattern}` cannot be used: write `(?-u:\\b)` for the boundaries of words of ASCII letters, or \
             `(?:^|\\W)` and `(?:\\W|$)` for those of all scripts"
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("a pattern cannot be used: {error}")),
    })
}

/// A list of patterns, and whose messages each is for.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    automaton: Option<(DFA, RefCell<Cache>)>,
    roles: Vec<Vec<Role>>,
}

impl Patterns {
    pub(crate) fn new(patterns: &[Pattern]) -> Result<Self> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let texts: Vec<&str> = patterns.iter().map(|pattern| pattern.pattern.as_str()).collect();
        let automaton = DFA::builder()
            .thompson(thompson::Config::new().nfa_size_limit(Some(PATTERNS_BYTES_MAX)))
            .configure(
                DFA::config().match_kind(MatchKind::All).cache_capacity(STATES_BYTES).skip_cache_capacity_check(true),
            )
            .build_many(&texts)
            .map_err(|error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                format!("the plugin's configuration is wrong: the patterns cannot be used: {error}{cause}")
            })?;
        let cache = RefCell::new(automaton.create_cache());
        let roles = patterns.iter().map(|pattern| pattern.roles.iter().map(|role| role.role()).collect()).collect();
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
