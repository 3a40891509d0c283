//! What a manifest asks for, beside what the operator granted: what is there, what is missing, and what to write.

use std::fmt::Write as _;

use inference::Stage;
use serde::Serialize;
use telemetry::{InstrumentKind, InstrumentSpec};
use toml::{Table, Value};

use crate::kv::KvGrant;
use crate::limits::LimitKey;
use crate::load_error::LoadError;
use crate::manifest::{Asks, KvAsk, MetricAsk, NamedAsk, Need};
use crate::spec::{Modify, PluginSpec, Wasi};

/// One thing that was asked for, granted, or both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grant {
    /// The key of the configuration that grants it: `modify`, `headers`, `kv`, `metrics`, `token-control`, `wasi`, `model`, or a
    /// limit's name.
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
    stores: &'a [KvGrant],
    instruments: &'a [InstrumentSpec],
}

impl<'a> Granted<'a> {
    fn of(spec: &'a PluginSpec) -> Self {
        Self {
            modify: spec.modify.iter().map(|part| part.as_str()).collect(),
            headers: spec.headers.iter().map(String::as_str).collect(),
            stores: &spec.kv,
            instruments: &spec.instruments,
        }
    }
}

/// Everything that was asked for or granted. Without a manifest nobody asks, so nothing can be missing but what the stages need that
/// are to be used. `exported` are all that the component has.
pub(crate) fn compare(spec: &PluginSpec, exported: &[Stage]) -> Vec<Grant> {
    let nothing = Asks::default();
    let asks = spec.manifest.as_ref().map_or(&nothing, |manifest| &manifest.asks);
    let granted = Granted::of(spec);
    let mut grants = named("modify", &asks.modify, &granted.modify);
    grants.extend(named("headers", &asks.headers, &granted.headers));
    grants.extend(asks.kv.iter().map(|ask| store(ask, &granted)));
    let asked = |name: &str| asks.kv.iter().any(|ask| ask.store == name);
    let others = granted.stores.iter().filter(|grant| !asked(&grant.store));
    grants.extend(others.map(|grant| Grant { value: store_value(grant), ..unasked("kv", &grant.store) }));
    grants.extend(asks.metrics.iter().map(|ask| instrument(ask, &granted)));
    let asked = |name: &str| asks.metrics.iter().any(|ask| ask.name == name);
    let others = granted.instruments.iter().filter(|instrument| !asked(&instrument.name));
    grants.extend(others.map(|it| Grant { value: instrument_value(it), ..unasked("metrics", &it.name) }));
    grants.extend(token_control(asks.token_control.as_ref(), spec, exported));
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
        kind: ask.kind.into(),
        labels: ask.labels.clone(),
        series_max: InstrumentSpec::SERIES_DEFAULT,
        buckets: InstrumentSpec::BUCKETS_DEFAULT.to_vec(),
    };
    spec.instruments = asks.metrics.iter().map(instrument).collect();
    let names_it = |stages: &Vec<(Stage, i32)>| stages.iter().any(|&(stage, _)| stage == Stage::TokenControl);
    spec.token_control = asks.token_control.is_some() || manifest.stages.as_ref().is_some_and(names_it);
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
    let there = granted.stores.iter().find(|grant| grant.store == ask.store);
    let least = ask.bytes.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let is_enough = there.is_some_and(|grant| grant.bytes_max >= least);
    let instead = there.filter(|_| !is_enough).map(|grant| format!("it has {} bytes", grant.bytes_max));
    let mut wanted = there.cloned().unwrap_or_else(|| KvGrant::new(&ask.store));
    if ask.bytes.is_some() && !is_enough {
        wanted.bytes_max = least;
    }
    Grant { instead, ..asked_for("kv", &ask.store, is_enough, &ask.need, store_value(&wanted)) }
}

fn instrument(ask: &MetricAsk, granted: &Granted<'_>) -> Grant {
    let there = granted.instruments.iter().find(|instrument| instrument.name == ask.name);
    let is_granted = there.is_some_and(|it| it.kind == ask.kind.into() && it.labels == ask.labels);
    let instead =
        there.filter(|_| !is_granted).map(|it| format!("it is a {} with the labels {:?}", it.kind.as_str(), it.labels));
    let wanted = InstrumentSpec {
        name: ask.name.clone(),
        kind: ask.kind.into(),
        labels: ask.labels.clone(),
        series_max: there.map_or(InstrumentSpec::SERIES_DEFAULT, |it| it.series_max),
        buckets: there.map_or_else(|| InstrumentSpec::BUCKETS_DEFAULT.to_vec(), |it| it.buckets.clone()),
    };
    Grant { instead, ..asked_for("metrics", &ask.name, is_granted, &ask.need, instrument_value(&wanted)) }
}

