//! `outrigger plugin …`: what authors and operators do with plugins beside serving them. One file per command.

mod check;
mod keygen;
mod list;
mod pack;
mod pull;
mod push;
mod registry_login;
mod sign;
mod stand_in;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::Failure;
use crate::config::{PluginTable, Said, choose_plugins};

#[derive(Debug, Args)]
pub(crate) struct Plugin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
}

/// The table of the configuration that a name or a path means, or the one that it stands for by itself.
fn table_for(plugin: &str, tables: Vec<PluginTable>) -> anyhow::Result<PluginTable> {
    let meant = Path::new(plugin).canonicalize().ok();
    let is_meant = |table: &PluginTable| {
        let from = table.from.as_ref().and_then(|from| Path::new(from).canonicalize().ok());
        table.name == plugin || (from.is_some() && from == meant)
    };
    if let Some(table) = tables.iter().find(|table| is_meant(table)) {
        return Ok(table.clone());
    }
    let chosen = choose_plugins(Some(vec![plugin.to_owned()]), tables)?;
    chosen.into_iter().next().ok_or_else(|| anyhow::anyhow!("no plugin is named"))
}
