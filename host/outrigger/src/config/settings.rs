//! What was said, and what it means: checked values that nothing has to check again.

use std::ffi::OsStr;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use llama::{BackendOptions, Cpus, KvType};
use model::ModelReference;
use server::HeaderName;
use telemetry::logging::LogFormat;

use super::{ContextLength, PluginTable, Said, StoreSettings};

/// Where we listen unless told otherwise.
const LISTEN_DEFAULT: &str = "127.0.0.1:8484";
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
/// Plugins run for microseconds; more threads than this only wait for each other.
const PLUGIN_WORKERS_MAX: u32 = 64;
/// Seconds that anything waits: a week. Beyond that lie typing errors, and then times that a clock cannot hold.
const SECONDS_MAX: u64 = 604_800;
/// The defaults of the service, reasons there.
const QUEUE_MAX_DEFAULT: usize = server::limits::QUEUE_MAX_DEFAULT;
const QUEUE_WAIT_DEFAULT: Duration = server::limits::QUEUE_WAIT_MAX_DEFAULT;
const DRAIN_DEFAULT: Duration = server::limits::DRAIN_GRACE_DEFAULT;

/// The effective configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) model: ModelReference,
    pub(crate) model_id: String,
    pub(crate) initial_load: bool,
    pub(crate) store: StoreSettings,
    /// `None`: what the model was trained for, up to a default.
    pub(crate) context_length: Option<ContextLength>,
    pub(crate) kv_type: KvType,
    pub(crate) threads: Option<u32>,
    pub(crate) cpus: Option<Cpus>,
    pub(crate) backends: BackendOptions,
    pub(crate) gpu_layers: Option<u32>,
    pub(crate) main_gpu: Option<u32>,
    pub(crate) max_concurrency: NonZeroUsize,
    /// `None`: as much as is left, up to the default.
    pub(crate) prefix_cache_bytes: Option<u64>,
    pub(crate) draft_max: usize,
    pub(crate) warm_prompts: Vec<String>,
    pub(crate) queue_max: usize,
    pub(crate) queue_tokens_max: u64,
    pub(crate) queue_wait: Duration,
    pub(crate) requests_per_minute_max: Option<NonZeroU32>,
    pub(crate) request_timeout: Duration,
    pub(crate) connections_max: usize,
    pub(crate) caller_header: HeaderName,
    pub(crate) plugins: Vec<PluginTable>,
    pub(crate) plugin_workers: Option<NonZeroUsize>,
    pub(crate) plugin_watch: bool,
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) listen: SocketAddr,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) admin: bool,
    pub(crate) drain: Duration,
    pub(crate) log_format: LogFormat,
    pub(crate) log: String,
}

impl Settings {
    /// Checks what was said and fills in the defaults.
    pub(crate) fn from_said(said: Said) -> anyhow::Result<Self> {
        let Some(model) = &said.model else {
            bail!(
                "no model is named; pass --model org/model or --model file:/path/to/model.gguf, or set `model` in the configuration"
            )
        };
        let model = at_home(ModelReference::parse(model)?);
        let store = StoreSettings::from_said(&said)?;
        if matches!(model, ModelReference::Hub(_)) {
            store.hub()?;
        }
        let listen = listen_address(said.listen.as_deref(), said.listen_insecure.unwrap_or(false))?;
        Ok(Self {
            model_id: said.model_id.filter(|id| !id.is_empty()).unwrap_or_else(|| model.default_id()),
            model,
            initial_load: said.initial_load.unwrap_or(false),
            store,
            context_length: context_length(said.context_length)?,
            kv_type: said.kv_cache_type.unwrap_or_default(),
            backends: BackendOptions {
                directory: said.backends_dir.filter(|dir| !dir.as_os_str().is_empty()),
                device: said.device.unwrap_or_default(),
            },
            gpu_layers: said.gpu_layers,
            main_gpu: said.main_gpu,
            cpus: said.cpus.clone(),
            threads: at_least_one("threads", said.threads, THREADS_MAX)?.map(NonZeroU32::get),
            max_concurrency: at_least_one("max_concurrency", said.max_concurrency, MAX_CONCURRENCY_MAX)?
                .map_or(MAX_CONCURRENCY_DEFAULT, size),
            prefix_cache_bytes: said.prefix_cache_size.map(|size| size.as_u64()),
            draft_max: at_most("draft_max", said.draft_max, DRAFT_MAX_MAX)?.unwrap_or(DRAFT_MAX_DEFAULT),
            warm_prompts: warm_prompts(said.warm_prompts)?,
            queue_max: said.queue_max.map_or(QUEUE_MAX_DEFAULT, |count| count as usize),
            queue_tokens_max: said.queue_tokens_max.unwrap_or(server::limits::QUEUE_TOKENS_MAX_DEFAULT),
            queue_wait: seconds("queue_wait_seconds", said.queue_wait_seconds)?.unwrap_or(QUEUE_WAIT_DEFAULT),
            requests_per_minute_max: at_least_one(
                "requests_per_minute_limit",
                said.requests_per_minute_limit,
                u32::MAX,
            )?,
            request_timeout: request_timeout(said.request_timeout_seconds)?,
            connections_max: at_least_one(
                "connections_max",
                said.connections_max,
                server::limits::CONNECTIONS_MAX_MAX,
            )?
            .map_or(server::limits::CONNECTIONS_MAX_DEFAULT, |count| size(count).get()),
            caller_header: caller_header(said.caller_header.as_deref())?,
            plugins: choose_plugins(said.plugin_names, said.plugin_tables)?,
            plugin_workers: at_least_one("plugin_workers", said.plugin_workers, PLUGIN_WORKERS_MAX)?.map(size),
            plugin_watch: said.plugin_watch.unwrap_or(false),
            cache_dir: said.cache_dir.or_else(default_cache_dir),
            listen,
            allowed_hosts: said.allowed_hosts.unwrap_or_default(),
            admin: said.admin.unwrap_or(true),
            drain: seconds("drain_seconds", said.drain_seconds)?.unwrap_or(DRAIN_DEFAULT),
            log_format: said.log_format.unwrap_or(LogFormat::Auto),
            log: said.log.unwrap_or_else(|| "info".to_owned()),
        })
    }
}

