//! Rooms wired together: a file and a list of plugins become what the service serves.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use inference::{Engine as _, Pipeline, Stage};
use model::ModelReference;
use model::gguf::Header;
use plugin::{LoadedPlugin, ModelContext, Modify, OnFailure, PluginSpec, Plugins, Sandbox, SandboxConfig, Wasi};
use server::{ServiceConfig, Serving};
use telemetry::{Metrics, PluginMetrics};

use crate::bundle;
use crate::config::{PluginLimits, PluginTable, Settings};

/// What the service is told of the settings.
pub(crate) fn service_config(settings: &Settings) -> ServiceConfig {
    ServiceConfig {
        max_concurrency: settings.max_concurrency,
        queue_max: settings.queue_max,
        queue_wait_max: settings.queue_wait,
        ..ServiceConfig::default()
    }
}

/// The process's metrics.
pub(crate) fn metrics() -> Metrics {
    Metrics::new(&[("version", env!("CARGO_PKG_VERSION"))])
}

/// Loads the model and the plugins. Takes as long as reading the model does.
pub(crate) fn load(settings: &Settings, metrics: &PluginMetrics) -> anyhow::Result<Serving> {
    let started = Instant::now();
    let ModelReference::File(path) = &settings.model else {
        bail!("`{}` is a model of the Hub, which cannot be served yet", settings.model)
    };
    let engine = load_model(settings, path)?;
    let card = engine.card();
    tracing::info!(
        model = card.id,
        architecture = card.architecture,
        context_length = card.context_length,
        size_bytes = card.size_bytes,
        slots = settings.max_concurrency,
        elapsed_ms = millis(started.elapsed()),
        "model loaded"
    );
    if card.chat_template.is_none() {
        tracing::warn!("the model has no chat template; how it is prompted is up to the prompt plugin");
    }
    let pipeline = load_plugins(settings, &engine, metrics)?;
    Ok(Serving { engine: Arc::new(engine), pipeline })
}

fn load_model(settings: &Settings, path: &Path) -> anyhow::Result<engine::EngineHandle> {
    check_processor()?;
    // Before llama.cpp sees the file: its answer to a damaged one may be to end the process.
    let header = Header::read(path).with_context(|| format!("cannot use the model {}", path.display()))?;
    tracing::debug!(tensors = header.tensor_count, bytes = header.tensor_bytes, "the model's header is sound");
    check_context(settings, &header).with_context(|| format!("cannot serve the model {}", path.display()))?;
    let options = llama::LoadOptions {
        context_length: settings.context_length,
        threads: settings.threads,
        ..llama::LoadOptions::new(path, &settings.model_id)
    };
    let model = llama::Model::load(&options)?;
    let config = engine::Config {
        slots: settings.max_concurrency,
        // Admission lets no more in than there are slots; a request may still find the one before it on its way out.
        queue_length: settings.max_concurrency.saturating_add(1),
        ..engine::Config::default()
    };
    let (card, vocabulary) = (model.card().clone(), model.vocabulary());
    Ok(engine::start(card, vocabulary, config, move |shape| model.decoder(shape))?)
}

/// A context that the model was not made for, or that memory does not hold, is refused before llama.cpp asks for it.
fn check_context(settings: &Settings, header: &Header) -> anyhow::Result<()> {
    let trained = header.context_length().and_then(|length| u32::try_from(length).ok()).unwrap_or(u32::MAX);
    let context_length = settings.context_length.unwrap_or_else(|| trained.min(llama::CONTEXT_LENGTH_DEFAULT));
    if context_length > trained {
        bail!("`context_length` is {context_length}, and the model was trained for {trained} tokens; ask for no more");
    }
    let slots = settings.max_concurrency.get();
    let need = header.kv_cache_bytes(context_length).map(|bytes| bytes.saturating_mul(slots as u64));
    if let (Some(need), Some(have)) = (need, available_memory_bytes())
        && need > have
    {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        bail!(
            "the KV cache of {slots} requests with {context_length} tokens each needs {:.1} GB, and {:.1} GB of memory \
             are free; lower `context_length` or `max_concurrency`",
            gigabytes(need),
            gigabytes(have)
        );
    }
    Ok(())
}

