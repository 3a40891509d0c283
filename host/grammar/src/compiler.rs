//! From what a client asked for to a grammar, on a thread of its own and within a time, once for each format.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use inference::{Grammar, OutputFormat, Vocabulary};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Matcher, ParserFactory};

use crate::cache::Cache;
use crate::clock::ThreadClock;
use crate::error::GrammarError;
use crate::follow::{Compiled, reason};
use crate::limits::{
    COMPILATIONS_MAX, COMPILE_STACK_BYTES, COMPILE_TIME_MAX, COMPILE_WAIT_MAX, GRAMMAR_BYTES_MAX, LEXER_FUEL_MAX,
    LEXER_STATES_MAX, MASK_ITEMS_MAX, MASK_LEXER_FUEL_MAX, PROMPT_GRAMMAR_BYTES_MAX, REGEX_BYTES_MAX, ROW_ITEMS_MAX,
    SCHEMA_BYTES_MAX, SYMBOLS_MAX,
};
use crate::tokens::Tokens;
use crate::{gbnf, lark, regex, schema};

/// Who wrote a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The request: text is all that it can ask for.
    Client,
    /// The plugin that writes the prompts. Its Lark grammars may be larger, as they hold the schemas of a request's
    /// functions, and may name control tokens by number.
    Prompt,
}

/// Compiles formats for one model, and keeps what it compiled.
pub struct Compiler {
    inner: Arc<Inner>,
    /// Of a processor, for one format.
    time_max: Duration,
    /// By the wall's clock, the wait for others included.
    wait_max: Duration,
}

struct Inner {
    vocabulary: Arc<dyn Vocabulary>,
    /// Made when the first grammar is compiled: it takes a tenth of a second, and most services never need it.
    parsers: OnceLock<Result<Parsers, String>>,
    cache: Mutex<Cache>,
    compiling: AtomicUsize,
}

struct Parsers {
    factory: ParserFactory,
    tokens: u32,
}

impl Compiler {
    /// A compiler for a model's vocabulary.
    #[must_use]
    pub fn new(vocabulary: Arc<dyn Vocabulary>) -> Self {
        let inner = Inner {
            vocabulary,
            parsers: OnceLock::new(),
            cache: Mutex::new(Cache::default()),
            compiling: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner), time_max: COMPILE_TIME_MAX, wait_max: COMPILE_WAIT_MAX }
    }

    /// The grammar of a format that was compiled before and is still kept. Takes microseconds.
    #[must_use]
    pub fn cached(&self, format: &OutputFormat, author: Author) -> Option<Grammar> {
        self.inner.cache().find(format, author)
    }

    /// Compiles a format. Blocks the calling thread for as long as that takes, [`COMPILE_WAIT_MAX`] at most.
    pub fn compile(&self, format: &OutputFormat, author: Author) -> Result<Grammar, GrammarError> {
        let (kind, bytes, bytes_max) = (format.kind(), format.text().len(), bytes_max(format, author));
        if bytes > bytes_max {
            return Err(GrammarError::TooLarge { kind, bytes, bytes_max });
        }
        let deadline = Instant::now() + self.wait_max;
        let turn = Turn::wait(&self.inner, deadline).ok_or(GrammarError::Busy)?;
        // Another request may have compiled it meanwhile.
        if let Some(grammar) = self.cached(format, author) {
            return Ok(grammar);
        }
        let (done, result) = mpsc::sync_channel(1);
        let (inner, format) = (Arc::clone(&self.inner), format.clone());
        let clock = Arc::new(OnceLock::new());
        let set_clock = Arc::clone(&clock);
        // A thread of its own: llguidance recurses through what it compiles, and cannot be interrupted.
        std::thread::Builder::new()
            .name("grammar".to_owned())
            .stack_size(COMPILE_STACK_BYTES)
            .spawn(move || {
                let _ = set_clock.set(ThreadClock::of_this());
                let compiled = inner.compile(&format, author);
                drop(turn);
                // Where nobody waits any more, it is in the cache for the next one.
                let _ = done.send(compiled);
            })
            .map_err(|error| GrammarError::Unavailable(format!("no thread to compile on ({error})")))?;
        let wall_left = || deadline.saturating_duration_since(Instant::now());
        let mut patience = self.time_max.min(wall_left());
        loop {
            match result.recv_timeout(patience) {
                Ok(compiled) => return compiled,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(GrammarError::Refused { kind, reason: "compiling it failed".to_owned() });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Before the thread begins it has used nothing.
            let used = clock.get().map_or(Some(Duration::ZERO), |clock| clock.as_ref()?.used());
            patience = match go_on(used, self.time_max, wall_left()) {
                Ok(patience) => patience,
                Err(Late::Slow) => return Err(GrammarError::TooSlow { kind, limit: self.time_max }),
                Err(Late::Starved) => return Err(GrammarError::Busy),
            };
        }
    }
}

/// Why a grammar is not waited for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    /// It has had all the time that one may have.
    Slow,
    /// The machine gave it too little.
    Starved,
}

