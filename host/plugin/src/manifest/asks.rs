//! `[asks]`: what a plugin wants of the operator, each with whether it can do without, and what it is for.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use telemetry::InstrumentKind;

use super::{ASKS_MAX, LimitKey, ManifestError, Modify, check_text};
use crate::spec::{Wasi, is_secret_header};

/// What a plugin asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asks {
    /// Parts of a request that its policy changes.
    pub modify: Vec<NamedAsk>,
    /// Request headers that it reads.
    pub headers: Vec<NamedAsk>,
    /// Stores that outlive a request.
    pub kv: Vec<KvAsk>,
    /// Instruments of its own.
    pub metrics: Vec<MetricAsk>,
    /// A say in every token of an answer.
    #[serde(rename = "token-control")]
    pub token_control: Option<Need>,
    /// The model's facts and tokenizer.
    pub model: Option<Need>,
    /// The part of WASI that its language's runtime needs.
    pub wasi: Option<WasiAsk>,
    /// Limits that the defaults are too tight for, by the operator's name of the limit.
    pub limits: BTreeMap<String, LimitAsk>,
}

/// Whether it can do without, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Need {
    /// Without it the plugin is not loaded.
    pub required: bool,
    /// What it is for, and so what does not work without it.
    pub reason: Option<String>,
}

/// Something that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct NamedAsk {
    /// Its name.
    pub name: String,
    /// How much it is needed.
    pub need: Need,
}

/// A store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct KvAsk {
    /// The name that the plugin uses for it.
    pub store: String,
    /// Bytes that it should hold, where the default is too little.
    pub bytes: Option<u64>,
    /// How much it is needed.
    pub need: Need,
}

/// An instrument.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "MetricTable")]
pub struct MetricAsk {
    /// The name that the plugin uses for it.
    pub name: String,
    /// What it measures with.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What it shows, for whoever reads `/metrics`.
    pub help: Option<String>,
    /// How much it is needed.
    pub need: Need,
}

/// A kind of instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Counts values by size.
    Histogram,
}

impl From<MetricKind> for InstrumentKind {
    fn from(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Counter => Self::Counter,
            MetricKind::Histogram => Self::Histogram,
        }
    }
}

/// A part of WASI.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct WasiAsk {
    /// Which.
    pub profile: Wasi,
    /// How much it is needed.
    pub need: Need,
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct LimitAsk {
    /// The least that it works with.
    pub least: u64,
    /// How much it is needed.
    pub need: Need,
}

impl MetricKind {
    /// Its name in manifest and configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

impl Asks {
    /// Names that exist, texts that can be shown, and no more of them than somebody would read.
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        check_names("modify", self.modify.iter().map(|ask| (ask.name.as_str(), &ask.need)))?;
        check_names("headers", self.headers.iter().map(|ask| (ask.name.as_str(), &ask.need)))?;
        check_names("kv", self.kv.iter().map(|ask| (ask.store.as_str(), &ask.need)))?;
        check_names("metrics", self.metrics.iter().map(|ask| (ask.name.as_str(), &ask.need)))?;
        for ask in &self.modify {
            let is_known = Modify::ALL.into_iter().any(|part| part.as_str() == ask.name);
            if !is_known {
                let names: Vec<_> = Modify::ALL.iter().map(|part| part.as_str()).collect();
                let reason = format!("names `{}`, and a request has {}", ask.name, names.join(", "));
                return Err(ManifestError::value("asks.modify", reason));
            }
        }
        if let Some(ask) = self.headers.iter().find(|ask| is_secret_header(&ask.name)) {
            let reason = format!("names `{}`, which carries credentials; no plugin is ever shown it", ask.name);
            return Err(ManifestError::value("asks.headers", reason));
        }
        for ask in &self.metrics {
            check_names("metrics.labels", ask.labels.iter().map(|label| (label.as_str(), &ask.need)))?;
            ask.help.as_ref().map_or(Ok(()), |help| check_text("asks.metrics.help", help))?;
        }
        for (name, ask) in &self.limits {
            if LimitKey::named(name).is_none() {
                let names: Vec<_> = LimitKey::ALL.iter().map(|key| key.as_str()).collect();
                return Err(ManifestError::value(
                    format!("asks.limits.{name}"),
                    format!("is no limit; there are {}", names.join(", ")),
                ));
            }
            check_need("asks.limits", &ask.need)?;
        }
        let others = [self.token_control.as_ref(), self.model.as_ref(), self.wasi.as_ref().map(|ask| &ask.need)];
        others.into_iter().flatten().try_for_each(|need| check_need("asks", need))
    }
}

