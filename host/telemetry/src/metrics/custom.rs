//! Instruments that plugins bring along: declared by the operator, bounded in series, shown under a name of their own.
//!
//! A family is called `outrigger_plugin_custom_NAME` and has the label `plugin`. The prefix keeps a guest's name from
//! ever being one of ours; the plugin is a label and not part of the name, so that one query adds up what several
//! plugins of one component count.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

/// What an instrument measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstrumentKind {
    /// A sum that only grows.
    Counter,
    /// How values are distributed.
    Histogram,
}

impl InstrumentKind {
    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// An instrument as it was declared.
#[derive(Debug, Clone, PartialEq)]
pub struct InstrumentSpec {
    /// Its name: what a guest calls it, and the end of the family's name.
    pub name: String,
    /// What it measures.
    pub kind: InstrumentKind,
    /// The labels that every sample has, beside `plugin`.
    pub labels: Vec<String>,
    /// Combinations of label values; what would be another is counted under [`OTHER`].
    pub series_max: usize,
    /// Upper bounds of a histogram's buckets, ascending.
    pub buckets: Vec<f64>,
}

/// The label value of what comes after an instrument's last series.
pub const OTHER: &str = "other";

/// Bytes of a label's value; the rest is cut.
const LABEL_BYTES_MAX: usize = 64;

/// Bytes of an instrument's or a label's name.
const NAME_BYTES_MAX: usize = 63;

/// Labels of an instrument: each multiplies the series.
const LABELS_MAX: usize = 8;

/// Series of an instrument, whatever is declared: a scrape copies them all.
const SERIES_MAX: usize = 1_000;

/// Buckets of a histogram: each is a sample per series.
const BUCKETS_MAX: usize = 32;

impl InstrumentSpec {
    /// Series where nothing is said.
    pub const SERIES_DEFAULT: usize = 100;

    /// Three steps per factor of ten, from a thousandth to a thousand: for seconds, shares and small counts alike.
    pub const BUCKETS_DEFAULT: [f64; 19] = [
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0,
        1_000.0,
    ];

    /// Whether Prometheus takes it, and we can afford it; if not, why.
    pub fn check(&self) -> Result<(), String> {
        const SUFFIXES: [&str; 6] = ["_total", "_bucket", "_count", "_sum", "_created", "_info"];
        const LABELS_TAKEN: [&str; 3] = ["plugin", "le", "quantile"];
        if !is_name(&self.name) {
            return Err(format!("`{}` is no name: {NAME_RULE}", self.name));
        }
        if let Some(suffix) = SUFFIXES.into_iter().find(|suffix| self.name.ends_with(suffix)) {
            return Err(format!("`{}` ends with `{suffix}`, which is added where it belongs; leave it out", self.name));
        }
        if let Some(label) = self.labels.iter().find(|label| !is_name(label)) {
            return Err(format!("the label `{label}` is no name: {NAME_RULE}"));
        }
        if let Some(label) = self.labels.iter().find(|label| LABELS_TAKEN.contains(&label.as_str())) {
            return Err(format!("the label `{label}` is taken; call it something else"));
        }
        if (1..self.labels.len()).any(|place| self.labels[..place].contains(&self.labels[place])) {
            return Err("it has a label twice".to_owned());
        }
        if self.labels.len() > LABELS_MAX {
            return Err(format!("it has {} labels and may have {LABELS_MAX}", self.labels.len()));
        }
        if !(1..=SERIES_MAX).contains(&self.series_max) {
            return Err(format!("it has {} series and may have 1 to {SERIES_MAX}", self.series_max));
        }
        if self.kind == InstrumentKind::Counter {
            return Ok(());
        }
        let is_ascending = self.buckets.windows(2).all(|pair| pair[0] < pair[1]);
        if !(1..=BUCKETS_MAX).contains(&self.buckets.len())
            || !is_ascending
            || !self.buckets.iter().all(|b| b.is_finite())
        {
            return Err(format!("its buckets must be 1 to {BUCKETS_MAX} ascending numbers"));
        }
        Ok(())
    }
}

const NAME_RULE: &str = "it has 1 to 63 lower-case letters, digits and single `_`, and begins with a letter";

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.as_bytes()[0].is_ascii_lowercase()
        && name.bytes().all(is_allowed)
        && !name.contains("__")
        && !name.ends_with('_')
}

/// A plugin's instrument. Its series live as long as it does, over reloads of the plugin.
#[derive(Debug)]
pub struct Instrument {
    plugin: String,
    spec: InstrumentSpec,
    series: Mutex<HashMap<Vec<String>, Series>>,
}

#[derive(Debug)]
enum Series {
    Counter(Counter<f64, AtomicU64>),
    Histogram(Histogram),
}

/// Why a value was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Nothing of that name and kind was declared.
    Undeclared,
    /// The labels are not those that were declared.
    Labels,
    /// Not a number, not finite, or a counter that would go back.
    Value,
}

