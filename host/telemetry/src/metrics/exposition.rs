//! From the registry to the two text formats.
//!
//! prometheus-client speaks `OpenMetrics`, where the samples of a counter end in `_total` whatever the counter's name
//! is. R21 names two counters without it, and Prometheus' own text format wants `# TYPE` to carry the sample's full
//! name. So counters that must keep their name are [`BareCounter`]s, which `OpenMetrics` sees as `unknown` (it has no
//! counter without the suffix), and [`Format::Text`] is rewritten from the `OpenMetrics` text.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

/// A text format that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4: what a client gets that does not ask for another.
    Text,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// What a client with this `Accept` header prefers. Only `OpenMetrics` is an alternative, so only its weight is
    /// compared with that of plain text.
    #[must_use]
    pub fn from_accept(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        let wanted = weight(accept, "application/openmetrics-text");
        if wanted > 0.0 && wanted >= weight(accept, "text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    /// The format's `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The highest `q` that an `Accept` header gives to a media type; 0 where it is not named.
fn weight(accept: &str, media_type: &str) -> f32 {
    accept
        .split(',')
        .filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            if !parts.next()?.eq_ignore_ascii_case(media_type) {
                return None;
            }
            let q = parts.find_map(|parameter| parameter.strip_prefix("q="));
            Some(q.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
        })
        .fold(0.0, f32::max)
}

/// A counter whose samples carry exactly the name it was registered with.
#[derive(Debug, Clone, Default)]
pub(super) struct BareCounter(Arc<AtomicU64>);

impl BareCounter {
    pub(super) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl TypedMetric for BareCounter {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for BareCounter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        // The one encoding without a suffix.
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

pub(super) fn encode(registry: &Registry, format: Format) -> String {
    let mut openmetrics = String::new();
    text::encode(&mut openmetrics, registry).expect("writing to a String cannot fail");
    match format {
        Format::OpenMetrics => openmetrics,
        Format::Text => to_text_format(&openmetrics),
    }
}

/// Rewrites `OpenMetrics` as written by prometheus-client (`HELP`, `TYPE`, samples, per family) to the text format
/// 0.0.4. Of our families, exactly the [`BareCounter`]s are of type `unknown`.
fn to_text_format(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // The family's name here depends on its type, which comes next.
            help = rest.split_once(' ').map_or("", |(_, text)| text);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "unknown" => ("", "counter"),
                other => ("", other),
            };
            let described = writeln!(out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
            described.expect("writing to a String cannot fail");
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: Option<&str>, expected: Format) {
        assert_eq!(Format::from_accept(accept), expected, "{accept:?}");
    }

    #[test]
    fn the_format_follows_accept() {
        check(None, Format::Text);
        check(Some("*/*"), Format::Text);
        check(Some("text/html,application/xhtml+xml"), Format::Text);
        check(Some("application/openmetrics-text"), Format::OpenMetrics);
        check(Some("Application/OpenMetrics-Text; version=1.0.0"), Format::OpenMetrics);
        check(Some("application/openmetrics-text;q=0"), Format::Text);
        check(Some("application/openmetrics-text;q=0.1, text/plain;q=0.5"), Format::Text);
    }

    #[test]
    fn prometheus_gets_openmetrics() {
        let sent = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        check(Some(sent), Format::OpenMetrics);
    }

    #[test]
    fn text_format_describes_counters_by_their_full_name() {
        let openmetrics = "# HELP a Of a.\n# TYPE a counter\na_total{x=\"1\"} 2\n# HELP b Of b.\n# TYPE b unknown\n\
                           b 3\n# HELP c Of c.\n# TYPE c gauge\nc 4\n# EOF\n";
        let expected = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n# HELP b Of b.\n\
                        # TYPE b counter\nb 3\n# HELP c Of c.\n# TYPE c gauge\nc 4\n";
        assert_eq!(to_text_format(openmetrics), expected);
    }
}
