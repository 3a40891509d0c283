//! What was said of models, and what it means.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use anyhow::{Context as _, bail};
use llama::{BackendOptions, Cpus, KvType};
use model::ModelReference;

use super::checks::{at_least_one, at_most, seconds, size};
use super::{ContextLength, Load, ModelTable, ModelsSaid, Said};

/// R20: a local model answers one request at a time unless the operator says that the machine bears more.
const MAX_CONCURRENCY_DEFAULT: NonZeroUsize = NonZeroUsize::MIN;
/// llama.cpp's own limit on sequences in a batch (`LLAMA_MAX_SEQ`).
const MAX_CONCURRENCY_MAX: u32 = 256;
/// More threads than any machine has cores.
const THREADS_MAX: u32 = 1024;
/// Each is a row of the batch and a row of logits, and a chunk of prompt has as many rows.
const DRAFT_MAX_MAX: u32 = 128;
/// The engine's own, reason there.
const DRAFT_MAX_DEFAULT: usize = engine::limits::GUESSES_MAX_DEFAULT;
/// A host serves an application or two, each with a system prompt for each of its tasks.
const WARM_PROMPTS_MAX: usize = 16;
/// Each has threads of its own and a line of its own; a machine's memory holds a few.
const MODELS_MAX: usize = 32;
/// The defaults of the service, reasons there.
const QUEUE_MAX_DEFAULT: usize = server::limits::QUEUE_MAX_DEFAULT;
const QUEUE_WAIT_DEFAULT: Duration = server::limits::QUEUE_WAIT_MAX_DEFAULT;

/// A model, as it is to be served.
#[derive(Debug, Clone)]
pub(crate) struct ModelSettings {
    pub(crate) reference: ModelReference,
    pub(crate) id: String,
    /// `None`: at the start where it is there, and when the first request asks for it where it must be downloaded.
    pub(crate) load: Option<Load>,
    pub(crate) idle_unload: Option<Duration>,
    /// `None`: what the model was trained for, up to a default.
    pub(crate) context_length: Option<ContextLength>,
    pub(crate) kv_type: KvType,
    pub(crate) threads: Option<u32>,
    pub(crate) cpus: Option<Cpus>,
    /// All models': llama.cpp has one set in a process.
    pub(crate) backends: BackendOptions,
    pub(crate) gpu_layers: Option<u32>,
    pub(crate) main_gpu: Option<u32>,
    pub(crate) max_concurrency: NonZeroUsize,
    /// `None`: as much as is left, up to the default.
    pub(crate) prefix_cache_bytes: Option<u64>,
    pub(crate) draft_max: usize,
    pub(crate) warm_prompts: Vec<String>,
    /// Whether they were said of this very model, and not of whichever there are.
    pub(crate) has_own_warm_prompts: bool,
    pub(crate) queue_max: usize,
    pub(crate) queue_tokens_max: u64,
    pub(crate) queue_wait: Duration,
    pub(crate) requests_per_minute_max: Option<NonZeroU32>,
    pub(crate) request_timeout: Duration,
}

/// The models that are to be served: at least one, each with a name of its own.
pub(super) fn models(said: &Said) -> anyhow::Result<Vec<ModelSettings>> {
    let tables = match (&said.model, &said.models) {
        (Some(name), ModelsSaid::Several(tables)) => {
            let names = |table: &&ModelTable| id_of(table).is_ok_and(|id| id == *name);
            tables.iter().find(names).map(std::slice::from_ref).unwrap_or_default()
        }
        (None, ModelsSaid::Several(tables)) => tables.as_slice(),
        _ => &[],
    };
    if tables.is_empty() {
        return Ok(vec![only(said)?]);
    }
    if said.model_id.is_some() {
        bail!("`model_id` names one model, and there are `[[model]]` tables; give each table an `id`");
    }
    if tables.len() > MODELS_MAX {
        bail!("there are {} `[[model]]` tables; {MODELS_MAX} is the most that is accepted", tables.len());
    }
    let mut models: Vec<ModelSettings> = Vec::new();
    for table in tables {
        let model = of_table(said, table).map_err(|error| located(&error, table))?;
        if models.iter().any(|other| other.id == model.id) {
            let error = anyhow::anyhow!("two models are called `{}`; give one of them another `id`", model.id);
            return Err(located(&error, table));
        }
        models.push(model);
    }
    Ok(models)
}

/// The only model there is, said without a table.
fn only(said: &Said) -> anyhow::Result<ModelSettings> {
    let reference = match (&said.model, &said.models) {
        (Some(reference), _) | (None, ModelsSaid::One(reference)) => reference.clone(),
        (None, _) => bail!(
            "no model is named; pass --model org/model or --model file:/path/to/model.gguf, or set `model` in the configuration"
        ),
    };
    let (id, warm_prompts) = (said.model_id.clone(), Some(said.warm_prompts.clone()));
    of(said, ModelTable { id, from: Some(reference), warm_prompts, ..ModelTable::of(said) })
}

