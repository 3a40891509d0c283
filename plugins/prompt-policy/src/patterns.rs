//! Regular expressions in linear time, compiled only where they are configured.

use outrigger_plugin::prelude::*;
use regex::{RegexSet, RegexSetBuilder};

use crate::config::{Pattern, Rules};
use crate::limits::PATTERNS_BYTES_MAX;

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
        Ok(_) => Ok(()),
        Err(error) => Err(format!("a pattern cannot be used: {error}")),
    })
}

/// A list of patterns, and whose messages each is for.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    set: Option<RegexSet>,
    roles: Vec<Vec<Role>>,
}

impl Patterns {
    pub(crate) fn new(patterns: &[Pattern]) -> Result<Self> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let set = RegexSetBuilder::new(patterns.iter().map(|pattern| &pattern.pattern))
            .size_limit(PATTERNS_BYTES_MAX)
            .build()
            .map_err(|error| format!("the plugin's configuration is wrong: a pattern cannot be used: {error}"))?;
        let roles = patterns.iter().map(|pattern| pattern.roles.iter().map(|role| role.role()).collect()).collect();
        Ok(Self { set: Some(set), roles })
    }

    /// Whether any pattern is for messages of this role.
    pub(crate) fn are_for(&self, role: Role) -> bool {
        self.roles.iter().any(|roles| roles.contains(&role))
    }

    /// The first pattern for this role that the text has.
    pub(crate) fn find(&self, role: Role, text: &str) -> Option<usize> {
        let set = self.set.as_ref().filter(|_| self.are_for(role))?;
        set.matches(text).into_iter().find(|&which| self.roles[which].contains(&role))
    }
}