impl Dropped {
    /// The reason's name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undeclared => "undeclared",
            Self::Labels => "labels",
            Self::Value => "value",
        }
    }
}

impl Instrument {
    /// An instrument of `plugin`, to be shown by [`super::PluginMetrics::show`]. Fails as [`InstrumentSpec::check`] does.
    pub fn new(plugin: &str, spec: InstrumentSpec) -> Result<Self, String> {
        spec.check()?;
        Ok(Self { plugin: plugin.to_owned(), spec, series: Mutex::default() })
    }

    /// What was declared.
    #[must_use]
    pub fn spec(&self) -> &InstrumentSpec {
        &self.spec
    }

    /// Adds to a counter, or observes a value of a histogram.
    pub fn record(&self, kind: InstrumentKind, value: f64, labels: &[(String, String)]) -> Result<(), Dropped> {
        if kind != self.spec.kind {
            return Err(Dropped::Undeclared);
        }
        let is_usable = value.is_finite() && (kind != InstrumentKind::Counter || value >= 0.0);
        if !is_usable {
            return Err(Dropped::Value);
        }
        let mut values = self.values(labels).ok_or(Dropped::Labels)?;
        let mut series = self.lock();
        if series.len() >= self.spec.series_max && !series.contains_key(&values) {
            values.fill_with(|| OTHER.to_owned());
        }
        match series.entry(values).or_insert_with(|| self.first()) {
            Series::Counter(counter) => drop(counter.inc_by(value)),
            Series::Histogram(histogram) => histogram.observe(value),
        }
        Ok(())
    }

    /// The values of the declared labels, in their order; `None` where others were given.
    fn values(&self, labels: &[(String, String)]) -> Option<Vec<String>> {
        if labels.len() != self.spec.labels.len() {
            return None;
        }
        let value = |name: &String| labels.iter().find(|(given, _)| given == name).map(|(_, value)| printable(value));
        self.spec.labels.iter().map(value).collect()
    }

