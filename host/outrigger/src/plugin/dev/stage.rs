//! Where the host of `outrigger plugin dev` finds the plugin: a folder beside the sources' own, into which only versions come
//! that were built and passed. The host watches it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kit::Project;
use plugin::{GrantState, LoadReport, PluginSpec};

use crate::cli::SettingsArguments;
use crate::config::ModelsSaid;

/// The folder, and what the plugin is configured with.
pub(super) struct Staged {
    folder: PathBuf,
    config: toml::Table,
}

const CONFIG: &str = "outrigger.toml";

/// What requests call the model, unless something else was said.
const MODEL_ID: &str = "dev";

impl Staged {
    /// In `folder`, which is there for nothing else.
    pub(super) fn new(folder: &Path, config: toml::Table) -> Self {
        Self { folder: folder.to_owned(), config }
    }

    /// What the host is told: everything that was said, the plugin, and to watch it.
    pub(super) fn settings(&self, arguments: SettingsArguments) -> anyhow::Result<SettingsArguments> {
        let SettingsArguments { config, said } = arguments;
        let mut said = said.or_file(config.as_deref())?;
        said.plugin_names = None;
        said.plugin_tables = Vec::new();
        said.plugin_watch = Some(true);
        if !matches!(said.models, ModelsSaid::Several(_)) {
            // A name that the line to try can have, whatever the model.
            said.model_id.get_or_insert_with(|| MODEL_ID.to_owned());
        }
        Ok(SettingsArguments { config: Some(self.folder.join(CONFIG)), said })
    }

    /// Puts a version in place; the host notices. Each file is replaced whole, and the configuration, which tells of all, last.
    pub(super) fn publish(&self, project: &Project) -> anyhow::Result<()> {
        let component = project.component()?;
        let manifest = &project.manifest;
        let place = self.folder.join("plugin");
        let files = [Some("plugin.toml"), manifest.schema_file.as_deref(), manifest.about.component.as_deref()];
        for file in files.into_iter().flatten() {
            let from = if Some(file) == manifest.about.component.as_deref() {
                component.clone()
            } else {
                project.folder.join(file)
            };
            let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            replace(&place.join(file), &bytes)?;
        }
        let config = table(project, &place, &self.config)?;
        replace(&self.folder.join(CONFIG), config.as_bytes())
    }
}

/// The [[plugin]] table: everything granted that is asked for.
fn table(project: &Project, place: &Path, config: &toml::Table) -> anyhow::Result<String> {
    let spec = PluginSpec { config_json: serde_json::to_string(config)?, ..project.spec()? };
    let (report, refused) = LoadReport::inspect(&spec);
    if let Some(error) = refused {
        return Err(error.into());
    }
    let text = plugin::toml_to_write(&spec.name, &report.grants, &[GrantState::Granted]);
    let from = format!("[[plugin]]\nfrom = {}\n", toml::Value::from(place.display().to_string()));
    let mut text = text.replacen("[[plugin]]\n", &from, 1);
    if !config.is_empty() {
        let config = toml::Table::from_iter([("config".to_owned(), toml::Value::Table(config.clone()))]);
        let config = toml::Table::from_iter([("plugin".to_owned(), toml::Value::Table(config))]);
        text.push('\n');
        text.push_str(&toml::to_string(&config).context("the configuration is no TOML")?);
    }
    Ok(text)
}

fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let attempt = || format!("cannot write {}", path.display());
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(attempt)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, path)).with_context(attempt)
}
