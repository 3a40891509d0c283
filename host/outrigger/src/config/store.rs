//! What the model store is told: where models lie, which hub to ask, and with whose token.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use hub::{Endpoint, HubConfig, TokenSource, Tokens};
use telemetry::logging::LogFormat;

use super::secret::Secret;
use super::{Said, SecretText};

/// The effective configuration of the model store.
#[derive(Debug, Clone)]
pub(crate) struct StoreSettings {
    models_dir: Option<PathBuf>,
    /// What Hugging Face's tools have downloaded: copied from there instead of fetched again.
    pub(crate) hf_cache: Option<PathBuf>,
    /// The hub, and how it is asked; or what is wrong with what the environment says of it, which may be meant for other
    /// programs and is nothing to those of our commands that do not ask the hub.
    hub: Result<HubConfig, String>,
    /// The log's form and filter.
    pub(crate) log_format: LogFormat,
    pub(crate) log: String,
    /// R3: a token that stands in a configuration file is read by whoever reads the file.
    is_token_literal: bool,
    /// A variable that should say whether the network may be used, and says neither.
    unclear: Option<&'static str>,
}

/// What Hugging Face's tools take for `offline`.
const OFFLINE_VARIABLES: [&str; 2] = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];

/// R4: in this order.
const TOKEN_VARIABLES: [&str; 3] = ["HF_TOKEN", "HF_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN"];

impl StoreSettings {
    /// Checks what was said and completes it from the environment that Hugging Face's own tools read.
    pub(crate) fn from_said(said: &Said) -> anyhow::Result<Self> {
        Self::with_environment(said, &|name| {
            std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
        })
    }

