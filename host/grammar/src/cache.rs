//! Compiled grammars that are kept: an application asks for the same form in every request.

use std::sync::Arc;

use inference::{Grammar, OutputFormat};

use crate::compiler::Author;
use crate::follow::Compiled;
use crate::limits::{CACHE_BYTES_MAX, CACHE_COUNT_MAX};

/// The grammars used last, most recent last. A few dozen: a walk through them is cheaper than keeping an index.
#[derive(Default)]
pub(crate) struct Cache {
    kept: Vec<Kept>,
}

struct Kept {
    format: OutputFormat,
    author: Author,
    grammar: Grammar,
    compiled: Arc<Compiled>,
}

impl Cache {
    /// The grammar of a format.
    pub(crate) fn find(&mut self, format: &OutputFormat, author: Author) -> Option<Grammar> {
        let place = self.kept.iter().position(|kept| kept.format == *format && kept.author == author)?;
        let kept = self.kept.remove(place);
        let grammar = kept.grammar.clone();
        self.kept.push(kept);
        Some(grammar)
    }

    /// Keeps a grammar, and gives up those that were not used for the longest time for it. They grow while they are
    /// followed, so their sizes are asked for each time.
    pub(crate) fn keep(&mut self, format: OutputFormat, author: Author, grammar: Grammar, compiled: Arc<Compiled>) {
        self.kept.retain(|kept| kept.format != format || kept.author != author);
        self.kept.push(Kept { format, author, grammar, compiled });
        let mut bytes = 0_usize;
        let fitting = self.kept.iter().rev().take_while(|kept| {
            bytes = bytes.saturating_add(kept.format.text().len()).saturating_add(kept.compiled.bytes());
            bytes <= CACHE_BYTES_MAX
        });
        // The newest stays, whatever its size: its own limits bound it.
        let keep = fitting.count().clamp(1, CACHE_COUNT_MAX);
        self.kept.drain(..self.kept.len() - keep);
    }
}
