//! `outrigger plugin …`: what authors and operators do with plugins beside serving them. One file per command.

mod bench;
mod build;
mod check;
mod dev;
mod harness;
mod keygen;
mod list;
mod new;
mod pack;
mod pull;
mod push;
mod registry_login;
mod reload;
mod run;
mod sign;
mod test;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use plugin::{Package, PluginSpec};

use crate::config::{PluginTable, Said, choose_plugins, default_cache_dir};
use crate::{Failure, bundle, wiring};

#[derive(Debug, Args)]
#[command(after_help = "\
From nothing to a plugin at work in a running chat:
  outrigger plugin new my-filter
  cd my-filter
  outrigger plugin test
  outrigger plugin dev . --model REF")]
pub(crate) struct Plugin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new plugin that builds and passes its tests
    New(new::New),
    /// Build a plugin's component
    Build(build::Build),
    /// Build a plugin, run its tests, and try its cases in the sandbox, cut in every way
    Test(test::Test),
    /// Serve a model with a plugin, and rebuild, test and reload the plugin when its sources change
    Dev(Box<dev::Dev>),
    /// Show what every stage makes of one request
    Run(run::Run),
    /// Measure what a plugin costs
    Bench(bench::Bench),
    /// Answer questions about a built plugin, for `outrigger-plugin-test`
    #[command(hide = true)]
    Harness(harness::Harness),
    /// Load a plugin as `serve` would, and say what was found out: exit code 0 if it loads, 1 if not
    Check(check::Check),
    /// List what a configuration would load, and the bundled plugins
    List(list::List),
    /// Pack a plugin's folder as an OCI artifact: the same files make the same bytes
    Pack(pack::Pack),
    /// Make a key that signs plugins, and print the half that others trust
    Keygen(keygen::Keygen),
    /// Sign a packed plugin
    Sign(sign::Sign),
    /// Send a packed plugin, with its signatures, to a registry
    Push(push::Push),
    /// Fetch a plugin from a registry into a folder, if a trusted key signed it or a digest names it
    Pull(pull::Pull),
}

/// What all of them may be told.
#[derive(Debug, Args)]
struct ConfigArguments {
    /// Configuration file (TOML); of its keys `[[plugin]]`, `cache_dir`, `trusted_keys` and `ca_files` count
    #[arg(long, env = "OUTRIGGER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn plugin(arguments: Plugin) -> Result<(), Failure> {
    match arguments.command {
        Command::New(arguments) => new::new(arguments),
        Command::Build(arguments) => build::build(&arguments),
        Command::Test(arguments) => test::test(arguments),
        Command::Dev(arguments) => dev::dev(*arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Bench(arguments) => bench::bench(arguments),
        Command::Harness(arguments) => harness::harness(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::List(arguments) => list::list(&arguments),
        Command::Pack(arguments) => pack::pack(&arguments),
        Command::Keygen(arguments) => keygen::keygen(&arguments),
        Command::Sign(arguments) => sign::sign(&arguments),
        Command::Push(arguments) => push::push(&arguments),
        Command::Pull(arguments) => pull::pull(&arguments),
    }
}

impl ConfigArguments {
    fn read(&self) -> anyhow::Result<Said> {
        Said::default().or_file(self.config.as_deref())
    }

    /// The plugin that a name or a path means: with what a `[[plugin]]` table grants where one means it, and otherwise with
    /// everything that its manifest asks for.
    fn spec(&self, plugin: &str) -> Result<PluginSpec, Failure> {
        let said = self.read().map_err(Failure::usage)?;
        let is_configured = find_table(plugin, &said.plugin_tables).is_some();
        let mut table = table_for(plugin, said.plugin_tables).map_err(Failure::usage)?;
        if !is_configured && let Some(from) = &table.from {
            // Before the component is read: its size is what is asked for first.
            let manifest = Package::manifest(&Package::manifest_path(Path::new(from))).map_err(anyhow::Error::from)?;
            if let Some(manifest) = manifest {
                table.limits.component_bytes = Some(kit::component_bytes_max(&manifest) as u64);
                table.name = manifest.about.name;
            }
        }
        let mut spec = wiring::spec(&table, &mut Vec::new())?;
        if !is_configured {
            plugin::grant_what_is_asked(&mut spec);
        }
        Ok(spec)
    }
}

/// Where compiled components are kept.
fn components_dir(cache_dir: Option<PathBuf>) -> Option<PathBuf> {
    cache_dir.or_else(default_cache_dir).map(|dir| dir.join("components"))
}

fn is_bundled(name: &str) -> bool {
    bundle::NAMES.contains(&name)
}

/// A bundled plugin with everything granted that it asks for.
fn stage_spec(name: &str) -> anyhow::Result<PluginSpec> {
    let mut spec = wiring::spec(&PluginTable::bare(name.to_owned(), None), &mut Vec::new())?;
    plugin::grant_what_is_asked(&mut spec);
    Ok(spec)
}

/// A plugin's configuration as its author gives it on the command line.
fn config_of(json: Option<&str>) -> Result<toml::Table, Failure> {
    let Some(json) = json else { return Ok(toml::Table::new()) };
    let parsed = serde_json::from_str(json).context("--plugin-config is no JSON object");
    parsed.map_err(Failure::usage)
}

/// The table of the configuration that a name or a path means.
fn find_table<'a>(plugin: &str, tables: &'a [PluginTable]) -> Option<&'a PluginTable> {
    let meant = Path::new(plugin).canonicalize().ok();
    tables.iter().find(|table| {
        let from = table.from.as_ref().and_then(|from| Path::new(from).canonicalize().ok());
        table.name == plugin || (from.is_some() && from == meant)
    })
}

/// The table of the configuration that a name or a path means, or the one that it stands for by itself.
fn table_for(plugin: &str, tables: Vec<PluginTable>) -> anyhow::Result<PluginTable> {
    if let Some(table) = find_table(plugin, &tables) {
        return Ok(table.clone());
    }
    let chosen = choose_plugins(Some(vec![plugin.to_owned()]), tables)?;
    chosen.into_iter().next().ok_or_else(|| anyhow::anyhow!("no plugin is named"))
}