    fn with_environment(said: &Said, variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let own_endpoint = said.hf_endpoint.as_ref().filter(|given| !given.is_empty());
        let own_endpoint = own_endpoint.map(|given| Endpoint::parse(given).context("`hf_endpoint`")).transpose()?;
        let own_tokens = own_tokens(said, variable)?;
        let is_token_literal = matches!(own_tokens, Some((_, true)));
        let hub = || {
            anyhow::Ok(HubConfig {
                endpoint: own_endpoint.map_or_else(|| endpoint(variable), Ok)?,
                offline: offline(said, variable),
                tokens: own_tokens.map_or_else(|| tokens(variable), |(tokens, _)| Ok(tokens))?,
                ca_files: said.ca_files.iter().flatten().map(|path| at_home(path, variable)).collect(),
                ..HubConfig::default()
            })
        };
        let quiet = if std::io::stderr().is_terminal() { "warn" } else { "info" };
        Ok(Self {
            models_dir: said
                .models_dir
                .as_ref()
                .map(|path| at_home(path, variable))
                .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".outrigger").join("models"))),
            hf_cache: hf_cache(variable),
            hub: hub().map_err(|error| format!("{error:#}")),
            log_format: said.log_format.unwrap_or(LogFormat::Auto),
            log: said.log.clone().unwrap_or_else(|| quiet.to_owned()),
            is_token_literal,
            unclear: OFFLINE_VARIABLES.into_iter().find(|name| said.offline.is_none() && is_unclear(variable(name))),
        })
    }

    /// The folder of downloaded models.
    pub(crate) fn models_dir(&self) -> anyhow::Result<PathBuf> {
        self.models_dir.clone().context("there is no home directory for models; name a folder with --models-dir")
    }

    /// The hub, and how it is asked, for whoever is about to ask it.
    pub(crate) fn hub(&self) -> anyhow::Result<HubConfig> {
        self.hub.clone().map_err(anyhow::Error::msg)
    }

    /// R3: whether the token itself stands in the configuration.
    pub(crate) fn is_token_literal(&self) -> bool {
        self.is_token_literal
    }

    /// Says in the log what an operator should know, once there is one.
    pub(crate) fn log_warnings(&self) {
        if self.is_token_literal {
            tracing::warn!(
                "the configuration file holds the token itself; write hf_token = \"${{file:/run/secrets/hf_token}}\" or \
                 \"${{env:HF_TOKEN}}\" instead"
            );
        }
        if let Some(name) = self.unclear {
            tracing::warn!("{name} is neither 1 nor 0 and counts as 0: the network may be used");
        }
        // R5: the source, never the value.
        let Ok(hub) = &self.hub else { return };
        match hub.tokens.read() {
            Ok(Some((_, source))) => tracing::debug!(%source, "a token for the hub was found"),
            Ok(None) => tracing::debug!("no token for the hub; models that need one are refused"),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

/// Where `hf` keeps what it downloads for everybody.
fn hf_cache(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let path = |name| variable(name).map(|path| at_home(Path::new(&path), variable));
    path("HF_HUB_CACHE")
        .or_else(|| Some(path("HF_HOME")?.join("hub")))
        .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface").join("hub")))
        .or_else(|| Some(path("HOME")?.join(".cache").join("huggingface").join("hub")))
}

/// The hub that Hugging Face's tools ask.
fn endpoint(variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Endpoint> {
    variable("HF_ENDPOINT")
        .map_or_else(|| Ok(Endpoint::default()), |given| Endpoint::parse(&given).context("HF_ENDPOINT"))
}

/// Why no network may be used, if so.
fn offline(said: &Said, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    match said.offline {
        Some(true) => Some("`offline` is set".to_owned()),
        Some(false) => None,
        // The words that Hugging Face's tools take for yes.
        None => OFFLINE_VARIABLES.into_iter().find(|name| is_set(variable(name))).map(|name| format!("{name} is set")),
    }
}

/// Neither one of the words for yes nor one for no.
fn is_unclear(value: Option<String>) -> bool {
    let is_no = |value: &str| ["0", "OFF", "NO", "FALSE"].contains(&value.to_ascii_uppercase().as_str());
    value.is_some_and(|value| !is_no(&value) && !is_set(Some(value)))
}

/// A path that begins with `~/`, as a shell would have read it: none has where it stands in a file, in a manifest, or in
/// `--models-dir=~/models`. A folder that is called `~` would be the worst of guesses.
pub(super) fn at_home(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let home = path.strip_prefix("~").ok().zip(variable("HOME"));
    home.map_or_else(|| path.to_owned(), |(rest, home)| Path::new(&home).join(rest))
}

fn is_set(value: Option<String>) -> bool {
    value.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str()))
}

/// R1 to R5: the configuration's token and whether it stands there itself, unless those that the environment and the
/// Hugging Face CLI have are to be taken.
fn own_tokens(said: &Said, variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Option<(Tokens, bool)>> {
    if let Some((key, text)) = configured(said)? {
        let secret = text.parse(key)?;
        let is_literal = matches!(secret, Secret::Literal(_));
        let tokens = match secret {
            Secret::Literal(value) if value.is_empty() => {
                bail!(
                    "`{key}` is empty; leave it out, or write \"${{file:/run/secrets/hf_token}}\" or \"${{env:NAME}}\""
                )
            }
            Secret::Literal(value) => {
                Tokens::none().value(&value, TokenSource::Config(format!("`{key}` of the configuration")))?
            }
            Secret::File(path) => Tokens::none().required_file(at_home(&path, variable)),
            Secret::Environment(name) => {
                let value = variable(&name).unwrap_or_default();
                if value.trim().is_empty() {
                    bail!("`{key}` names the environment variable {name}, which is not set");
                }
                Tokens::none().value(&value, TokenSource::Config(format!("{name}, named by `{key}`")))?
            }
        };
        return Ok(Some((tokens, is_literal)));
    }
    if said.require_explicit_token == Some(true) {
        if let Some(found) = TOKEN_VARIABLES.into_iter().chain(["HF_TOKEN_PATH"]).find(|name| variable(name).is_some())
        {
            bail!(
                "{found} is set, and `require_explicit_token` wants the token in the configuration; write hf_token = \
                 \"${{env:HF_TOKEN}}\" or \"${{file:/run/secrets/hf_token}}\""
            );
        }
        return Ok(Some((Tokens::none(), false)));
    }
    Ok(None)
}

/// R4: the tokens that the environment and the Hugging Face CLI have.
fn tokens(variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Tokens> {
    let mut tokens = Tokens::none();
    if is_set(variable("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
        return Ok(tokens);
    }
    for name in TOKEN_VARIABLES {
        if let Some(value) = variable(name) {
            tokens = tokens.value(&value, TokenSource::Environment(name))?;
        }
    }
    // Where `hf auth login` leaves it.
    let path = |name| variable(name).map(|path| at_home(Path::new(&path), variable));
    let homes = [
        path("HF_TOKEN_PATH"),
        path("HF_HOME").map(|home| home.join("token")),
        path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/token")),
        path("HOME").map(|home| home.join(".cache/huggingface/token")),
    ];
    Ok(homes.into_iter().flatten().fold(tokens, Tokens::file))
}

/// R2: three names for one key. The same token under two of them is no contradiction.
fn configured(said: &Said) -> anyhow::Result<Option<(&'static str, &SecretText)>> {
    let keys = [("hf_token", &said.hf_token), ("token", &said.token), ("huggingface_token", &said.huggingface_token)];
    let mut said = keys.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?)));
    let Some((key, text)) = said.next() else { return Ok(None) };
    if let Some((other, _)) = said.find(|(_, other)| *other != text) {
        bail!("`{key}` and `{other}` are two names of one key and say different things; keep one");
    }
    Ok(Some((key, text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(said: &Said, environment: &[(&str, &str)]) -> anyhow::Result<StoreSettings> {
        let find = |name: &str| Some(environment.iter().find(|(known, _)| *known == name)?.1.to_owned());
        StoreSettings::with_environment(said, &find)
    }

    fn source(said: &Said, environment: &[(&str, &str)]) -> Option<String> {
        let settings = resolve(said, environment).expect("settings");
        settings.hub().expect("a hub").tokens.read().expect("a readable token").map(|(_, source)| source.to_string())
    }

    // R4
    #[test]
    fn the_first_token_in_the_documented_order_wins() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(&path, "hf_from_file\n").expect("a written token");
            path.to_string_lossy().into_owned()
        };
        let (named, home, cache) = (file("named"), file("hf/token"), file("user/.cache/huggingface/token"));
        let (hf_home, user) = (folder.path().join("hf"), folder.path().join("user"));
        let (hf_home, user) = (hf_home.to_string_lossy(), user.to_string_lossy());
        let mut environment = vec![
            ("HF_TOKEN", "hf_1"),
            ("HF_HUB_TOKEN", "hf_2"),
            ("HUGGING_FACE_HUB_TOKEN", "hf_3"),
            ("HF_TOKEN_PATH", &*named),
            ("HF_HOME", &*hf_home),
            ("HOME", &*user),
        ];
        let said = Said { hf_token: Some("hf_0".into()), ..Said::default() };
        assert_eq!(source(&said, &environment).as_deref(), Some("`hf_token` of the configuration"));
        let expected = [
            "HF_TOKEN".to_owned(),
            "HF_HUB_TOKEN".to_owned(),
            "HUGGING_FACE_HUB_TOKEN".to_owned(),
            format!("the file {named}"),
            format!("the file {home}"),
            format!("the file {cache}"),
        ];
        for wanted in expected {
            assert_eq!(source(&Said::default(), &environment), Some(wanted));
            environment.remove(0);
        }
        assert_eq!(source(&Said::default(), &environment), None);
    }

    // R2
    #[test]
    fn aliases_may_agree_and_not_differ() {
        let said = Said { token: Some("hf_a".into()), huggingface_token: Some("hf_a".into()), ..Said::default() };
        assert_eq!(source(&said, &[]).as_deref(), Some("`token` of the configuration"));
        let said = Said { hf_token: Some("hf_b".into()), ..said };
        let error = resolve(&said, &[]).expect_err("a contradiction").to_string();
        assert_eq!(error, "`hf_token` and `token` are two names of one key and say different things; keep one");
    }

    // R5
    #[test]
    fn where_the_token_must_be_explicit_none_is_discovered() {
        let said = Said { require_explicit_token: Some(true), ..Said::default() };
        let error = resolve(&said, &[("HF_TOKEN", "hf_secret")]).expect_err("discovered").to_string();
        assert!(error.starts_with("HF_TOKEN is set, and `require_explicit_token` wants"), "{error}");
        assert!(!error.contains("hf_secret"), "{error}");
        assert_eq!(source(&said, &[("HOME", "/nonexistent")]), None);
        let said = Said { hf_token: Some("hf_a".into()), ..said };
        assert!(source(&said, &[("HF_TOKEN", "hf_secret")]).is_some());
    }

    // R3
    #[test]
    fn a_token_in_the_file_is_warned_about_and_never_shown() {
        let said = Said { hf_token: Some("hf_secret".into()), ..Said::default() };
        let settings = resolve(&said, &[]).expect("settings");
        assert!(settings.is_token_literal);
        assert!(!format!("{settings:?}").contains("hf_secret"));
        let said = Said { hf_token: Some("${file:/nonexistent}".into()), ..Said::default() };
        assert!(!resolve(&said, &[]).expect("read when it is used").is_token_literal);
        let said = Said { hf_token: Some("${env:OUTRIGGER_NO_SUCH}".into()), ..Said::default() };
        let error = resolve(&said, &[]).expect_err("unset").to_string();
        assert_eq!(error, "`hf_token` names the environment variable OUTRIGGER_NO_SUCH, which is not set");
    }

    #[test]
    fn a_token_that_is_empty_is_not_taken_for_none() {
        for empty in ["", " "] {
            let said = Said { hf_token: Some(empty.into()), ..Said::default() };
            let error = resolve(&said, &[("HF_TOKEN", "hf_a")]).expect_err("nothing").to_string();
            assert!(error.starts_with("`hf_token` is empty; leave it out"), "{error}");
        }
    }

    #[test]
    fn the_home_directory_may_be_written_as_in_a_shell() {
        let home = [("HOME", "/home/me"), ("HF_HOME", "~/hf"), ("HF_TOKEN_PATH", "~/token")];
        let models_dir = |given: &str| {
            let said = Said { models_dir: Some(given.into()), ..Said::default() };
            resolve(&said, &home).expect("settings").models_dir().expect("a folder")
        };
        assert_eq!(models_dir("~/.spice/models"), Path::new("/home/me/.spice/models"));
        assert_eq!(models_dir("~"), Path::new("/home/me"));
        assert_eq!(models_dir("/a/~/b"), Path::new("/a/~/b"));
        assert_eq!(models_dir("~other/b"), Path::new("~other/b"));
        assert_eq!(resolve(&Said::default(), &home).expect("settings").hf_cache, Some("/home/me/hf/hub".into()));
        let said = Said { models_dir: Some("~/m".into()), ..Said::default() };
        assert_eq!(resolve(&said, &[]).expect("settings").models_dir().expect("a folder"), Path::new("~/m"));
    }

    #[test]
    fn a_variable_that_says_neither_yes_nor_no_is_told_of() {
        let unclear = |said: &Said, value| resolve(said, &[("HF_HUB_OFFLINE", value)]).expect("settings").unclear;
        for (value, expected) in
            [("maybe", true), ("2", true), ("1", false), ("on", false), ("0", false), ("False", false)]
        {
            assert_eq!(unclear(&Said::default(), value).is_some(), expected, "{value}");
        }
        assert_eq!(unclear(&Said { offline: Some(true), ..Said::default() }, "maybe"), None);
    }

    /// What the environment says of the hub counts where the hub is asked; what we were told ourselves, at once.
    #[test]
    fn what_is_wrong_is_said_to_whom_it_concerns() {
        for (variable, value, expected) in [
            ("HF_ENDPOINT", "hub.example", "HF_ENDPOINT: cannot use the hub's address: it is not a URL"),
            ("HF_TOKEN", "hf_a b", "cannot use the token from HF_TOKEN: it holds a space"),
        ] {
            let settings = resolve(&Said::default(), &[(variable, value)]).expect("settings");
            let error = settings.hub().expect_err("unusable").to_string();
            assert!(error.starts_with(expected), "{error}");
            let said = Said {
                hf_endpoint: Some("https://own.example".to_owned()),
                hf_token: Some("hf_own".into()),
                ..Said::default()
            };
            resolve(&said, &[(variable, value)]).expect("settings").hub().expect("it is not asked for");
        }
        let said = Said { hf_endpoint: Some("hub.example".to_owned()), ..Said::default() };
        let error = format!("{:#}", resolve(&said, &[]).expect_err("unusable"));
        assert!(error.starts_with("`hf_endpoint`: cannot use the hub's address: it is not a URL"), "{error}");
        let said = Said { hf_token: Some("hf_a b".into()), ..Said::default() };
        resolve(&said, &[]).expect_err("unusable");
    }

    // X2
    #[test]
    fn the_environment_of_hugging_faces_tools_counts_where_nothing_was_said() {
        let at = |said: &Said, environment: &[(&str, &str)]| {
            resolve(said, environment).expect("settings").hub().expect("a hub").endpoint.to_string()
        };
        assert_eq!(at(&Said::default(), &[]), "https://huggingface.co");
        assert_eq!(at(&Said::default(), &[("HF_ENDPOINT", "https://hub.example")]), "https://hub.example");
        let said = Said { hf_endpoint: Some("https://own.example".to_owned()), ..Said::default() };
        assert_eq!(at(&said, &[("HF_ENDPOINT", "https://hub.example")]), "https://own.example");

        let offline = |said: &Said, environment: &[(&str, &str)]| {
            resolve(said, environment).expect("settings").hub().expect("a hub").offline
        };
        assert_eq!(offline(&Said::default(), &[("HF_HUB_OFFLINE", "0")]), None);
        assert_eq!(offline(&Said::default(), &[("HF_HUB_OFFLINE", "yes")]).as_deref(), Some("HF_HUB_OFFLINE is set"));
        let said = Said { offline: Some(false), ..Said::default() };
        assert_eq!(offline(&said, &[("HF_HUB_OFFLINE", "1")]), None, "what was said wins");
    }
}