/// `file:~/model.gguf`, which no shell expands.
fn at_home(model: ModelReference) -> ModelReference {
    match model {
        ModelReference::File(path) => {
            ModelReference::File(super::store::at_home(&path, &|name| std::env::var(name).ok()))
        }
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

fn at_least_one(key: &str, value: Option<u32>, most: u32) -> anyhow::Result<Option<NonZeroU32>> {
    let Some(value) = value else { return Ok(None) };
    if value > most {
        bail!("`{key}` is {value}; {most} is the most that is accepted");
    }
    let value = NonZeroU32::new(value).with_context(|| format!("`{key}` is 0; it must be at least 1"))?;
    Ok(Some(value))
}

fn at_most(key: &str, value: Option<u32>, most: u32) -> anyhow::Result<Option<usize>> {
    if let Some(value) = value.filter(|&value| value > most) {
        bail!("`{key}` is {value}; {most} is the most that is accepted");
    }
    Ok(value.map(|value| value as usize))
}

fn seconds(key: &str, value: Option<u64>) -> anyhow::Result<Option<Duration>> {
    if let Some(value) = value.filter(|&value| value > SECONDS_MAX) {
        bail!("`{key}` is {value}; {SECONDS_MAX}, which is a week, is the most that is accepted");
    }
    Ok(value.map(Duration::from_secs))
}

fn request_timeout(given: Option<u64>) -> anyhow::Result<Duration> {
    if given == Some(0) {
        bail!("`request_timeout_seconds` is 0; nothing is answered in no time, so it must be at least 1");
    }
    Ok(seconds("request_timeout_seconds", given)?.unwrap_or(server::limits::REQUEST_TIMEOUT_DEFAULT))
}

fn caller_header(given: Option<&str>) -> anyhow::Result<HeaderName> {
    let given = given.unwrap_or(server::limits::CALLER_HEADER_DEFAULT);
    given.parse().with_context(|| format!("`caller_header` is `{given}`, which is no name of an HTTP header"))
}

fn size(count: NonZeroU32) -> NonZeroUsize {
    NonZeroUsize::try_from(count).unwrap_or(NonZeroUsize::MAX)
}

fn listen_address(given: Option<&str>, insecure: bool) -> anyhow::Result<SocketAddr> {
    let given = given.unwrap_or(LISTEN_DEFAULT);
    let address = given
        .to_socket_addrs()
        .with_context(|| {
            format!("`listen` is `{given}`, which is no ADDRESS:PORT; write for example {LISTEN_DEFAULT}")
        })?
        .next()
        .with_context(|| format!("`listen` is `{given}`, which resolves to no address"))?;
    if !address.ip().is_loopback() && !insecure {
        bail!(
            "`listen` is {address}, which other machines reach, and there is neither a key nor TLS; listen on \
             {LISTEN_DEFAULT}, or pass --listen-insecure where the network itself keeps others out"
        );
    }
    Ok(address)
}

/// Names given as flags select tables of the file, bundled plugins or components; without any, the file's tables stand.
pub(crate) fn choose_plugins(names: Option<Vec<String>>, tables: Vec<PluginTable>) -> anyhow::Result<Vec<PluginTable>> {
    let chosen: Vec<PluginTable> = match names {
        None => tables,
        Some(names) => names
            .into_iter()
            .filter(|name| !name.is_empty())
            .map(|name| {
                tables.iter().find(|table| table.name == name).cloned().unwrap_or_else(|| {
                    if crate::bundle::component(&name).is_some() {
                        PluginTable::bare(name, None)
                    } else {
                        PluginTable::bare(plugin_name(&name), Some(name))
                    }
                })
            })
            .collect(),
    };
    for (index, table) in chosen.iter().enumerate() {
        if chosen[..index].iter().any(|other| other.name == table.name) {
            bail!("two plugins are called `{}`; give one of them another `name`", table.name);
        }
    }
    Ok(chosen)
}

/// `./plugins/my_filter.wasm` is called `my-filter`, and so is `.` in a folder of that name.
fn plugin_name(path: &str) -> String {
    let whole = Path::new(path).canonicalize().ok().filter(|_| Path::new(path).file_name().is_none());
    let file = whole.as_deref().unwrap_or(Path::new(path)).file_name().and_then(OsStr::to_str).unwrap_or(path);
    file.strip_suffix(".wasm").unwrap_or(file).replace('_', "-")
}

pub(crate) fn default_cache_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).map(|cache| cache.join("outrigger"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        Said { model: Some("file:/m/a.gguf".to_owned()), ..Said::default() }
    }

    #[test]
    fn a_folder_is_called_the_same_however_it_is_named() {
        let here = std::env::current_dir().expect("a folder");
        let name = here.file_name().and_then(OsStr::to_str).expect("a name").replace('_', "-");
        for path in [".", "./", "./src/..", &format!("{}/", here.display()), &format!("{}/.", here.display())] {
            assert_eq!(plugin_name(path), name, "{path}");
        }
        assert_eq!(["a/my_filter.wasm", "my_filter/"].map(plugin_name), ["my-filter"; 2]);
    }

    fn check_refused(said: Said, expected: &str) {
        let error = Settings::from_said(said).expect_err("settings that mean nothing");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn defaults_are_those_of_a_sidecar() {
        let settings = Settings::from_said(said()).expect("defaults");
        assert_eq!(settings.max_concurrency.get(), 1, "R20");
        assert!(settings.listen.ip().is_loopback());
        assert_eq!(settings.model_id, "a");
    }

    // R20
    #[test]
    fn no_concurrency_is_an_error() {
        check_refused(Said { max_concurrency: Some(0), ..said() }, "`max_concurrency` is 0; it must be at least 1");
    }

    #[test]
    fn a_time_that_no_clock_holds_is_refused() {
        let much = u64::MAX;
        let why = format!("is {much}; 604800, which is a week, is the most that is accepted");
        check_refused(Said { drain_seconds: Some(much), ..said() }, &format!("`drain_seconds` {why}"));
        check_refused(Said { queue_wait_seconds: Some(much), ..said() }, &format!("`queue_wait_seconds` {why}"));
        check_refused(
            Said { request_timeout_seconds: Some(much), ..said() },
            &format!("`request_timeout_seconds` {why}"),
        );
    }

    #[test]
    fn what_would_refuse_everything_is_refused() {
        check_refused(
            Said { request_timeout_seconds: Some(0), ..said() },
            "`request_timeout_seconds` is 0; nothing is answered in no time, so it must be at least 1",
        );
        check_refused(
            Said { requests_per_minute_limit: Some(0), ..said() },
            "`requests_per_minute_limit` is 0; it must be at least 1",
        );
        check_refused(Said { connections_max: Some(0), ..said() }, "`connections_max` is 0; it must be at least 1");
        check_refused(Said { connections_max: Some(65_537), ..said() }, "65536 is the most that is accepted");
        check_refused(
            Said { caller_header: Some("x y".to_owned()), ..said() },
            "`caller_header` is `x y`, which is no name of an HTTP header",
        );
    }

    #[test]
    fn other_machines_are_let_in_only_on_purpose() {
        let open = Said { listen: Some("0.0.0.0:80".to_owned()), ..said() };
        assert!(Settings::from_said(Said { listen_insecure: Some(true), ..open.clone() }).is_ok());
        check_refused(
            open,
            "`listen` is 0.0.0.0:80, which other machines reach, and there is neither a key nor TLS; listen on \
             127.0.0.1:8484, or pass --listen-insecure where the network itself keeps others out",
        );
    }

    #[test]
    fn a_missing_model_is_asked_for() {
        check_refused(
            Said::default(),
            "no model is named; pass --model org/model or --model file:/path/to/model.gguf, or set `model` in the \
             configuration",
        );
    }

    #[test]
    fn names_select_tables_bundled_plugins_and_components() {
        let table = PluginTable { config: toml::toml! { a = 1 }, ..PluginTable::bare("redact".to_owned(), None) };
        let names = Some(vec!["redact".to_owned(), "./x/my_filter.wasm".to_owned(), "chat-template".to_owned()]);
        let chosen = choose_plugins(names, vec![table]).expect("three plugins");
        let shown: Vec<_> = chosen.iter().map(|table| (table.name.as_str(), table.from.as_deref())).collect();
        assert_eq!(shown, [("redact", None), ("my-filter", Some("./x/my_filter.wasm")), ("chat-template", None)],);
        assert!(!chosen[0].config.is_empty(), "the file's table for `redact`");
    }
}
