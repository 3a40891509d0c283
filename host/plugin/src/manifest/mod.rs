//! `plugin.toml`: what a plugin's author says of it, and what it asks for. Nothing in it gives a right: what is asked is
//! compared with what the operator granted (`grants`), and that decides.
//!
//! The format is described for authors in `plugins/MANIFEST.md`.

mod asks;
mod config_schema;
mod expansion;

use std::collections::BTreeMap;

use inference::Stage;
use serde::Deserialize;

pub use asks::{Asks, KvAsk, LimitAsk, MetricAsk, MetricKind, NamedAsk, Need, WasiAsk};
pub(crate) use config_schema::{ConfigSchema, Objection};

use crate::limits::{
    ASKS_MAX, CONFIG_SCHEMA_BYTES_MAX, LimitKey, MANIFEST_BYTES_MAX, MANIFEST_LIST_MAX, MANIFEST_TEXT_BYTES_MAX,
    NAME_BYTES_MAX,
};
use crate::outline;
use crate::spec::Modify;
use crate::text::is_plain;

/// A plugin's manifest, checked.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Where it was read, for messages: a path, or `bundled`.
    pub origin: String,
    /// What the author says of it.
    pub about: About,
    /// The stages to use unless the operator names others, with the places in the chains that the author suggests.
    /// `None`: it does not say.
    pub stages: Option<Vec<(Stage, i32)>>,
    /// What it asks for.
    pub asks: Asks,
    /// How it is built, for whoever has its sources.
    pub build: Build,
    pub(crate) config_schema: Option<ConfigSchema>,
    /// The file that the schema was read from, as the manifest names it.
    pub schema_file: Option<String>,
}

/// `[plugin]`: what the author says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// What it is called.
    pub name: String,
    /// Which version of it this is.
    pub version: String,
    /// What it does, in a line.
    pub description: String,
    /// Who wrote it.
    #[serde(default)]
    pub authors: Vec<String>,
    /// Under which licence, as SPDX names it.
    pub license: Option<String>,
    /// Where there is more about it.
    pub homepage: Option<String>,
    /// The component's file, beside the manifest or below it; for a plugin that is a folder.
    pub component: Option<String>,
    /// SHA-256 of the component that this manifest belongs to.
    pub sha256: Option<String>,
}

/// `[build]`: how the component is made of its sources, where that is not cargo's business. The host never runs it; `outrigger plugin
/// build` does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Build {
    /// A command of the shell, run in the plugin's folder.
    pub command: Option<String>,
    /// A command of the shell that runs the language's own tests.
    pub test: Option<String>,
    /// Where `command` leaves the component; another way to say `component` under `[plugin]`.
    pub component: Option<String>,
    /// What `command` needs (a file in the folder, or, where the name has no `/`, a program in PATH) and how it comes there.
    pub needs: BTreeMap<String, String>,
}

/// Why a manifest cannot be used. Finishes "the manifest …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not TOML, or not a manifest.
    #[error("{place}: {reason}")]
    Malformed {
        /// The line, and the key where one is to blame.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// A value that means nothing.
    #[error("`{key}` {reason}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it, and what is possible.
        reason: String,
    },
}

