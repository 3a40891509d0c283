//! What a manifest asks for, beside what the operator granted: what is there, what is missing, and what to write.

use std::fmt::Write as _;

use serde::Serialize;
use telemetry::{InstrumentKind, InstrumentSpec};
use toml::{Table, Value};

use crate::kv::KvGrant;
use crate::limits::LimitKey;
use crate::load_error::LoadError;
use crate::manifest::{Asks, KvAsk, MetricAsk, MetricKind, NamedAsk, Need};
use crate::spec::{Modify, PluginSpec, Wasi};

/// One thing that was asked for, granted, or both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grant {
    /// The key of the configuration that grants it: `modify`, `headers`, `kv`, `metrics`, `wasi`, `model`, or a limit's name.
    pub key: &'static str,
    /// What of it: a part of a request, a header, a store, an instrument, a number.
    pub name: String,
    /// What became of it.
    pub state: GrantState,
    /// What it is for, in the author's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What there is instead of what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// What of the key's value would grant it.
    #[serde(skip)]
    value: Value,
}

/// What became of an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantState {
    /// Asked for and granted.
    Granted,
    /// Granted, and the manifest does not ask for it.
    Unasked,
    /// Asked for and not granted; the plugin does without.
    Declined,
    /// Needed and not granted.
    Missing,
}

