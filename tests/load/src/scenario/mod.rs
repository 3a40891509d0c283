//! What is measured, one file each.

mod aggregate;
mod control;
mod decode;
mod extraction;
mod filters;
mod gap;
mod hostile;
mod idle;
mod leave;
mod neighbours;
mod overload;
mod policies;
mod prefix;
mod soak;
mod start;
mod structured;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;
use tempfile::TempDir;
use tests::markov::Markov;

use crate::report::Row;
use crate::server::{Contender, Server, Shape};

/// What every scenario needs.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) is_quick: bool,
    /// Whom to compare with.
    pub(crate) peer: Contender,
    pub(crate) outrigger: PathBuf,
    pub(crate) bare_loop: PathBuf,
    pub(crate) llama_server: PathBuf,
    pub(crate) bare_batches: PathBuf,
    pub(crate) misbehaving: PathBuf,
    /// Of [`Scenario::Soak`].
    pub(crate) requests: u32,
    pub(crate) model: PathBuf,
    pub(crate) threads: NonZeroUsize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Scenario {
    /// One stream: time to the first text and tokens per second, at several lengths of prompt
    Decode,
    /// Tokens per second of several streams together
    Aggregate,
    /// Time to the first text of a short request after a client left during a long prefill
    Leave,
    /// The longest gap of a running stream while a long prompt is computed beside it
    Gap,
    /// One stream beside processes that keep every processor busy
    Neighbours,
    /// Time to the first text with a system prompt that was seen before
    Prefix,
    /// Tokens per second under a JSON schema
    Structured,
    /// Tokens per second of an answer that quotes its prompt
    Extraction,
    /// Start to ready, and memory
    Start,
    /// Tokens per second through three filters, against none
    Filters,
    /// Time to the first text with policies, against none
    Policies,
    /// Tokens per second under a plugin that is asked before every token, against none
    Control,
    /// Latency of good requests while a tenth of all runs a plugin that misbehaves
    Hostile,
    /// More requests than can be answered: what becomes of each; fails where one is lost
    Overload,
    /// Memory of connections that nobody uses
    Idle,
    /// What is left of a hundred thousand requests through plugins; fails where something is
    Soak,
}

impl Scenario {
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    pub(crate) async fn run(self, bench: &Bench) -> anyhow::Result<Vec<Row>> {
        eprintln!("==> {self}");
        match self {
            Self::Decode => decode::run(bench).await,
            Self::Aggregate => aggregate::run(bench).await,
            Self::Leave => leave::run(bench).await,
            Self::Gap => gap::run(bench).await,
            Self::Neighbours => neighbours::run(bench).await,
            Self::Prefix => prefix::run(bench).await,
            Self::Structured => structured::run(bench).await,
            Self::Extraction => extraction::run(bench).await,
            Self::Start => start::run(bench).await,
            Self::Filters => filters::run(bench).await,
            Self::Policies => policies::run(bench).await,
            Self::Control => control::run(bench).await,
            Self::Hostile => hostile::run(bench).await,
            Self::Overload => overload::run(bench).await,
            Self::Idle => idle::run(bench).await,
            Self::Soak => soak::run(bench).await,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Bench {
    /// That everything is there which these need.
    pub(crate) fn check(&self, scenarios: &[Scenario]) -> anyhow::Result<()> {
        let peers = [&self.bare_loop, &self.llama_server, &self.bare_batches, &self.model];
        let plugins = [&self.model, &self.misbehaving];
        for scenario in scenarios {
            let needed = match scenario {
                Scenario::Filters | Scenario::Overload => &plugins[..1],
                Scenario::Control | Scenario::Hostile => &plugins[..],
                Scenario::Policies | Scenario::Idle => &[],
                Scenario::Soak => &plugins[1..],
                _ => &peers[..],
            };
            for path in [&self.outrigger].into_iter().chain(needed.iter().copied()) {
                anyhow::ensure!(path.exists(), "{} is missing; tests/load/run.sh makes it", path.display());
            }
        }
        Ok(())
    }

    /// The same with a model that costs nothing and says "tick tock" for ever, which lies in the folder.
    fn with_tiny_model(&self) -> anyhow::Result<(TempDir, Self)> {
        let folder = tempfile::tempdir()?;
        let model = folder.path().join("tiny.gguf");
        Markov::default().context_length(8192).endless(&["tick ", "tock "]).write(&model)?;
        Ok((folder, Self { model, ..self.clone() }))
    }

    /// So many rounds, or `quick` where time is short.
    fn rounds(&self, usual: usize, quick: usize) -> std::ops::Range<usize> {
        0..if self.is_quick { quick } else { usual }
    }

    /// Tokens of an answer.
    fn answer_tokens(&self) -> u32 {
        if self.is_quick { 64 } else { 128 }
    }
}

/// The peer and ours, running side by side; the one that is not asked sleeps.
struct Pair {
    theirs: Server,
    ours: Server,
}

impl Pair {
    async fn start(bench: &Bench, shape: Shape) -> anyhow::Result<Self> {
        let theirs = Server::start(bench, bench.peer, shape).await?;
        let ours = Server::start(bench, Contender::Outrigger, shape).await?;
        Ok(Self { theirs, ours })
    }

    /// Both, and another one first in every round.
    fn in_turns(&self, round: usize) -> [(Side, &Server); 2] {
        let (theirs, ours) = ((Side::Theirs, &self.theirs), (Side::Ours, &self.ours));
        if round.is_multiple_of(2) { [theirs, ours] } else { [ours, theirs] }
    }

    /// What makes their answers differ in length, if anything does.
    fn note(&self) -> Option<String> {
        let refuses = |server: &Server, name: &str| {
            (!server.endpoint().ignores_end).then(|| format!("{name} takes no `ignore_eos`"))
        };
        let notes: Vec<_> =
            [refuses(&self.theirs, "llama-server"), refuses(&self.ours, "outrigger")].into_iter().flatten().collect();
        (!notes.is_empty()).then(|| notes.join(", "))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Theirs,
    Ours,
}

/// One value of each side.
#[derive(Debug, Default)]
struct Both<T> {
    theirs: T,
    ours: T,
}

impl<T> Both<T> {
    fn set(&mut self, side: Side, value: T) {
        match side {
            Side::Theirs => self.theirs = value,
            Side::Ours => self.ours = value,
        }
    }

    /// Into a row.
    fn push_to(&self, row: &mut Row, of: impl Fn(&T) -> f64) {
        row.push(of(&self.theirs), of(&self.ours));
    }
}