/// A store as the configuration has it: its name, and with it what differs from the usual.
fn store_value(grant: &KvGrant) -> Value {
    let usual = KvGrant::new(&grant.store);
    let bounds = [
        ("keys", grant.keys_max, usual.keys_max),
        ("key_bytes", grant.key_bytes_max, usual.key_bytes_max),
        ("value_bytes", grant.value_bytes_max, usual.value_bytes_max),
        ("bytes", grant.bytes_max, usual.bytes_max),
    ];
    let bounds = bounds.into_iter().filter(|(_, bound, usual)| bound != usual);
    let bounds: Vec<_> = bounds.map(|(key, bound, _)| (key, integer(bound as u64))).collect();
    if bounds.is_empty() { Value::from(grant.store.as_str()) } else { table(("store", &grant.store), bounds) }
}

/// An instrument as the configuration has it, without what is usual.
fn instrument_value(spec: &InstrumentSpec) -> Value {
    let mut pairs = vec![("kind", Value::from(spec.kind.as_str()))];
    if !spec.labels.is_empty() {
        pairs.push(("labels", Value::from(spec.labels.clone())));
    }
    if spec.series_max != InstrumentSpec::SERIES_DEFAULT {
        pairs.push(("series", integer(spec.series_max as u64)));
    }
    if spec.kind == InstrumentKind::Histogram && spec.buckets != InstrumentSpec::BUCKETS_DEFAULT {
        pairs.push(("buckets", Value::from(spec.buckets.clone())));
    }
    table(("name", &spec.name), pairs)
}

fn table((key, name): (&str, &str), pairs: Vec<(&str, Value)>) -> Value {
    let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value));
    Value::Table(std::iter::once((key.to_owned(), Value::from(name))).chain(pairs).collect())
}

/// The stage `token-control`. To name it among the stages to use is to ask for it, and so is to have no other.
fn token_control(ask: Option<&Need>, spec: &PluginSpec, exported: &[Stage]) -> Option<Grant> {
    let names_it = |stages: &[(Stage, i32)]| stages.iter().any(|&(stage, _)| stage == Stage::TokenControl);
    let suggested = spec.manifest.as_ref().and_then(|manifest| manifest.stages.as_deref());
    let is_used = spec.stages.as_deref().or(suggested).is_some_and(names_it) || exported == [Stage::TokenControl];
    let implied = Need { required: true, reason: None };
    let need = if spec.stages.as_deref().is_some_and(names_it) {
        // The operator's own wish, whatever the author can do without.
        Some(Need { required: true, reason: ask.and_then(|need| need.reason.clone()) })
    } else {
        ask.cloned().or(is_used.then_some(implied))
    };
    match need {
        Some(need) => Some(asked_for(TOKEN_CONTROL, "true", spec.token_control, &need, Value::Boolean(true))),
        None => spec.token_control.then(|| unasked(TOKEN_CONTROL, "true")),
    }
}

/// The key of the grant.
const TOKEN_CONTROL: &str = "token-control";

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
            TOKEN_CONTROL => "a say in every token of an answer (`token-control`)".to_owned(),
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
    let control = is_wanted(&TOKEN_CONTROL).then(|| format!("{TOKEN_CONTROL} = true"));
    section("grants", lists.chain(control).collect());
    let limits = wanted.iter().filter(|grant| LimitKey::named(grant.key).is_some());
    section("limits", limits.map(|grant| format!("{} = {}", grant.key, grant.value)).collect());
    text
}

/// A value in one line.
fn inline(value: &Value) -> String {
    let Value::Table(table) = value else { return value.to_string() };
    let order = ["store", "name", "kind", "labels", "series", "buckets", "keys", "key_bytes", "value_bytes", "bytes"];
    let pairs = order.into_iter().filter_map(|key| Some(format!("{key} = {}", Table::get(table, key)?)));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
