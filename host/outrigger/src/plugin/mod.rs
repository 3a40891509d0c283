//! `outrigger plugin …`: what authors and operators do with plugins beside serving them. One file per command.

mod check;
mod list;
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
}

/// What all of them may be told.
#[derive(Debug, Args)]
struct ConfigArguments {
    /// Configuration file (TOML); of its keys `[[plugin]]` and `cache_dir` count
    #[arg(long, env = "OUTRIGGER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn plugin(arguments: Plugin) -> Result<(), Failure> {
    match arguments.command {
        Command::Check(arguments) => check::check(&arguments),
        Command::List(arguments) => list::list(&arguments),
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
