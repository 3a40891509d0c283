//! The registry, and what of it each room may record.

mod custom;
mod devices;
mod downloads;
mod exposition;
mod inference;
mod meter;
mod plugins;

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use custom::{Dropped, Instrument, InstrumentKind, InstrumentSpec, OTHER};
pub use devices::{DeviceMetrics, MemoryKind, Place};
pub use downloads::{DownloadMetrics, ModelDownloads};
pub use exposition::Format;
pub use inference::{Endpoint, InferenceEnd, InferenceMetrics, LineMetrics, RequestLabels, Standing};
pub use meter::{BreakerState, Outcome, PluginMeter};
pub use plugins::PluginMetrics;

/// Every metric of the process. Clones share the same families.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Requests, tokens and where their time goes.
    pub inference: InferenceMetrics,
    /// Calls into plugins.
    pub plugins: PluginMetrics,
    /// Downloads of models.
    pub downloads: DownloadMetrics,
    /// What computes.
    pub devices: DeviceMetrics,
    http_responses: Family<ResponseLabels, Counter>,
    registry: Arc<Registry>,
}

impl Metrics {
    /// Registers every family. `build` says what this binary is made of, such as `("version", "0.1.0")`; the pairs
    /// become the labels of `outrigger_build_info`.
    #[must_use]
    pub fn new(build: &[(&'static str, &str)]) -> Self {
        let mut registry = Registry::default();
        let inference = InferenceMetrics::register(&mut registry);
        let plugins = PluginMetrics::register(&mut registry);
        let downloads = DownloadMetrics::register(&mut registry);
        let devices = DeviceMetrics::register(&mut registry);

        let http_responses = Family::<ResponseLabels, Counter>::default();
        registry.register(
            "outrigger_http_responses",
            "Responses by route and status; a stream counts when its head is sent",
            http_responses.clone(),
        );

        // A gauge, not an `info`: the text format 0.0.4 knows no such type and promtool refuses it.
        let build_info = Family::<Vec<(String, String)>, Gauge>::default();
        let build: Vec<_> = build.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        build_info.get_or_create(&build).set(1);
        registry.register("outrigger_build_info", "What this binary was built from; always 1", build_info);

        Self { inference, plugins, downloads, devices, http_responses, registry: Arc::new(registry) }
    }

    /// Counts a response. `route` is one of the router's own names, never a path from the wire.
    pub fn http_response(&self, route: &'static str, status: u16) {
        self.http_responses.get_or_create(&ResponseLabels { route, status }).inc();
    }

    /// All metrics in `format`.
    #[must_use]
    pub fn encode(&self, format: Format) -> String {
        exposition::encode(&self.registry, format)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    route: &'static str,
    status: u16,
}

/// Of several models each has samples of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

impl ModelLabel {
    fn of(model: &str) -> Self {
        Self { model: model.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::inference::{FaultKind, Stage};

    use super::*;

    /// Every family with at least one sample.
    fn everything_recorded() -> Metrics {
        let metrics = Metrics::new(&[("version", "1.2.3")]);
        metrics.inference.model_ready("smol");
        metrics.inference.queue_wait("smol", Duration::from_millis(2));
        metrics.inference.admission("smol", "admitted");
        metrics.inference.line("smol").standing(Standing { running: 1, tokens_waiting: 7, ..Standing::default() });
        let _ = metrics.downloads.of("smol");
        metrics.inference.record(
            &RequestLabels { model: "smol".into(), is_streamed: true, endpoint: Endpoint::ChatCompletions },
            &InferenceEnd {
                elapsed: Duration::from_millis(1500),
                first_token: Some(Duration::from_millis(120)),
                prompt_tokens: 12,
                completion_tokens: 34,
                blame: Some(::inference::Blame::Plugin),
            },
        );
        let plugins = metrics.plugins.of_model("smol");
        let redact = plugins.meter("redact");
        let _ = plugins.set_made();
        redact.instance_started();
        redact.instance_started();
        redact.instance_ended(1 << 21);
        redact.call(Stage::Postprocess, Outcome::Hold, Duration::from_micros(3));
        redact.fault(Stage::Postprocess, FaultKind::Trap);
        redact.cpu(Duration::from_millis(250));
        redact.held_bytes(20);
        redact.held(Duration::from_millis(40));
        redact.log_dropped(100);
        redact.breaker(BreakerState::Open);
        redact.refused();
        redact.custom_dropped(Dropped::Labels);
        metrics.plugins.queued("stream", Duration::from_micros(30));
        metrics.plugins.overloaded("instances");
        metrics.http_response("chat", 200);
        metrics.devices.computes("smol", "vulkan", "Vulkan0", "zen4");
        metrics.devices.skipped("smol", "cuda", "no_module");
        metrics.devices.layers("smol", Place::Device, 31);
        metrics.devices.memory("smol", MemoryKind::Expected, "weights", Place::Device, 1000);
        metrics
    }

    /// Families keep their samples in hash maps: sort, so that a snapshot shows names and values only.
    fn sorted(text: &str) -> String {
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.contains("_bucket{")).collect();
        lines.sort_unstable();
        lines.join("\n")
    }

    #[test]
    fn names_and_labels_in_text() {
        insta::assert_snapshot!(sorted(&everything_recorded().encode(Format::Text)));
    }

    #[test]
    fn names_and_labels_in_openmetrics() {
        insta::assert_snapshot!(sorted(&everything_recorded().encode(Format::OpenMetrics)));
    }

    // R21
    #[test]
    fn the_counters_of_the_guide_carry_exactly_their_names() {
        for format in [Format::Text, Format::OpenMetrics] {
            let text = everything_recorded().encode(format);
            let names: std::collections::BTreeSet<&str> = text
                .lines()
                .filter(|line| line.starts_with("llm_"))
                .filter_map(|line| line.split_once('{').map(|(name, _)| name))
                .collect();
            let expected = [
                "llm_completion_tokens_total",
                "llm_failures",
                "llm_internal_request_duration_ms_bucket",
                "llm_internal_request_duration_ms_count",
                "llm_internal_request_duration_ms_sum",
                "llm_prompt_tokens_total",
                "llm_requests",
            ];
            assert_eq!(names.into_iter().collect::<Vec<_>>(), expected, "in {format:?}");
            assert!(!text.contains("_total_total"), "in {format:?}");
        }
    }

    // R21: an alert on a counter needs its zero.
    #[test]
    fn a_ready_model_shows_its_zeros() {
        let metrics = Metrics::new(&[]);
        metrics.inference.model_ready("smol");
        let text = metrics.encode(Format::Text);
        for name in ["llm_requests", "llm_failures", "llm_prompt_tokens_total", "llm_completion_tokens_total"] {
            let sample = format!("{name}{{model=\"smol\",stream=\"true\",endpoint=\"chat_completions\"}} 0\n");
            assert!(text.contains(&sample), "{sample} is missing in:\n{text}");
        }
    }

    #[test]
    fn two_models_are_told_apart_in_every_family_that_is_about_one() {
        let metrics = Metrics::new(&[]);
        for model in ["chat", "embed"] {
            metrics.inference.ready(model, model == "chat");
            metrics.inference.line(model).standing(Standing::default());
            metrics.downloads.of(model).size_bytes.set(1);
            metrics.devices.computes(model, "cpu", "CPU", "zen4");
            metrics.devices.layers(model, Place::Host, 3);
        }
        let text = metrics.encode(Format::Text);
        assert!(text.contains("outrigger_ready{model=\"chat\"} 1\n"), "{text}");
        assert!(text.contains("outrigger_ready{model=\"embed\"} 0\n"), "{text}");
        for name in ["requests_running", "callers", "download_size_bytes", "device_info", "model_layers"] {
            let samples = text.lines().filter(|line| line.starts_with(&format!("outrigger_{name}{{model=")));
            assert_eq!(samples.count(), 2, "{name}");
        }
        // What computed it before computes it no more.
        metrics.devices.forget("chat");
        let text = metrics.encode(Format::Text);
        assert!(!text.contains("outrigger_device_info{model=\"chat\""), "{text}");
        assert!(text.contains("outrigger_device_info{model=\"embed\""), "{text}");
    }

    #[test]
    fn a_family_is_described_once_and_before_its_samples() {
        let text = everything_recorded().encode(Format::Text);
        let mut described = std::collections::HashSet::new();
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap_or_default();
                assert!(described.insert(family), "{family} is described twice");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "`{line}` stands under {family}");
            }
        }
        assert!(described.len() > 10, "{described:?}");
    }
}
