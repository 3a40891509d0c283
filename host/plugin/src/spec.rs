//! What an operator says of a plugin, and of the sandbox.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use inference::{ModelCard, Stage, Token, Vocabulary};
use serde::Serialize;
use telemetry::InstrumentSpec;

use crate::breaker::BreakerConfig;
use crate::kv::KvGrant;
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::reuse::Reuse;

/// How the sandbox is set up.
#[derive(Debug, Clone, Default)]
pub struct SandboxConfig {
    /// Where compiled components are kept between starts; `None`: they are compiled every time. The folder must
    /// belong to us alone: what is in it is run as native code.
    pub cache_dir: Option<PathBuf>,
    /// Threads that run guests; `None`: a quarter of the cores, at least 2, at most 4.
    pub workers: Option<usize>,
    /// Live instances of all plugins and requests; `None`: 128. A request takes one per plugin.
    pub max_instances: Option<u32>,
    /// Instances that may wait for a request, beside those; see [`Reuse`].
    pub idle_instances: u32,
    /// The largest linear memory that any plugin may be given, in bytes; `None`: 128 MiB. It sizes the pool.
    pub memory_bytes_max: Option<usize>,
    /// Counts the instructions that guests execute, for the author's kit: a figure that is the same on every machine. It makes
    /// them slower by a quarter, so nobody serves like that.
    pub counts_instructions: bool,
}

/// One `[[plugin]]` of the configuration, resolved: the component's bytes and everything that is granted.
#[derive(Debug, Clone)]
pub struct PluginSpec {
    /// The operator's name for it: lower-case letters, digits and `-`. Used in logs, metrics and error bodies.
    pub name: String,
    /// Where the component came from, for messages: a path, or `bundled`.
    pub source: String,
    /// The component, or, of one that is too large, its beginning.
    pub component: Arc<[u8]>,
    /// Bytes of all of it.
    pub component_bytes: usize,
    /// What its author says of it and asks for, where there is a manifest.
    pub manifest: Option<Arc<Manifest>>,
    /// Its SHA-256 in hexadecimal, where the operator pinned it.
    pub sha256: Option<String>,
    /// The plugin's own configuration: a JSON object.
    pub config_json: String,
    /// The stages to use and their places in the chains, lowest first; `None`: all that it exports, in the order of
    /// the configuration.
    pub stages: Option<Vec<(Stage, i32)>>,
    /// Request headers that it may see, lower-case.
    pub headers: Vec<String>,
    /// Parts of a request that its policy may change.
    pub modify: Vec<Modify>,
    /// Stores that it may use.
    pub kv: Vec<KvGrant>,
    /// Metrics of its own.
    pub instruments: Vec<InstrumentSpec>,
    /// Whether it may have a say in every token of an answer: without this the stage is not used.
    pub token_control: bool,
    /// What it may use.
    pub limits: Limits,
    /// Whether it may import WASI.
    pub wasi: Wasi,
    /// When it is not asked any more, as it only fails.
    pub breaker: BreakerConfig,
    /// Whether its instances serve one request after the other; `None`: each serves one.
    pub reuse: Option<Reuse>,
    /// What happens to a request when its policy fails.
    pub policy_failure: OnFailure,
    /// What happens to an answer when its parser fails: open means that it goes on as the model's raw text.
    pub parse_failure: OnFailure,
    /// What happens to an answer when its filter fails.
    pub postprocess_failure: OnFailure,
}

impl PluginSpec {
    /// A plugin with nothing granted, default limits, all its stages in use, closed on failure.
    pub fn new(name: impl Into<String>, source: impl Into<String>, component: impl Into<Arc<[u8]>>) -> Self {
        let component = component.into();
        Self {
            name: name.into(),
            source: source.into(),
            component_bytes: component.len(),
            component,
            manifest: None,
            sha256: None,
            config_json: "{}".to_owned(),
            stages: None,
            headers: Vec::new(),
            modify: Vec::new(),
            kv: Vec::new(),
            instruments: Vec::new(),
            token_control: false,
            limits: Limits::default(),
            wasi: Wasi::None,
            breaker: BreakerConfig::default(),
            reuse: None,
            policy_failure: OnFailure::Closed,
            parse_failure: OnFailure::Closed,
            postprocess_failure: OnFailure::Closed,
        }
    }
}

/// Credentials go to no plugin, whatever anybody asks for or grants.
pub(crate) fn is_secret_header(name: &str) -> bool {
    ["authorization", "cookie", "proxy-authorization", "x-api-key"].iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// A part of a request that a policy may be allowed to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Modify {
    /// The conversation.
    Messages,
    /// The tools on offer.
    Tools,
    /// Sampling, `max_tokens` and stop texts.
    Sampling,
    /// The form that the answer must have.
    Grammar,
    /// Everything else that is passed through: `chat_template_kwargs`, the penalties and what else has no field in the
    /// contract.
    Extra,
}

impl Modify {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Messages, Self::Tools, Self::Sampling, Self::Grammar, Self::Extra];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Tools => "tools",
            Self::Sampling => "sampling",
            Self::Grammar => "grammar",
            Self::Extra => "extra",
        }
    }
}

/// Which WASI a plugin may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wasi {
    /// None at all.
    #[default]
    None,
    /// What language runtimes need to start: standard output that goes to the log, coarse clocks, random numbers, an
    /// empty environment, no files, no network.
    Quiet,
}

impl Wasi {
    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quiet => "quiet",
        }
    }
}

/// What happens to a request when a plugin breaks its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The request ends with an error, and text that was held back is dropped.
    #[default]
    Closed,
    /// The request goes on as if the plugin were not there, and text that was held back is sent.
    Open,
}

/// The model that plugins are loaded for. Cheap to clone.
#[derive(Clone)]
pub struct ModelContext {
    inner: Arc<ModelInner>,
}

struct ModelInner {
    card: ModelCard,
    vocabulary: Arc<dyn Vocabulary>,
    table: OnceLock<TokenTable>,
}

/// All tokens' bytes: token `i` is `bytes[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone)]
pub(crate) struct TokenTable {
    pub(crate) offsets: Vec<u32>,
    pub(crate) bytes: Vec<u8>,
}

impl ModelContext {
    /// A model's facts and its vocabulary.
    #[must_use]
    pub fn new(card: ModelCard, vocabulary: Arc<dyn Vocabulary>) -> Self {
        Self { inner: Arc::new(ModelInner { card, vocabulary, table: OnceLock::new() }) }
    }

    /// The name that requests use for it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.card.id
    }

    pub(crate) fn card(&self) -> &ModelCard {
        &self.inner.card
    }

    /// Its tokens.
    #[must_use]
    pub fn vocabulary(&self) -> &dyn Vocabulary {
        &*self.inner.vocabulary
    }

    /// Made once, when a plugin first asks: 1.5 MB for a vocabulary of 128,000 tokens.
    pub(crate) fn token_table(&self) -> &TokenTable {
        self.inner.table.get_or_init(|| {
            let size = self.inner.vocabulary.size();
            let mut table = TokenTable { offsets: Vec::with_capacity(size as usize + 1), bytes: Vec::new() };
            table.offsets.push(0);
            for token in 0..size {
                self.inner.vocabulary.append_piece(Token(token), &mut table.bytes);
                table.offsets.push(u32::try_from(table.bytes.len()).unwrap_or(u32::MAX));
            }
            table
        })
    }
}