fn of_table(said: &Said, table: &ModelTable) -> anyhow::Result<ModelSettings> {
    of(said, table.clone().or(ModelTable::of(said)))
}

/// What `table` means, with all that was said for every model in it.
fn of(said: &Said, table: ModelTable) -> anyhow::Result<ModelSettings> {
    let has_own_warm_prompts = table.warm_prompts.is_some();
    let load = match (table.load, said.initial_load) {
        (Some(Load::FirstUse), Some(true)) if said.load.is_some() => {
            bail!("`initial_load` is true and `load` is first-use; leave `initial_load` out")
        }
        (None, Some(true)) => Some(Load::Start),
        (load, _) => load,
    };
    if table.idle_unload_seconds == Some(0) {
        bail!("`idle_unload_seconds` is 0; it must be at least 1, or left out to keep the model");
    }
    Ok(ModelSettings {
        id: id_of(&table)?,
        reference: reference_of(&table)?,
        load,
        idle_unload: seconds("idle_unload_seconds", table.idle_unload_seconds)?,
        context_length: context_length(table.context_length)?,
        kv_type: table.kv_cache_type.unwrap_or_default(),
        backends: BackendOptions {
            directory: said.backends_dir.clone().filter(|dir| !dir.as_os_str().is_empty()),
            device: said.device.unwrap_or_default(),
        },
        gpu_layers: table.gpu_layers,
        main_gpu: table.main_gpu,
        cpus: table.cpus,
        threads: at_least_one("threads", table.threads, THREADS_MAX)?.map(NonZeroU32::get),
        max_concurrency: at_least_one("max_concurrency", table.max_concurrency, MAX_CONCURRENCY_MAX)?
            .map_or(MAX_CONCURRENCY_DEFAULT, size),
        prefix_cache_bytes: table.prefix_cache_size.map(|size| size.as_u64()),
        draft_max: at_most("draft_max", table.draft_max, DRAFT_MAX_MAX)?.unwrap_or(DRAFT_MAX_DEFAULT),
        warm_prompts: warm_prompts(table.warm_prompts.unwrap_or_else(|| said.warm_prompts.clone()))?,
        has_own_warm_prompts,
        queue_max: table.queue_max.map_or(QUEUE_MAX_DEFAULT, |count| count as usize),
        queue_tokens_max: table.queue_tokens_max.unwrap_or(server::limits::QUEUE_TOKENS_MAX_DEFAULT),
        queue_wait: seconds("queue_wait_seconds", table.queue_wait_seconds)?.unwrap_or(QUEUE_WAIT_DEFAULT),
        requests_per_minute_max: at_least_one("requests_per_minute_limit", table.requests_per_minute_limit, u32::MAX)?,
        request_timeout: request_timeout(table.request_timeout_seconds)?,
    })
}

fn reference_of(table: &ModelTable) -> anyhow::Result<ModelReference> {
    let from = table.from.as_deref().context(
        "a `[[model]]` table has no `from`, which says what model it is: org/model or file:/path/to/model.gguf",
    )?;
    Ok(at_home(ModelReference::parse(from)?))
}

fn id_of(table: &ModelTable) -> anyhow::Result<String> {
    match table.id.as_ref().filter(|id| !id.is_empty()) {
        Some(id) => Ok(id.clone()),
        None => Ok(reference_of(table)?.default_id()),
    }
}

/// The error with the line of the key that it is about, which it names first in backquotes, or of the table.
fn located(error: &anyhow::Error, table: &ModelTable) -> anyhow::Error {
    let message = format!("{error:#}");
    let key: Vec<String> = message.split('`').nth(1).into_iter().map(str::to_owned).collect();
    match table.lines.of(&key) {
        Some(line) => anyhow::anyhow!("line {line}: {message}"),
        None => anyhow::anyhow!("{message}"),
    }
}

/// `file:~/model.gguf`, which no shell expands.
fn at_home(model: ModelReference) -> ModelReference {
    match model {
        ModelReference::File(path) => ModelReference::File(super::at_home(&path)),
        hub @ ModelReference::Hub(_) => hub,
    }
}

fn context_length(said: Option<ContextLength>) -> anyhow::Result<Option<ContextLength>> {
    match said {
        Some(ContextLength::Tokens(tokens)) => {
            let tokens = at_least_one("context_length", Some(tokens), u32::MAX)?;
            Ok(tokens.map(|tokens| ContextLength::Tokens(tokens.get())))
        }
        said => Ok(said),
    }
}

