//! What was said, and what it means: checked values that nothing has to check again.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use model::ModelReference;
use server::HeaderName;
use telemetry::logging::LogFormat;

use super::checks::{at_least_one, seconds, size};
use super::model_settings::models;
use super::{ListenSettings, ModelSettings, PluginTable, Said, StoreSettings};

/// Plugins run for microseconds; more threads than this only wait for each other.
const PLUGIN_WORKERS_MAX: u32 = 64;
/// The service's own, reason there.
const DRAIN_DEFAULT: Duration = server::limits::DRAIN_GRACE_DEFAULT;

/// The effective configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    /// At least one.
    pub(crate) models: Vec<ModelSettings>,
    pub(crate) store: StoreSettings,
    pub(crate) connections_max: usize,
    pub(crate) caller_header: HeaderName,
    pub(crate) plugins: Vec<PluginTable>,
    pub(crate) plugin_workers: Option<NonZeroUsize>,
    pub(crate) plugin_watch: bool,
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) listen: ListenSettings,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) admin: bool,
    pub(crate) drain: Duration,
    pub(crate) log_format: LogFormat,
    pub(crate) log: String,
}

impl Settings {
    /// The only model, for commands that take one.
    pub(crate) fn only_model(&self) -> anyhow::Result<&ModelSettings> {
        match self.models.as_slice() {
            [only] => Ok(only),
            several => {
                let names: Vec<&str> = several.iter().map(|model| model.id.as_str()).collect();
                bail!("the configuration has several models; choose one with --model: `{}`", names.join("`, `"))
            }
        }
    }

    /// Checks what was said and fills in the defaults.
    pub(crate) fn from_said(said: Said) -> anyhow::Result<Self> {
        let models = models(&said)?;
        let store = StoreSettings::from_said(&said)?;
        if models.iter().any(|model| matches!(model.reference, ModelReference::Hub(_))) {
            store.hub()?;
        }
        let listen = ListenSettings::from_said(&said)?;
        Ok(Self {
            models,
            store,
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

/// A path that begins with `~/`, which no shell expanded.
pub(super) fn at_home(path: &Path) -> PathBuf {
    super::store::at_home(path, &|name| std::env::var(name).ok())
}

fn caller_header(given: Option<&str>) -> anyhow::Result<HeaderName> {
    let given = given.unwrap_or(server::limits::CALLER_HEADER_DEFAULT);
    given.parse().with_context(|| format!("`caller_header` is `{given}`, which is no name of an HTTP header"))
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
        assert_eq!(settings.models[0].max_concurrency.get(), 1, "R20");
        assert!(settings.listen.addresses().all(|address| address.ip().is_loopback()));
        assert_eq!(settings.models[0].id, "a");
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
        check_refused(
            Said { connections_max: Some(65_537), ..said() },
            "`connections_max` is 65537; 65536 is the most that is accepted",
        );
        check_refused(
            Said { caller_header: Some("x y".to_owned()), ..said() },
            "`caller_header` is `x y`, which is no name of an HTTP header",
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