/// What the operator granted, in the manifest's words.
struct Granted<'a> {
    modify: Vec<&'a str>,
    headers: Vec<&'a str>,
    /// Stores, with the bytes that each may hold.
    stores: Vec<(&'a str, u64)>,
    /// Instruments: name, kind, labels.
    instruments: Vec<(&'a str, &'a str, &'a [String])>,
}

impl<'a> Granted<'a> {
    fn of(spec: &'a PluginSpec) -> Self {
        Self {
            modify: spec.modify.iter().map(|part| part.as_str()).collect(),
            headers: spec.headers.iter().map(String::as_str).collect(),
            stores: spec.kv.iter().map(|grant| (grant.store.as_str(), grant.bytes_max as u64)).collect(),
            instruments: spec
                .instruments
                .iter()
                .map(|granted| (granted.name.as_str(), granted.kind.as_str(), granted.labels.as_slice()))
                .collect(),
        }
    }
}

/// Everything that was asked for or granted. Without a manifest nobody asks, so nothing can be missing.
pub(crate) fn compare(spec: &PluginSpec) -> Vec<Grant> {
    let nothing = Asks::default();
    let asks = spec.manifest.as_ref().map_or(&nothing, |manifest| &manifest.asks);
    let granted = Granted::of(spec);
    let mut grants = named("modify", &asks.modify, &granted.modify);
    grants.extend(named("headers", &asks.headers, &granted.headers));
    grants.extend(asks.kv.iter().map(|ask| store(ask, &granted)));
    let asked = |name: &str| asks.kv.iter().any(|ask| ask.store == name);
    grants.extend(granted.stores.iter().filter(|(name, _)| !asked(name)).map(|&(name, _)| unasked("kv", name)));
    grants.extend(asks.metrics.iter().map(|ask| instrument(ask, &granted)));
    let asked = |name: &str| asks.metrics.iter().any(|ask| ask.name == name);
    let others = granted.instruments.iter().filter(|(name, ..)| !asked(name));
    grants.extend(others.map(|&(name, ..)| unasked("metrics", name)));
    if let Some(need) = &asks.model {
        // Every plugin may ask the model; to say so is good manners.
        grants.push(asked_for("model", "true", true, need, Value::Boolean(true)));
    }
    match (&asks.wasi, spec.wasi) {
        (Some(ask), wasi) => {
            let name = ask.profile.as_str();
            grants.push(asked_for("wasi", name, wasi == ask.profile, &ask.need, Value::from(name)));
        }
        (None, Wasi::Quiet) => grants.push(unasked("wasi", Wasi::Quiet.as_str())),
        (None, Wasi::None) => {}
    }
    grants.extend(LimitKey::ALL.into_iter().filter_map(|key| limit(key, asks, spec)));
    grants
}

/// Grants a plugin everything that its manifest asks for: for its author's own tests, never for a plugin of somebody else.
pub fn grant_what_is_asked(spec: &mut PluginSpec) {
    let Some(manifest) = spec.manifest.clone() else { return };
    let asks = &manifest.asks;
    let is_asked = |part: &Modify| asks.modify.iter().any(|ask| ask.name == part.as_str());
    spec.modify = Modify::ALL.into_iter().filter(is_asked).collect();
    spec.headers = asks.headers.iter().map(|ask| ask.name.to_ascii_lowercase()).collect();
    let store = |ask: &KvAsk| {
        let usual = KvGrant::new(&ask.store);
        let asked = ask.bytes.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        KvGrant { bytes_max: usual.bytes_max.max(asked), ..usual }
    };
    spec.kv = asks.kv.iter().map(store).collect();
    let instrument = |ask: &MetricAsk| InstrumentSpec {
        name: ask.name.clone(),
        kind: match ask.kind {
            MetricKind::Counter => InstrumentKind::Counter,
            MetricKind::Histogram => InstrumentKind::Histogram,
        },
        labels: ask.labels.clone(),
        series_max: InstrumentSpec::SERIES_DEFAULT,
        buckets: InstrumentSpec::BUCKETS_DEFAULT.to_vec(),
    };
    spec.instruments = asks.metrics.iter().map(instrument).collect();
    if let Some(ask) = &asks.wasi {
        spec.wasi = ask.profile;
    }
    for key in LimitKey::ALL {
        if let Some(ask) = asks.limits.get(key.as_str()).filter(|ask| ask.least > key.of(&spec.limits)) {
            key.set(&mut spec.limits, ask.least);
        }
    }
}

/// Refuses a plugin that is not granted what it cannot do without.
pub(crate) fn check_needed(plugin: &str, grants: &[Grant]) -> Result<(), LoadError> {
    let missing = grants.iter().filter(|grant| grant.state == GrantState::Missing);
    let lines: Vec<String> = missing
        .map(|grant| {
            let reason = grant.reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default();
            format!("  - {}{reason}", grant.describe())
        })
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let toml = toml_to_write(plugin, grants, &[GrantState::Missing]);
    Err(LoadError::Ungranted { plugin: plugin.to_owned(), missing: lines.join("\n"), toml })
}

fn named(key: &'static str, asks: &[NamedAsk], granted: &[&str]) -> Vec<Grant> {
    let is = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    let asked = asks.iter().map(|ask| {
        let is_granted = granted.iter().any(|name| is(name, &ask.name));
        asked_for(key, &ask.name, is_granted, &ask.need, Value::from(ask.name.as_str()))
    });
    let others = granted.iter().filter(|name| !asks.iter().any(|ask| is(name, &ask.name)));
    asked.chain(others.map(|name| unasked(key, name))).collect()
}

fn store(ask: &KvAsk, granted: &Granted<'_>) -> Grant {
    let bytes = granted.stores.iter().find(|(name, _)| *name == ask.store).map(|&(_, bytes)| bytes);
    let is_enough = bytes.is_some_and(|bytes| ask.bytes.is_none_or(|least| bytes >= least));
    let value = match ask.bytes {
        None => Value::from(ask.store.as_str()),
        Some(bytes) => {
            let pairs = [("store", Value::from(ask.store.as_str())), ("bytes", integer(bytes))];
            Value::Table(pairs.map(|(key, value)| (key.to_owned(), value)).into_iter().collect())
        }
    };
    let instead = bytes.filter(|_| !is_enough).map(|bytes| format!("it has {bytes} bytes"));
    Grant { instead, ..asked_for("kv", &ask.store, is_enough, &ask.need, value) }
}

fn instrument(ask: &MetricAsk, granted: &Granted<'_>) -> Grant {
    let there = granted.instruments.iter().find(|(name, ..)| *name == ask.name);
    let is_granted = there.is_some_and(|&(_, kind, labels)| kind == ask.kind.as_str() && labels == ask.labels);
    let instead =
        there.filter(|_| !is_granted).map(|(_, kind, labels)| format!("it is a {kind} with the labels {labels:?}"));
    let mut pairs = vec![("name", Value::from(ask.name.as_str())), ("kind", Value::from(ask.kind.as_str()))];
    if !ask.labels.is_empty() {
        pairs.push(("labels", Value::from(ask.labels.clone())));
    }
    let value = Value::Table(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    Grant { instead, ..asked_for("metrics", &ask.name, is_granted, &ask.need, value) }
}

fn limit(key: LimitKey, asks: &Asks, spec: &PluginSpec) -> Option<Grant> {
    let ask = asks.limits.get(key.as_str())?;
    let value = key.of(&spec.limits);
    let is_enough = value >= ask.least;
    let instead = (!is_enough).then(|| format!("it is {value}"));
    Some(Grant { instead, ..asked_for(key.as_str(), &ask.least.to_string(), is_enough, &ask.need, integer(ask.least)) })
}

fn asked_for(key: &'static str, name: &str, is_granted: bool, need: &Need, value: Value) -> Grant {
    let state = match (is_granted, need.required) {
        (true, _) => GrantState::Granted,
        (false, false) => GrantState::Declined,
        (false, true) => GrantState::Missing,
    };
    Grant { key, name: name.to_owned(), state, reason: need.reason.clone(), instead: None, value }
}

fn unasked(key: &'static str, name: &str) -> Grant {
    let value = Value::from(name);
    Grant { key, name: name.to_owned(), state: GrantState::Unasked, reason: None, instead: None, value }
}

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

impl Grant {
    /// The thing in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { key, name, instead, .. } = self;
        let mut text = match *key {
            "modify" => format!("to change a request's `{name}`"),
            "headers" => format!("to see the header `{name}`"),
            "kv" => format!("the store `{name}`"),
            "metrics" => format!("the instrument `{name}`"),
            "wasi" => format!("WASI (`{name}`)"),
            "model" => "the model's facts and tokenizer".to_owned(),
            limit => format!("`{limit}` of at least {name}"),
        };
        if let Some(instead) = instead {
            write!(text, " ({instead})").expect("a string takes everything");
        }
        text
    }
}

/// The lines that grant what of `grants` is in one of `states`. Lists are whole, with what is granted already, so that they can
/// replace what is there.
#[must_use]
pub fn toml_to_write(plugin: &str, grants: &[Grant], states: &[GrantState]) -> String {
    let wanted: Vec<&Grant> = grants.iter().filter(|grant| states.contains(&grant.state)).collect();
    let mut text = format!("[[plugin]]\nname = {}\n", Value::from(plugin));
    for grant in wanted.iter().filter(|grant| grant.key == "wasi") {
        writeln!(text, "wasi = {}", grant.value).expect("a string takes everything");
    }
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            write!(text, "\n[plugin.{title}]\n{}\n", lines.join("\n")).expect("a string takes everything");
        }
    };
    let is_wanted = |key: &&str| wanted.iter().any(|grant| grant.key == *key);
    let lists = ["modify", "headers", "kv", "metrics"].into_iter().filter(is_wanted).map(|key| {
        let is_kept = |grant: &&Grant| {
            let is_there = matches!(grant.state, GrantState::Granted | GrantState::Unasked);
            grant.key == key && (is_there || states.contains(&grant.state))
        };
        let values = grants.iter().filter(is_kept).map(|grant| inline(&grant.value)).collect::<Vec<_>>();
        format!("{key} = [{}]", values.join(", "))
    });
    section("grants", lists.collect());
    let limits = wanted.iter().filter(|grant| LimitKey::named(grant.key).is_some());
    section("limits", limits.map(|grant| format!("{} = {}", grant.key, grant.value)).collect());
    text
}

/// A value in one line.
fn inline(value: &Value) -> String {
    let Value::Table(table) = value else { return value.to_string() };
    let order = ["store", "name", "kind", "labels", "bytes"];
    let pairs = order.into_iter().filter_map(|key| Some(format!("{key} = {}", Table::get(table, key)?)));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