/// Each costs a prompt's time at every start.
fn warm_prompts(prompts: Vec<String>) -> anyhow::Result<Vec<String>> {
    if prompts.len() > WARM_PROMPTS_MAX {
        bail!("`warm_prompts` has {} prompts; {WARM_PROMPTS_MAX} is the most that is accepted", prompts.len());
    }
    if let Some(place) = prompts.iter().position(|prompt| prompt.trim().is_empty()) {
        bail!("prompt {} of `warm_prompts` is empty", place + 1);
    }
    Ok(prompts)
}

fn request_timeout(given: Option<u64>) -> anyhow::Result<Duration> {
    if given == Some(0) {
        bail!("`request_timeout_seconds` is 0; nothing is answered in no time, so it must be at least 1");
    }
    Ok(seconds("request_timeout_seconds", given)?.unwrap_or(server::limits::REQUEST_TIMEOUT_DEFAULT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "max_concurrency = 3\nwarm_prompts = ['You are.']\n[[model]]\nid = 'chat'\nfrom = 'file:/m/a.gguf'\n\
                       [[model]]\nfrom = 'file:/m/b.gguf'\nmax_concurrency = 4\nload = 'first-use'\nidle_unload_seconds = 9\n";

    fn check(text: &str, flags: Said, expected: Result<&[&str], &str>) -> Vec<ModelSettings> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("outrigger.toml");
        std::fs::write(&path, text).expect("a written file");
        let said = flags.or_file(Some(&path)).expect("a file of keys that there are");
        let models = models(&said).map_err(|error| format!("{error:#}"));
        let ids = models.as_ref().map(|models| models.iter().map(|model| model.id.as_str()).collect::<Vec<_>>());
        assert_eq!(ids, expected.map(<[_]>::to_vec).map_err(str::to_owned).as_ref().cloned(), "{text}");
        models.unwrap_or_default()
    }

    #[test]
    fn each_table_is_a_model_and_what_stands_above_is_for_all() {
        let models = check(TWO, Said::default(), Ok(&["chat", "b"]));
        assert_eq!(models.iter().map(|it| it.max_concurrency.get()).collect::<Vec<_>>(), [3, 4]);
        assert_eq!((models[0].load, models[1].load), (None, Some(Load::FirstUse)));
        assert_eq!((models[0].idle_unload, models[1].idle_unload), (None, Some(Duration::from_secs(9))));
        assert_eq!((models[1].warm_prompts.len(), models[1].has_own_warm_prompts), (1, false));
        let loaded = check(&format!("initial_load = true\n{TWO}"), Said::default(), Ok(&["chat", "b"]));
        assert_eq!((loaded[0].load, loaded[1].load), (Some(Load::Start), Some(Load::FirstUse)));
    }

    #[test]
    fn a_flag_selects_a_table_or_stands_for_itself() {
        let named = |name: &str| Said { model: Some(name.to_owned()), ..Said::default() };
        let chosen = check(TWO, named("b"), Ok(&["b"]));
        assert_eq!(chosen[0].idle_unload, Some(Duration::from_secs(9)));
        let other = check(TWO, named("file:/m/c.gguf"), Ok(&["c"]));
        assert_eq!((other[0].max_concurrency.get(), other[0].idle_unload), (3, None));
        check("model = 'file:/m/d.gguf'", Said::default(), Ok(&["d"]));
    }

    #[test]
    fn what_is_wrong_with_a_table_is_told_with_its_line() {
        let refused = |text: &str, expected: &str| {
            check(text, Said::default(), Err(expected));
        };
        refused(
            "[[model]]\nfrom = 'file:/a.gguf'\n\n[[model]]\nid = 'b'\n",
            "line 4: a `[[model]]` table has no `from`, which says what model it is: org/model or file:/path/to/model.gguf",
        );
        refused(
            "[[model]]\nfrom = 'file:/a.gguf'\n[[model]]\nfrom = 'file:/b/a.gguf'",
            "line 3: two models are called `a`; give one of them another `id`",
        );
        refused(
            "[[model]]\nfrom = 'file:/a.gguf'\nmax_concurrency = 0",
            "line 3: `max_concurrency` is 0; it must be at least 1",
        );
        refused(
            "[[model]]\nfrom = 'file:/a.gguf'\nidle_unload_seconds = 0",
            "line 3: `idle_unload_seconds` is 0; it must be at least 1, or left out to keep the model",
        );
        refused(
            "model_id = 'x'\n[[model]]\nfrom = 'file:/a.gguf'",
            "`model_id` names one model, and there are `[[model]]` tables; give each table an `id`",
        );
        refused(
            "model = 'file:/a.gguf'\ninitial_load = true\nload = 'first-use'",
            "`initial_load` is true and `load` is first-use; leave `initial_load` out",
        );
    }
}
