//! Rooms wired together: a file and a list of plugins become what the service serves.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use inference::{DeviceFacts, EncodingEngine, Engine as _, Pipeline, SpecialTokens, Stage, Vocabulary};
use model::Tokenizer;
use model::gguf::{self, Header};
use plugin::{LoadedPlugin, ModelContext, Modify, OnFailure, PluginSpec, Plugins, Sandbox, SandboxConfig, Wasi};
use server::{ServiceConfig, Serving};
use telemetry::{DeviceMetrics, Metrics, PluginMetrics};

use crate::config::{PluginLimits, PluginTable, Settings};
use crate::placement::{self, Plan};
use crate::source::Located;
use crate::{bundle, encoder, grants};

/// What the service is told of the settings.
pub(crate) fn service_config(settings: &Settings) -> ServiceConfig {
    ServiceConfig {
        model_id: Some(settings.model_id.clone()),
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

/// What a loaded model is served as.
pub(crate) enum Loaded {
    /// It answers chats, with the plugins around it.
    Chat(Serving),
    /// It encodes inputs.
    Encoder(Arc<dyn EncodingEngine>),
}

/// Loads the model and, where it answers chats, the plugins, and says what the model is computed with. Takes as long as
/// reading the model does.
pub(crate) fn load(settings: &Settings, located: &Located, metrics: &Metrics) -> anyhow::Result<(Loaded, DeviceFacts)> {
    let started = Instant::now();
    let (model, plan, device) = load_model(settings, located, &metrics.devices)?;
    let card = model.card().clone();
    let report = |model: &llama::Model| {
        // The engine's context exists now, so all that the model takes has been taken.
        placement::compare(&plan, model, &metrics.devices);
        tracing::info!(
            model = card.id,
            architecture = card.architecture,
            context_length = card.context_length,
            size_bytes = card.size_bytes,
            slots = settings.max_concurrency,
            elapsed_ms = millis(started.elapsed()),
            "model loaded"
        );
    };
    if let Some(facts) = model.encoding().cloned() {
        let encoder = encoder::start(settings, model.clone(), facts)?;
        report(&model);
        located.check_unchanged()?;
        return Ok((Loaded::Encoder(encoder), device));
    }
    let engine = start(settings, model.clone(), plan.prefix_cache_bytes)?;
    report(&model);
    if card.chat_template.is_none() {
        tracing::warn!("the model has no chat template; how it is prompted is up to the prompt plugin");
    }
    located.check_unchanged()?;
    let pipeline = load_plugins(settings, &engine, &metrics.plugins)?;
    Ok((Loaded::Chat(Serving { engine: Arc::new(engine), pipeline }), device))
}

/// [`load`] for what only makes sense with a model that answers chats.
pub(crate) fn load_chat(
    settings: &Settings,
    located: &Located,
    metrics: &Metrics,
) -> anyhow::Result<(Serving, DeviceFacts)> {
    match load(settings, located, metrics)? {
        (Loaded::Chat(serving), device) => Ok((serving, device)),
        (Loaded::Encoder(_), _) => {
            bail!("{} encodes texts and answers none; `outrigger serve` serves it", settings.model_id)
        }
    }
}

/// The model, what was decided for it, and what is told of that.
fn load_model(
    settings: &Settings,
    located: &Located,
    metrics: &DeviceMetrics,
) -> anyhow::Result<(llama::Model, Plan, DeviceFacts)> {
    let path = &located.path;
    // Before llama.cpp sees the file: its answer to a damaged one may be to end the process.
    let facts = gguf::Model::open(path).with_context(|| format!("cannot use the model {}", path.display()))?;
    tracing::debug!(
        tensors = facts.header.tensor_count,
        bytes = facts.header.tensor_bytes,
        "the model's header is sound"
    );
    let backends = llama::backends(&settings.backends)?;
    let plan = Plan::of(settings, &facts.header, backends)
        .with_context(|| format!("cannot serve the model {}", path.display()))?;
    plan.log(backends, settings);
    plan.record(backends, metrics);
    // Whichever shard was named, llama.cpp wants the first and finds the others itself.
    let first = facts.shards.first().unwrap_or(path);
    let options = llama::LoadOptions {
        context_length: Some(plan.context_length),
        threads: settings.threads,
        kv_type: settings.kv_type,
        revision: located.revision.clone(),
        backends: settings.backends.clone(),
        gpu_layers: Some(plan.gpu_layers),
        main_gpu: settings.main_gpu,
        ..llama::LoadOptions::new(first, &settings.model_id)
    };
    let model = llama::Model::load(&options)?;
    let vocabulary = model.vocabulary();
    if let Some(tokenizer) = &located.tokenizer {
        match tokenizer_difference(tokenizer, first, &facts.header, &*vocabulary) {
            Ok(None) => tracing::debug!("the repository's tokenizer.json and the model have the same tokens"),
            Ok(Some(difference)) => tracing::warn!(
                tokenizer = %tokenizer.display(),
                "the repository's tokenizer.json is not the model's: {difference}; the model's own tokens are used"
            ),
            Err(error) => tracing::warn!("cannot compare the repository's tokenizer.json with the model: {error:#}"),
        }
    }
    let device = plan.facts(backends);
    Ok((model, plan, device))
}

/// Starts the engine of a model that completes.
fn start(settings: &Settings, model: llama::Model, prefix_cache_bytes: usize) -> anyhow::Result<engine::EngineHandle> {
    let config = engine::Config {
        slots: settings.max_concurrency,
        // Admission lets no more in than there are slots; a request may still find the one before it on its way out.
        queue_length: settings.max_concurrency.saturating_add(1),
        prefix_cache_bytes,
        guesses_max: settings.draft_max,
        ..engine::Config::default()
    };
    let (card, vocabulary) = (model.card().clone(), model.vocabulary());
    Ok(engine::start(card, vocabulary, config, move |shape| model.decoder(shape))?)
}

/// The first thing that a `tokenizer.json` and the model do not agree on: a token, or how a text is cut. A repackaged
/// model whose tokens were changed answers worse, or takes a user's text for a control token.
fn tokenizer_difference(
    tokenizer: &Path,
    weights: &Path,
    header: &Header,
    vocabulary: &dyn Vocabulary,
) -> anyhow::Result<Option<String>> {
    /// Words, numbers, indentation, an accent, an ideograph and an emoji: what tokenizers are known to cut differently.
    const PROBE: &str = "Hello, world! It's 2026:\n    naïve 世界 🙂 1234567";
    let tokenizer = Tokenizer::open(tokenizer)?;
    let Some(written) = gguf::Vocabulary::read(weights, header)? else { return Ok(None) };
    if let Some(difference) = tokenizer.first_difference(&written) {
        return Ok(Some(difference.to_string()));
    }
    let cut = tokenizer.encode(PROBE)?;
    let cut_by_model: Vec<u32> =
        vocabulary.tokenize(PROBE, SpecialTokens::Literal).into_iter().map(|token| token.0).collect();
    Ok((cut != cut_by_model).then(|| {
        format!("it cuts {PROBE:?} into {} tokens, and the model into {} others", cut.len(), cut_by_model.len())
    }))
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
                bundle::NAMES.join(", ")
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
    spec.kv = table.grants.kv.iter().map(grants::store).collect();
    let instruments = table.grants.metrics.iter().map(grants::instrument);
    spec.instruments = instruments.collect::<Result<_, _>>().with_context(attempt)?;
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
