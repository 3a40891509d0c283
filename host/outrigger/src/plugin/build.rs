//! `outrigger plugin build`: from sources to a component.

use std::path::PathBuf;

use clap::Args;
use kit::Project;

use crate::{Failure, console};

#[derive(Debug, Args)]
#[command(after_help = "\
A folder with a Cargo.toml is built with cargo, for wasm32-unknown-unknown, with the linker that makes components; what is missing
is named, with the command that installs it. For other languages plugin.toml says how:

  [build]
  command = \"npm run build\"         run in the plugin's folder
  component = \"dist/plugin.wasm\"    what it makes
  test = \"npm test\"                 the language's own tests, for `outrigger plugin test`")]
pub(super) struct Build {
    /// The plugin's folder, with its plugin.toml
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

pub(super) fn build(Build { dir }: &Build) -> Result<(), Failure> {
    let project = Project::open(dir).map_err(anyhow::Error::from)?;
    let built = project.build().map_err(anyhow::Error::from)?;
    console::print(std::iter::once(console::printable(&built.to_string())))
}