    fn first(&self) -> Series {
        match self.spec.kind {
            InstrumentKind::Counter => Series::Counter(Counter::default()),
            InstrumentKind::Histogram => Series::Histogram(Histogram::new(self.spec.buckets.iter().copied())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<String>, Series>> {
        // Nothing that can panic half way runs under this lock.
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest's text as a label's value: short, and without characters that could confuse who reads it.
fn printable(value: &str) -> String {
    let cut = &value[..value.floor_char_boundary(LABEL_BYTES_MAX)];
    cut.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The instruments that a scrape shows: those that somebody still owns.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(Arc<Mutex<Vec<Weak<Instrument>>>>);

impl Shown {
    pub(super) fn add(&self, instrument: &Arc<Instrument>) {
        let mut shown = self.lock();
        // One that is shown anew is the newest again.
        shown.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), Arc::as_ptr(instrument)));
        shown.push(Arc::downgrade(instrument));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Instrument>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let instruments: Vec<Arc<Instrument>> = self.lock().iter().filter_map(Weak::upgrade).collect();
        // The newest of a plugin's instruments of a name counts: a reload may have declared it anew while requests
        // with the one before still run.
        let mut families: BTreeMap<&str, BTreeMap<&str, &Instrument>> = BTreeMap::new();
        for instrument in &instruments {
            families.entry(&instrument.spec.name).or_default().insert(&instrument.plugin, instrument);
        }
        for (name, plugins) in families {
            let Some(kind) = plugins.values().next().map(|first| first.spec.kind) else { continue };
            let name = format!("outrigger_plugin_custom_{name}");
            let (kind_shown, help) = match kind {
                InstrumentKind::Counter => (MetricType::Counter, "Counted by plugins"),
                InstrumentKind::Histogram => (MetricType::Histogram, "Observed by plugins"),
            };
            let mut family = encoder.encode_descriptor(&name, help, None, kind_shown)?;
            // A family has one kind; two plugins of a set that disagree were refused.
            for instrument in plugins.values().filter(|instrument| instrument.spec.kind == kind) {
                for (values, series) in instrument.lock().iter() {
                    let mut labels = vec![("plugin", instrument.plugin.as_str())];
                    let names = instrument.spec.labels.iter().map(String::as_str);
                    labels.extend(names.zip(values.iter().map(String::as_str)));
                    let encoder = family.encode_family(&labels)?;
                    match series {
                        Series::Counter(counter) => counter.encode(encoder)?,
                        Series::Histogram(histogram) => histogram.encode(encoder)?,
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Metrics};

    fn counter(name: &str, labels: &[&str]) -> InstrumentSpec {
        InstrumentSpec {
            name: name.to_owned(),
            kind: InstrumentKind::Counter,
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            series_max: 2,
            buckets: Vec::new(),
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn refused(spec: &InstrumentSpec, words: &str) {
        let reason = spec.check().expect_err(words);
        assert!(reason.contains(words), "{reason}");
    }

    #[test]
    fn declarations_that_prometheus_would_not_take_are_refused() {
        refused(&counter("Masked", &[]), "is no name");
        refused(&counter("", &[]), "is no name");
        refused(&counter("a__b", &[]), "is no name");
        refused(&counter("masked_total", &[]), "`_total`");
        refused(&counter("masked", &["plugin"]), "is taken");
        refused(&counter("masked", &["a", "a"]), "twice");
        refused(&counter("masked", &["1a"]), "is no name");
        refused(&InstrumentSpec { series_max: 0, ..counter("masked", &[]) }, "series");
        let histogram = |buckets: &[f64]| InstrumentSpec {
            kind: InstrumentKind::Histogram,
            buckets: buckets.to_vec(),
            ..counter("size", &[])
        };
        refused(&histogram(&[]), "ascending");
        refused(&histogram(&[1.0, 1.0]), "ascending");
        refused(&histogram(&[f64::NAN]), "ascending");
        assert_eq!(histogram(&InstrumentSpec::BUCKETS_DEFAULT).check(), Ok(()));
    }

    #[test]
    fn what_is_beyond_the_series_is_counted_under_other() {
        let (metrics, kind) = (Metrics::new(&[]), InstrumentKind::Counter);
        let masked = Arc::new(Instrument::new("redact", counter("masked", &["kind"])).expect("it is sound"));
        metrics.plugins.show(&masked);
        metrics.plugins.show(&masked);
        for value in ["a\"\n", "b", "c", "d", "b"] {
            assert_eq!(masked.record(kind, 1.5, &labels(&[("kind", value)])), Ok(()));
        }
        assert_eq!(masked.record(kind, -1.0, &labels(&[("kind", "b")])), Err(Dropped::Value));
        assert_eq!(masked.record(kind, f64::INFINITY, &labels(&[("kind", "b")])), Err(Dropped::Value));
        assert_eq!(masked.record(kind, 1.0, &labels(&[("sort", "b")])), Err(Dropped::Labels));
        assert_eq!(masked.record(kind, 1.0, &[]), Err(Dropped::Labels));
        assert_eq!(masked.record(InstrumentKind::Histogram, 1.0, &[]), Err(Dropped::Undeclared));
        let shown = |format| {
            let text = metrics.encode(format);
            let mut lines: Vec<_> =
                text.lines().filter(|line| line.contains("custom_masked")).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let name = "outrigger_plugin_custom_masked";
        assert_eq!(
            shown(Format::Text),
            [
                format!("# HELP {name}_total Counted by plugins"),
                format!("# TYPE {name}_total counter"),
                format!("{name}_total{{plugin=\"redact\",kind=\"a\\\" \"}} 1.5"),
                format!("{name}_total{{plugin=\"redact\",kind=\"b\"}} 3.0"),
                format!("{name}_total{{plugin=\"redact\",kind=\"other\"}} 3.0"),
            ]
        );
        drop(masked);
        assert_eq!(shown(Format::Text), [""; 0], "nobody owns it any more");
    }

    /// A reload and its way back, while requests of all three generations run.
    #[test]
    fn what_was_shown_last_is_shown() {
        let metrics = Metrics::new(&[]);
        let made = ["kind", "sort"].map(|label| {
            let instrument = Arc::new(Instrument::new("a", counter("seen", &[label])).expect("it is sound"));
            instrument.record(InstrumentKind::Counter, 1.0, &labels(&[(label, "x")])).expect("it is declared");
            instrument
        });
        for (shown, label) in [(&made[0], "kind"), (&made[1], "sort"), (&made[0], "kind")] {
            metrics.plugins.show(shown);
            let text = metrics.encode(Format::Text);
            let lines: Vec<_> = text.lines().filter(|line| line.contains("seen_total{")).collect();
            assert_eq!(lines, [format!("outrigger_plugin_custom_seen_total{{plugin=\"a\",{label}=\"x\"}} 1.0")]);
        }
    }

    #[test]
    fn two_plugins_share_a_family() {
        let metrics = Metrics::new(&[]);
        let made = ["a", "b"].map(|plugin| {
            let instrument = Arc::new(Instrument::new(plugin, counter("seen", &[])).expect("it is sound"));
            metrics.plugins.show(&instrument);
            instrument.record(InstrumentKind::Counter, 1.0, &[]).expect("it is declared");
            instrument
        });
        let text = metrics.encode(Format::OpenMetrics);
        assert_eq!(text.matches("# TYPE outrigger_plugin_custom_seen counter").count(), 1, "{text}");
        assert_eq!(text.matches("outrigger_plugin_custom_seen_total{plugin=").count(), made.len(), "{text}");
    }
}
