//! Rooms wired together: a file and a list of plugins become what the service serves.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use inference::{DeviceFacts, EncodingEngine, Engine, SpecialTokens, Stage, Vocabulary};
use model::Tokenizer;
use model::gguf::{self, Header};
use plugin::{FileStamp, LoadError, ModelContext, Modify, OnFailure, Package, PluginSpec, Wasi};
use server::{ServiceConfig, Serving};
use telemetry::{DeviceMetrics, Metrics};

use crate::config::{ModelSettings, PluginLimits, PluginTable, Settings};
use crate::placement::{self, Held, Plan};
use crate::reload::PluginLoader;
use crate::source::Located;
use crate::{bundle, encoder, grants, running};

/// What a model's service is told of the settings.
pub(crate) fn service_config(settings: &Settings, model: &ModelSettings) -> ServiceConfig {
    ServiceConfig {
        max_concurrency: model.max_concurrency,
        queue_max: model.queue_max,
        queue_tokens_max: model.queue_tokens_max,
        queue_wait_max: model.queue_wait,
        requests_per_minute_max: model.requests_per_minute_max,
        request_timeout: model.request_timeout,
        stall_max: settings.listen.stall_max,
        ..ServiceConfig::new(&model.id)
    }
}

/// The process's metrics.
pub(crate) fn metrics() -> Metrics {
    Metrics::new(&[("version", env!("CARGO_PKG_VERSION"))])
}

/// A model that computes.
pub(crate) struct Loaded {
    pub(crate) engine: LoadedEngine,
    /// What it is computed with.
    pub(crate) device: DeviceFacts,
    /// What it has taken, for whoever is loaded beside it.
    pub(crate) held: Held,
}

/// What it does.
pub(crate) enum LoadedEngine {
    /// It answers chats, once there are plugins around it.
    Chat(Arc<dyn Engine>),
    /// It encodes inputs.
    Encoder(Arc<dyn EncodingEngine>),
}

/// Loads a model beside those of `held`. Takes as long as reading it does.
pub(crate) fn load(
    settings: &ModelSettings,
    located: &Located,
    held: &[Held],
    metrics: &Metrics,
) -> anyhow::Result<Loaded> {
    let started = Instant::now();
    let (model, plan, device) = load_model(settings, located, held, &metrics.devices)?;
    let engine = match model.encoding().cloned() {
        Some(facts) => LoadedEngine::Encoder(encoder::start(settings, model.clone(), facts)?),
        None => LoadedEngine::Chat(Arc::new(start(settings, model.clone(), plan.prefix_cache_bytes)?)),
    };
    // The engine's context exists now, so all that the model takes has been taken.
    placement::compare(&plan, &model, &metrics.devices);
    let card = model.card();
    tracing::info!(
        model = card.id,
        architecture = card.architecture,
        context_length = card.context_length,
        size_bytes = card.size_bytes,
        slots = settings.max_concurrency,
        elapsed_ms = millis(started.elapsed()),
        "model loaded"
    );
    if matches!(engine, LoadedEngine::Chat(_)) && card.chat_template.is_none() {
        tracing::warn!(
            model = card.id,
            "the model has no chat template; how it is prompted is up to the prompt plugin"
        );
    }
    located.check_unchanged()?;
    Ok(Loaded { engine, device, held: Held::loaded(&settings.id, &plan) })
}

/// What plugins are told of a model that answers chats.
pub(crate) fn context(engine: &dyn Engine) -> ModelContext {
    ModelContext::new(engine.card().clone(), Arc::clone(engine.vocabulary()))
}

/// [`load`], with the plugins, for what only makes sense with a model that answers chats.
pub(crate) fn load_chat(
    settings: &Settings,
    model: &ModelSettings,
    located: &Located,
    metrics: &Metrics,
) -> anyhow::Result<(Serving, DeviceFacts)> {
    let Loaded { engine, device, .. } = load(model, located, &[], metrics)?;
    let LoadedEngine::Chat(engine) = engine else {
        bail!("{} encodes texts and answers none; `outrigger serve` serves it", model.id)
    };
    let mut loader = PluginLoader::new(settings, metrics.plugins.clone());
    let set = loader.join(context(&*engine), &settings.plugins).map_err(|refused| refused.error)?;
    let (_, pipeline) = set.sets.into_iter().next().context("the plugins are loaded and not there")?;
    Ok((Serving { engine, pipeline }, device))
}