fn check_names<'a>(list: &str, asks: impl Iterator<Item = (&'a str, &'a Need)>) -> Result<(), ManifestError> {
    let key = format!("asks.{list}");
    let mut seen = BTreeSet::new();
    for (name, need) in asks {
        check_text(&key, name)?;
        check_need(&key, need)?;
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(ManifestError::value(key, format!("names `{name}` twice")));
        }
        if seen.len() > ASKS_MAX {
            return Err(ManifestError::value(key, format!("names more than {ASKS_MAX}, the most that is read")));
        }
    }
    Ok(())
}

fn check_need(key: &str, need: &Need) -> Result<(), ManifestError> {
    need.reason.as_ref().map_or(Ok(()), |reason| check_text(&format!("{key}: reason"), reason))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NeedTable {
    #[serde(default = "yes")]
    required: bool,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedTable {
    name: String,
    #[serde(default = "yes")]
    required: bool,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KvTable {
    store: String,
    bytes: Option<u64>,
    #[serde(default = "yes")]
    required: bool,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricTable {
    name: String,
    kind: MetricKind,
    #[serde(default)]
    labels: Vec<String>,
    help: Option<String>,
    #[serde(default = "yes")]
    required: bool,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WasiTable {
    profile: WasiName,
    #[serde(default = "yes")]
    required: bool,
    reason: Option<String>,
}

/// What can be asked for; not to ask is to leave it out.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WasiName {
    Quiet,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitTable {
    least: u64,
    #[serde(default = "yes")]
    required: bool,
    reason: Option<String>,
}

fn yes() -> bool {
    true
}

/// A table, or the short form of one that only says `key`.
fn fields<T: serde::de::DeserializeOwned>(value: toml::Value, key: &str) -> Result<T, String> {
    let table = match value {
        toml::Value::Table(table) => table,
        short => toml::Table::from_iter([(key.to_owned(), short)]),
    };
    table.try_into().map_err(|error: toml::de::Error| error.message().trim_end().to_owned())
}

impl TryFrom<toml::Value> for Need {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let NeedTable { required, reason } = fields(value, "required")?;
        Ok(Self { required, reason })
    }
}

impl TryFrom<toml::Value> for NamedAsk {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let NamedTable { name, required, reason } = fields(value, "name")?;
        Ok(Self { name, need: Need { required, reason } })
    }
}

impl TryFrom<toml::Value> for KvAsk {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let KvTable { store, bytes, required, reason } = fields(value, "store")?;
        Ok(Self { store, bytes, need: Need { required, reason } })
    }
}

impl From<MetricTable> for MetricAsk {
    fn from(table: MetricTable) -> Self {
        let MetricTable { name, kind, labels, help, required, reason } = table;
        Self { name, kind, labels, help, need: Need { required, reason } }
    }
}

impl TryFrom<toml::Value> for WasiAsk {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let WasiTable { profile: WasiName::Quiet, required, reason } = fields(value, "profile")?;
        Ok(Self { profile: Wasi::Quiet, need: Need { required, reason } })
    }
}

impl TryFrom<toml::Value> for LimitAsk {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let LimitTable { least, required, reason } = fields(value, "least")?;
        Ok(Self { least, need: Need { required, reason } })
    }
}