/// How much longer a grammar is waited for that has used so much of a processor. What counts is the work: on a busy machine it takes
/// longer, and no client is to blame for that. `None`: the system does not tell, and it is taken to have worked all the time.
fn go_on(used: Option<Duration>, time_max: Duration, wall_left: Duration) -> Result<Duration, Late> {
    let left = used.map_or(Duration::ZERO, |used| time_max.saturating_sub(used));
    match left.min(wall_left) {
        _ if left.is_zero() => Err(Late::Slow),
        Duration::ZERO => Err(Late::Starved),
        patience => Ok(patience),
    }
}

impl Inner {
    fn compile(&self, format: &OutputFormat, author: Author) -> Result<Grammar, GrammarError> {
        let started = Instant::now();
        let kind = format.kind();
        let refused = |reason| GrammarError::Refused { kind, reason };
        let source = source(format, author).map_err(refused)?;
        let parsers = self.parsers.get_or_init(|| Parsers::new(&*self.vocabulary));
        let parsers = parsers.as_ref().map_err(|error| GrammarError::Unavailable(error.clone()))?;
        let parser = parsers.factory.create_parser(source).map_err(|error| refused(reason(&format!("{error:#}"))))?;
        // A grammar that nothing matches is found here, where it can still be refused.
        let mut probe = Matcher::new(Ok(parser.deep_clone()));
        probe.compute_mask().map_err(|error| refused(nothing(&reason(&error.to_string()))))?;
        let compiled = Arc::new(Compiled::new(parser, parsers.tokens));
        let grammar = Grammar::new(Shared(Arc::clone(&compiled)));
        self.cache().keep(format.clone(), author, grammar.clone(), compiled);
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(kind, bytes = format.text().len(), elapsed_ms, "compiled a grammar");
        Ok(grammar)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A grammar that the cache looks at too.
struct Shared(Arc<Compiled>);

impl inference::CompiledGrammar for Shared {
    fn begin(&self) -> Box<dyn inference::Constraint> {
        self.0.begin()
    }
}

impl Parsers {
    fn new(vocabulary: &dyn Vocabulary) -> Result<Self, String> {
        let tokens = Tokens::of(vocabulary);
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&tokens.env, InferenceCapabilities::default(), &slices)
            .map_err(|error| reason(&error.to_string()))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            max_items_in_row: ROW_ITEMS_MAX,
            initial_lexer_fuel: LEXER_FUEL_MAX,
            step_lexer_fuel: MASK_LEXER_FUEL_MAX,
            step_max_items: MASK_ITEMS_MAX,
            max_lexer_states: LEXER_STATES_MAX,
            max_grammar_size: SYMBOLS_MAX,
            precompute_large_lexemes: true,
            verbose_errors: false,
        };
        Ok(Self { factory, tokens: tokens.size })
    }
}

/// One of the few compilations at once; it ends when the thread does, whoever still waits for it.
struct Turn(Arc<Inner>);

impl Turn {
    fn wait(inner: &Arc<Inner>, deadline: Instant) -> Option<Self> {
        /// A compilation takes longer.
        const POLL: Duration = Duration::from_millis(2);
        loop {
            let taken = inner.compiling.try_update(Relaxed, Relaxed, |now| (now < COMPILATIONS_MAX).then_some(now + 1));
            if taken.is_ok() {
                return Some(Self(Arc::clone(inner)));
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.compiling.fetch_sub(1, Relaxed);
    }
}

fn bytes_max(format: &OutputFormat, author: Author) -> usize {
    match format {
        OutputFormat::Lark(_) if author == Author::Prompt => PROMPT_GRAMMAR_BYTES_MAX,
        OutputFormat::JsonObject | OutputFormat::JsonSchema(_) => SCHEMA_BYTES_MAX,
        OutputFormat::Regex(_) => REGEX_BYTES_MAX,
        OutputFormat::Lark(_) | OutputFormat::Gbnf(_) => GRAMMAR_BYTES_MAX,
    }
}

/// What llguidance compiles.
fn source(format: &OutputFormat, author: Author) -> Result<TopLevelGrammar, String> {
    Ok(match format {
        OutputFormat::JsonObject => TopLevelGrammar::from_json_schema(schema::object()),
        OutputFormat::JsonSchema(text) => TopLevelGrammar::from_json_schema(schema::parse(text)?),
        OutputFormat::Regex(text) => TopLevelGrammar::from_lark(regex::lark(text)?),
        OutputFormat::Lark(text) => TopLevelGrammar::from_lark(lark::prepare(text, author)?),
        OutputFormat::Gbnf(text) => TopLevelGrammar::from_lark(gbnf::lark(text)?),
    })
}

fn nothing(reason: &str) -> String {
    format!("no answer of this model can match it ({reason})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_had_no_processor_is_not_too_slow() {
        let [none, one, five, ten] = [0, 1, 5, 10].map(Duration::from_secs);
        for (used, wall_left, expected) in [
            (Some(none), ten, Ok(five)),
            (Some(one), ten, Ok(Duration::from_secs(4))),
            (Some(one), one, Ok(one)),
            (Some(one), none, Err(Late::Starved)),
            (Some(five), ten, Err(Late::Slow)),
            (Some(ten), none, Err(Late::Slow)),
            (None, ten, Err(Late::Slow)),
        ] {
            assert_eq!(go_on(used, five, wall_left), expected, "{used:?} used, {wall_left:?} left");
        }
    }
}
