//! `outrigger plugin new`: a plugin that builds and passes its tests, to be changed.

use std::path::{Path, PathBuf};

use clap::Args;
use kit::scaffold;

use crate::{Failure, console};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outrigger plugin new my-filter                     a filter of answers, in Rust
  outrigger plugin new house-rules --stage policy    a policy: may a request go on, and as what?
  outrigger plugin new my-filter --lang python       a filter in Python; or in JavaScript

Stages (JavaScript and Python: policy and postprocess; others are added by hand):
  policy          sees a request before anything is computed: accepts, changes or rejects it
  prompt          renders a conversation: what the model reads
  token-control   says of every token which may come; only where the operator grants it
  parse           tells thoughts and tool calls from the model's text
  postprocess     sees the answer on its way out: passes, changes, holds back or ends it
  audit           is told when a request has ended

Then:
  cd my-filter && outrigger plugin test && outrigger plugin dev . --model REF")]
pub(super) struct New {
    /// The plugin's name, and its folder's: lower-case letters, digits and `-`
    #[arg(value_name = "NAME")]
    name: String,

    /// What it begins with; a plugin may have several stages
    #[arg(long, value_name = "STAGE", default_value = scaffold::STAGE_DEFAULT)]
    stage: String,

    /// The language that it is written in: rust, javascript or python
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: String,

    /// The folder to make [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn new(New { name, stage, lang, dir }: New) -> Result<(), Failure> {
    let language = scaffold::language(&lang).map_err(|error| Failure::usage(error.into()))?;
    let folder = dir.unwrap_or_else(|| PathBuf::from(&name));
    let written = language.write(&folder, &name, &stage).map_err(|error| match error {
        error @ (scaffold::ScaffoldError::Name { .. } | scaffold::ScaffoldError::Stage { .. }) => {
            Failure::usage(error.into())
        }
        error => Failure::from(anyhow::Error::from(error)),
    })?;
    let own: Vec<String> =
        written.iter().filter(|path| !is_vendored(path)).map(|path| format!("  {}", path.display())).collect();
    let shown = console::printable(&folder.display().to_string());
    let lines = [format!("Made {shown}, a {stage} plugin in {lang}:"), String::new()].into_iter().chain(own).chain([
        String::new(),
        "Try it:".to_owned(),
        String::new(),
        format!("  cd {shown}"),
    ]);
    let setup = language.setup.map(|setup| format!("  {setup}"));
    let then = ["  outrigger plugin test".to_owned(), "  outrigger plugin dev . --model REF".to_owned()];
    console::print(lines.chain(setup).chain(then))
}

/// Copies of what is ours, which nobody changes.
fn is_vendored(path: &Path) -> bool {
    path.starts_with("vendor") || path.starts_with("wit/deps")
}