/// `MemAvailable` of /proc/meminfo: what can be used without swapping.
fn available_memory_bytes() -> Option<u64> {
    let facts = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// llama.cpp is compiled for these (`host/llama`); without them it would end by an illegal instruction.
#[cfg(target_arch = "x86_64")]
fn check_processor() -> anyhow::Result<()> {
    let has = [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("F16C", is_x86_feature_detected!("f16c")),
        ("BMI2", is_x86_feature_detected!("bmi2")),
    ];
    let missing: Vec<&str> = has.iter().filter(|(_, is_there)| !is_there).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        bail!("this processor lacks {}, which this build of outrigger needs", missing.join(", "));
    }
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
#[expect(clippy::unnecessary_wraps, reason = "the same call on every architecture")]
fn check_processor() -> anyhow::Result<()> {
    Ok(())
}

fn load_plugins(
    settings: &Settings,
    engine: &engine::EngineHandle,
    metrics: &PluginMetrics,
) -> anyhow::Result<Arc<dyn Pipeline>> {
    let specs = settings.plugins.iter().map(spec).collect::<anyhow::Result<Vec<_>>>()?;
    let sandbox = Sandbox::new(SandboxConfig {
        cache_dir: settings.cache_dir.as_ref().map(|dir| dir.join("components")),
        workers: settings.plugin_workers.map(NonZeroUsize::get),
        memory_bytes_max: specs.iter().map(|spec| spec.limits.memory_bytes_max).max(),
        // Every request that is let in has room for all its plugins, the default one included, while as many that have
        // just ended are still being wound up.
        max_instances: u32::try_from(settings.max_concurrency.get() * (specs.len() + 1) * 2).ok(),
    })?;
    let model = ModelContext::new(engine.card().clone(), Arc::clone(engine.vocabulary()));
    let load = |spec| -> anyhow::Result<LoadedPlugin> {
        let plugin = sandbox.load(spec, &model)?;
        let facts = plugin.facts();
        let stages: Vec<&str> = facts.stages.iter().map(|stage| stage.as_str()).collect();
        tracing::info!(
            plugin = facts.name,
            version = facts.identity.version,
            sha256 = facts.sha256,
            stages = stages.join(","),
            code = ?facts.code,
            elapsed_ms = millis(facts.elapsed),
            "plugin loaded"
        );
        Ok(plugin)
    };
    let mut plugins = specs.into_iter().map(load).collect::<anyhow::Result<Vec<_>>>()?;
    if !plugins.iter().any(|plugin| plugin.facts().stages.contains(&Stage::Prompt)) {
        plugins.insert(0, load(spec(&PluginTable::bare(bundle::DEFAULT_PROMPT_PLUGIN.to_owned(), None))?)?);
    }
    Ok(Arc::new(Plugins::new(&sandbox, plugins, metrics.clone())?))
}

/// What a `[[plugin]]` table means.
fn spec(table: &PluginTable) -> anyhow::Result<PluginSpec> {
    let name = &table.name;
    let attempt = || format!("cannot use the plugin `{name}`");
    let (source, component): (String, Arc<[u8]>) = match &table.from {
        None => match bundle::component(name) {
            Some(component) => ("bundled".to_owned(), component.into()),
            None => bail!(
                "no bundled plugin is called `{name}` ({} are); name a component with `from = \"PATH\"`",
                bundle::NAMES.join(" and ")
            ),
        },
        Some(path) => {
            let component = std::fs::read(path).with_context(|| {
                format!(
                    "cannot read the plugin `{path}`; it names neither a bundled plugin ({}) nor a component's file",
                    bundle::NAMES.join(", ")
                )
            })?;
            (path.clone(), component.into())
        }
    };
    let mut spec = PluginSpec::new(name, source, component);
    spec.sha256.clone_from(&table.sha256);
    spec.config_json = serde_json::to_string(&table.config).with_context(attempt)?;
    spec.headers = table.grants.headers.iter().map(|header| header.to_ascii_lowercase()).collect();
    spec.modify =
        table.grants.modify.iter().map(|part| modify(part)).collect::<Result<_, _>>().with_context(attempt)?;
    if let Some(stages) = &table.stages {
        let chosen = stages.iter().map(|(stage, order)| Ok((self::stage(stage)?, *order)));
        spec.stages = Some(chosen.collect::<anyhow::Result<_>>().with_context(attempt)?);
    }
    spec.wasi = match table.wasi.as_deref() {
        None | Some("none") => Wasi::None,
        Some("quiet") => Wasi::Quiet,
        Some(other) => {
            return Err(anyhow::anyhow!("`wasi` is `{other}`; `none` and `quiet` are possible")).with_context(attempt);
        }
    };
    spec.policy_failure = on_failure(table.on_failure.policy.as_deref()).with_context(attempt)?;
    spec.postprocess_failure = on_failure(table.on_failure.postprocess.as_deref()).with_context(attempt)?;
    apply(&table.limits, &mut spec.limits);
    Ok(spec)
}

fn modify(name: &str) -> anyhow::Result<Modify> {
    let known = Modify::ALL;
    known.into_iter().find(|part| part.as_str() == name).with_context(|| {
        let names: Vec<_> = known.iter().map(|part| part.as_str()).collect();
        format!("`grants.modify` names `{name}`, and {} can be granted", names.join(", "))
    })
}

fn stage(name: &str) -> anyhow::Result<Stage> {
    let known = [Stage::Policy, Stage::Prompt, Stage::Parse, Stage::Postprocess, Stage::Audit];
    known.into_iter().find(|stage| stage.as_str() == name).with_context(|| {
        let names: Vec<_> = known.iter().map(|stage| stage.as_str()).collect();
        format!("`stages` names `{name}`, and there are {}", names.join(", "))
    })
}

fn on_failure(said: Option<&str>) -> anyhow::Result<OnFailure> {
    match said {
        None | Some("closed") => Ok(OnFailure::Closed),
        Some("open") => Ok(OnFailure::Open),
        Some(other) => bail!("`on_failure` is `{other}`; `closed` and `open` are possible"),
    }
}

fn apply(said: &PluginLimits, limits: &mut plugin::Limits) {
    let bytes = |said: Option<u64>, limit: &mut usize| {
        if let Some(said) = said {
            *limit = usize::try_from(said).unwrap_or(usize::MAX);
        }
    };
    bytes(said.component_bytes, &mut limits.component_bytes_max);
    bytes(said.memory_bytes, &mut limits.memory_bytes_max);
    bytes(said.call_bytes, &mut limits.call_bytes_max);
    bytes(said.log_bytes.map(u64::from), &mut limits.log_bytes_max);
    bytes(said.holdback_bytes.map(u64::from), &mut limits.holdback_bytes_max);
    bytes(said.output_bytes, &mut limits.output_bytes_max);
    limits.host_calls_max = said.host_calls.unwrap_or(limits.host_calls_max);
    let time = |said: Option<u64>, limit: &mut Duration| {
        if let Some(said) = said {
            *limit = Duration::from_millis(said);
        }
    };
    time(said.init_ms, &mut limits.init_cpu_max);
    time(said.policy_ms, &mut limits.policy_cpu_max);
    time(said.prompt_ms, &mut limits.prompt_cpu_max);
    time(said.push_ms, &mut limits.push_cpu_max);
    time(said.finish_ms, &mut limits.finish_cpu_max);
    time(said.request_ms, &mut limits.request_cpu_max);
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