impl ManifestError {
    pub(crate) fn value(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Value { key: key.into(), reason: reason.into() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    plugin: About,
    #[serde(default)]
    stages: Option<BTreeMap<String, StageHint>>,
    #[serde(default)]
    asks: Asks,
    #[serde(default)]
    config: ConfigSection,
    #[serde(default)]
    build: Build,
}

/// `postprocess = 80` or `postprocess = { order = 80 }`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected the place in the chain, such as `80` or `{ order = 80 }`")]
enum StageHint {
    Order(i32),
    Table(StageTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StageTable {
    #[serde(default)]
    order: i32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigSection {
    schema: Option<SchemaSection>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected the name of a file with a JSON Schema, or the schema as a table")]
enum SchemaSection {
    File(String),
    Inline(toml::Table),
}

impl Manifest {
    /// Reads the text of a `plugin.toml`. `read_file` gives the text of a file beside it by its name, or finishes "`key` …".
    pub fn parse(
        origin: impl Into<String>,
        text: &str,
        read_file: impl FnOnce(&str) -> Result<String, String>,
    ) -> Result<Self, ManifestError> {
        if text.len() > MANIFEST_BYTES_MAX {
            let reason = format!("it has {} bytes, and {MANIFEST_BYTES_MAX} is the most that is read", text.len());
            return Err(ManifestError::Malformed { place: "as a whole".to_owned(), reason });
        }
        let File { mut plugin, stages, asks, config, build } = from_toml(text)?;
        if let Some(built) = &build.component {
            let named = plugin.component.get_or_insert_with(|| built.clone());
            if named != built {
                let reason = format!("is `{built}`, and `plugin.component` is `{named}`; leave one of them out");
                return Err(ManifestError::value("build.component", reason));
            }
        }
        check_about(&plugin)?;
        asks.check()?;
        let stages = stages.map(|stages| stages.into_iter().map(stage).collect::<Result<Vec<_>, _>>()).transpose()?;
        if stages.as_ref().is_some_and(Vec::is_empty) {
            return Err(ManifestError::value("stages", "names no stage; leave it out, or name at least one"));
        }
        let schema_file = match &config.schema {
            Some(SchemaSection::File(name)) => Some(name.clone()),
            _ => None,
        };
        let config_schema = config.schema.map(|schema| config_schema(schema, read_file)).transpose()?;
        Ok(Self { origin: origin.into(), about: plugin, stages, asks, build, config_schema, schema_file })
    }
}

fn from_toml(text: &str) -> Result<File, ManifestError> {
    let line = |error: &toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        format!("line {}", before.matches('\n').count() + 1)
    };
    let toml = toml::Deserializer::parse(text).map_err(|error| ManifestError::Malformed {
        place: line(&error),
        reason: error.message().trim_end().to_owned(),
    })?;
    serde_path_to_error::deserialize(toml).map_err(|error| {
        let key = error.path().to_string();
        let (line, reason) = (line(error.inner()), error.inner().message().trim_end().to_owned());
        let place = if key == "." { line } else { format!("{line}, `{key}`") };
        ManifestError::Malformed { place, reason }
    })
}

fn check_about(about: &About) -> Result<(), ManifestError> {
    let About { name, version, description, authors, license, homepage, component, sha256 } = about;
    let texts = [("name", name), ("version", version), ("description", description)];
    let optional = [("license", license), ("homepage", homepage), ("component", component), ("sha256", sha256)];
    if authors.len() > MANIFEST_LIST_MAX {
        let reason = format!("has {} names, and {MANIFEST_LIST_MAX} is the most that is read", authors.len());
        return Err(ManifestError::value("plugin.authors", reason));
    }
    for (key, text) in texts
        .into_iter()
        .chain(optional.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))))
        .chain(authors.iter().map(|author| ("authors", author)))
    {
        check_text(&format!("plugin.{key}"), text)?;
    }
    Ok(())
}

/// Whether a plugin may be called this: 1 to 63 lower-case letters, digits and `-`, a letter first. It becomes a metric's label, and a
/// folder's name where the plugin is pulled.
#[must_use]
pub fn is_plugin_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let is_allowed = |byte: u8| is_letter(byte) || byte.is_ascii_digit() || byte == b'-';
    name.len() <= NAME_BYTES_MAX && name.bytes().next().is_some_and(is_letter) && name.bytes().all(is_allowed)
}

/// Texts are shown in logs and on terminals: they are short, and cannot forge a line or move a cursor.
fn check_text(key: &str, text: &str) -> Result<(), ManifestError> {
    if text.trim().is_empty() {
        return Err(ManifestError::value(key, "is empty"));
    }
    if text.len() > MANIFEST_TEXT_BYTES_MAX {
        let reason = format!("has {} bytes, and {MANIFEST_TEXT_BYTES_MAX} is the most that is read", text.len());
        return Err(ManifestError::value(key, reason));
    }
    if !is_plain(text) {
        return Err(ManifestError::value(key, "holds control characters or line breaks; write plain text in one line"));
    }
    Ok(())
}

fn stage((name, hint): (String, StageHint)) -> Result<(Stage, i32), ManifestError> {
    let stage = outline::stage_of(&name).ok_or_else(|| {
        let names: Vec<_> = outline::STAGES.iter().map(|stage| stage.as_str()).collect();
        ManifestError::value(format!("stages.{name}"), format!("is no stage; there are {}", names.join(", ")))
    })?;
    Ok(match hint {
        StageHint::Order(order) | StageHint::Table(StageTable { order }) => (stage, order),
    })
}

fn config_schema(
    section: SchemaSection,
    read_file: impl FnOnce(&str) -> Result<String, String>,
) -> Result<ConfigSchema, ManifestError> {
    const KEY: &str = "config.schema";
    let refuse = |reason: String| ManifestError::value(KEY, reason);
    let schema = match section {
        SchemaSection::Inline(table) => {
            serde_json::to_value(table).map_err(|error| refuse(format!("is no JSON: {error}")))?
        }
        SchemaSection::File(name) => {
            let text = read_file(&name).map_err(refuse)?;
            if text.len() > CONFIG_SCHEMA_BYTES_MAX {
                let reason = "bytes, and that is more than";
                return Err(refuse(format!(
                    "names `{name}`, which has {} {reason} {CONFIG_SCHEMA_BYTES_MAX}",
                    text.len()
                )));
            }
            serde_json::from_str(&text).map_err(|error| refuse(format!("names `{name}`, which is no JSON: {error}")))?
        }
    };
    ConfigSchema::new(&schema).map_err(refuse)
}

#[cfg(test)]
mod tests;