/// The model, what was decided for it, and what is told of that.
fn load_model(
    settings: &ModelSettings,
    located: &Located,
    held: &[Held],
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
    let plan = Plan::of(settings, &facts.header, backends, held).with_context(|| {
        let beside = placement::beside(held).map(|beside| format!(" {beside}")).unwrap_or_default();
        format!("cannot serve the model `{}` ({}){beside}", settings.id, path.display())
    })?;
    plan.log(backends, settings);
    plan.record(&settings.id, backends, metrics);
    // Whichever shard was named, llama.cpp wants the first and finds the others itself.
    let first = facts.shards.first().unwrap_or(path);
    let options = llama::LoadOptions {
        context_length: Some(plan.context_length),
        threads: settings.threads,
        cpus: settings.cpus.clone(),
        kv_type: settings.kv_type,
        revision: located.revision.clone(),
        backends: settings.backends.clone(),
        gpu_layers: Some(plan.gpu_layers),
        main_gpu: settings.main_gpu,
        ..llama::LoadOptions::new(first, &settings.id)
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
fn start(
    settings: &ModelSettings,
    model: llama::Model,
    prefix_cache_bytes: usize,
) -> anyhow::Result<engine::EngineHandle> {
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

/// What a `[[plugin]]` table means. Every file that is read is put into `files` first, as it is then.
pub(crate) fn spec(table: &PluginTable, files: &mut Vec<FileStamp>) -> anyhow::Result<PluginSpec> {
    let name = &table.name;
    let attempt = || format!("cannot use the plugin `{name}`");
    let mut limits = plugin::Limits::default();
    apply(&table.limits, &mut limits);
    let package = match &table.from {
        None => bundle::package(name)?,
        Some(path) => {
            let path = Path::new(path);
            Package::read_watched(path, limits.component_bytes_max, files).with_context(|| {
                if path.exists() {
                    return attempt();
                }
                let (path, names) = (path.display(), bundle::NAMES.join(", "));
                format!(
                    "cannot read the plugin `{path}`; it names neither a bundled plugin ({names}) nor a file or folder"
                )
            })?
        }
    };
    let mut spec = PluginSpec::new(name, package.source, package.component);
    spec.component_bytes = package.component_bytes;
    spec.manifest = package.manifest;
    spec.limits = limits;
    spec.sha256.clone_from(&table.sha256);
    spec.config_json = plugin::config_json(&table.config).map_err(|error| {
        let line = table.config_lines.of(&error.path).map(|line| format!("line {line}: ")).unwrap_or_default();
        anyhow!("{line}{}: {error}", attempt())
    })?;
    spec.headers = table.grants.headers.iter().map(|header| header.to_ascii_lowercase()).collect();
    spec.modify =
        table.grants.modify.iter().map(|part| modify(part)).collect::<Result<_, _>>().with_context(attempt)?;
    spec.kv = table.grants.kv.iter().map(grants::store).collect();
    let instruments = table.grants.metrics.iter().map(grants::instrument);
    spec.instruments = instruments.collect::<Result<_, _>>().with_context(attempt)?;
    spec.token_control = table.grants.token_control;
    if let Some(stages) = &table.stages {
        let chosen = stages.iter().map(|(stage, order)| Ok((self::stage(stage)?, *order)));
        spec.stages = Some(chosen.collect::<anyhow::Result<_>>().with_context(attempt)?);
    }
    spec.wasi = match table.wasi.as_deref() {
        None | Some("none") => Wasi::None,
        Some("quiet") => Wasi::Quiet,
        Some(other) => {
            return Err(anyhow!("`wasi` is `{other}`; `none` and `quiet` are possible")).with_context(attempt);
        }
    };
    spec.breaker = running::breaker(&table.breaker);
    spec.reuse = running::reuse(&table.instance).with_context(attempt)?;
    if spec.reuse.is_some() {
        tracing::warn!(
            plugin = name,
            "the plugin's instances are reused: what it remembers of one request is there in others; set `instance.reuse` \
             only for a plugin that keeps nothing, or is meant to"
        );
    }
    spec.policy_failure = on_failure(table.on_failure.policy.as_deref()).with_context(attempt)?;
    spec.parse_failure = on_failure(table.on_failure.parse.as_deref()).with_context(attempt)?;
    spec.postprocess_failure = on_failure(table.on_failure.postprocess.as_deref()).with_context(attempt)?;
    Ok(spec)
}

/// Why a plugin was refused, with the lines of the configuration that are to blame.
pub(crate) fn with_lines(error: LoadError, table: &PluginTable) -> anyhow::Error {
    let LoadError::ConfigRefused { objections, .. } = &error else { return error.into() };
    let lines: BTreeSet<usize> = objections.paths().filter_map(|path| table.config_lines.of(path)).collect();
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    if lines.is_empty() {
        error.into()
    } else {
        anyhow::Error::from(error).context(format!("line {}", lines.join(", ")))
    }
}

fn modify(name: &str) -> anyhow::Result<Modify> {
    let known = Modify::ALL;
    known.into_iter().find(|part| part.as_str() == name).with_context(|| {
        let names: Vec<_> = known.iter().map(|part| part.as_str()).collect();
        format!("`grants.modify` names `{name}`, and {} can be granted", names.join(", "))
    })
}

fn stage(name: &str) -> anyhow::Result<Stage> {
    let known = [Stage::Policy, Stage::Prompt, Stage::TokenControl, Stage::Parse, Stage::Postprocess, Stage::Audit];
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
    time(said.step_ms, &mut limits.step_cpu_max);
    time(said.finish_ms, &mut limits.finish_cpu_max);
    time(said.request_ms, &mut limits.request_cpu_max);
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
