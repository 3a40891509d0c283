//! `outrigger plugin test`: a plugin's own tests, then its cases in the host's sandbox.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use bytesize::ByteSize;
use clap::Args;
use kit::case::CaseFile;
use kit::suite::{self, Options, Outcome};
use kit::{Project, Stand, stand_in};
use plugin::PluginSpec;
use serde_json::json;

use super::{components_dir, is_bundled, stage_spec};
use crate::{Failure, console};

#[derive(Debug, Args)]
#[command(after_help = "\
1. Builds the plugin, as `outrigger plugin build` does.
2. Runs the language's own tests: `cargo test`, or `test` under [build] in plugin.toml.
3. Runs the cases in tests/*.toml on the component, in the host's own sandbox under the limits that it would have:

     [[case]]
     name = \"a word is masked\"
     config = { words = [\"fudge\"] }        the plugin's configuration
     request = \"Say something.\"            what is asked: a text, or a table as in POST /v1/chat/completions
     answer = \"Oh fudge!\"                  what the model answers
     expect = { output = \"Oh […]!\" }       what comes of it

   Each answer is shown to the plugin in one piece, cut in two at every place, character by character, and in 200 ways by
   chance: what comes of it has to be the same, streamed or not, and no text may be lost. Instructions are counted, so they
   are the same on every machine.

plugins/TESTING.md describes all that a case can say. The plugin is granted what its plugin.toml asks for.
Exit codes: 0 all passed, 1 something did not, 2 wrong usage.")]
pub(super) struct Test {
    /// The plugin's folder, or the name of a bundled plugin together with --cases
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,

    /// Only the case of this name, or else those whose names contain it
    #[arg(long = "case", value_name = "TEXT")]
    case: Option<String>,

    /// Only this way to cut the answers, at these bytes, as a failure names it
    #[arg(long, value_name = "BYTES", value_delimiter = ',')]
    cuts: Option<Vec<usize>>,

    /// The end of each answer comes alone, with no text, as a failure names it
    #[arg(long)]
    ends_empty: bool,

    /// Where chance begins: the same seed makes the same cuts
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// How many ways to cut each answer by chance
    #[arg(long, value_name = "COUNT", default_value_t = kit::RANDOM_CHUNKINGS)]
    random: u32,

    /// Test the component that is there, and only by its cases
    #[arg(long)]
    no_build: bool,

    /// The folder of the cases [default: DIR/tests]
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,

    /// One JSON object per case and line, for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn test(arguments: Test) -> Result<(), Failure> {
    let Test { dir, case, cuts, ends_empty, seed, random, no_build, cases, json } = arguments;
    let of_cases = cases.as_ref().map(|cases| format!(" --cases {}", cases.display())).unwrap_or_default();
    let command = format!("outrigger plugin test {}{of_cases}", dir.display());
    let name = dir.to_str().filter(|name| is_bundled(name) && cases.is_some());
    let (spec, folder) = if let Some(name) = name {
        (stage_spec(name)?, cases.unwrap_or_default())
    } else {
        let project = Project::open(&dir).map_err(anyhow::Error::from)?;
        if !no_build {
            build_and_test(&project)?;
        }
        (project.spec().map_err(anyhow::Error::from)?, cases.unwrap_or_else(|| project.cases()))
    };
    let (is_named, shown) = (!of_cases.is_empty(), folder.display().to_string());
    let options = Options { name: case, seed, random, cuts, ends_empty, command };
    let tally = run_cases(&spec, &folder, &options, json)?;
    match tally {
        Tally { passed: 0, failed: 0, .. } if options.name.is_some() => {
            Err(anyhow!("no case has {:?} in its name", options.name.unwrap_or_default()).into())
        }
        Tally { passed: 0, failed: 0, .. } if is_named => Err(anyhow!("{shown} has no cases (*.toml)").into()),
        Tally { failed: 0, .. } => Ok(()),
        Tally { failed, .. } => Err(anyhow!("{failed} of the cases failed").into()),
    }
}

/// Builds a project and runs its own tests; errors are on the terminal already.
fn build_and_test(project: &Project) -> anyhow::Result<()> {
    console::say(project.build()?);
    if let Some(result) = project.test() {
        result.context("the plugin's own tests failed")?;
        console::say("its own tests passed");
    }
    Ok(())
}

/// How many cases went how.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
    chunkings: usize,
}

/// Runs the cases in a folder, and shows each as it ends.
pub(super) fn run_cases(spec: &PluginSpec, folder: &Path, options: &Options, json: bool) -> anyhow::Result<Tally> {
    let files = CaseFile::read_folder(folder)?;
    if files.is_empty() {
        console::say(format_args!(
            "{} has no cases (*.toml), so nothing was tried in the sandbox; `outrigger plugin test --help` shows one",
            folder.display()
        ));
        return Ok(Tally::default());
    }
    let cache_dir = components_dir(None);
    let stand = Stand::new(stand_in::model(None), spec.limits.memory_bytes_max, true, cache_dir)?;
    let mut tally = Tally::default();
    for file in &files {
        let mut lines = Vec::new();
        let mut written = Ok(());
        let is_first = std::cell::Cell::new(true);
        suite::run(&stand, spec, file, options, |outcome| {
            if outcome.failures.is_empty() {
                tally.passed += 1;
            } else {
                tally.failed += 1;
            }
            tally.chunkings += outcome.chunkings;
            if json {
                lines.push(json!({"file": file.path, "case": outcome}).to_string());
            } else {
                if is_first.take() {
                    lines.push(file.path.display().to_string());
                }
                lines.extend(shown(&outcome));
            }
            // At once: a suite takes a while.
            if written.is_ok() {
                written = console::print(lines.drain(..)).map_err(|failure| failure.error);
            }
        });
        written?;
    }
    if !json {
        let Tally { passed, failed, chunkings } = tally;
        let failed = if failed == 0 { String::new() } else { format!(", {failed} failed") };
        let line = format!("{passed} cases passed{failed}; their answers were cut in {chunkings} ways");
        console::print(std::iter::once(line)).map_err(|failure| failure.error)?;
    }
    Ok(tally)
}

/// A case for people: its figures beside its limits, and what failed.
fn shown(outcome: &Outcome) -> Vec<String> {
    let word = if outcome.failures.is_empty() { "ok    " } else { "FAILED" };
    let mut lines = vec![format!("  {word} {}", outcome.name)];
    if let Some(used) = &outcome.used {
        let instructions = match (used.instructions, outcome.init_instructions) {
            (Some(all), Some(init)) => format!("{} instructions, {} of them in init · ", grouped(all), grouped(init)),
            _ => String::new(),
        };
        let size = |bytes: usize| ByteSize::b(bytes as u64).display().iec();
        lines.push(format!(
            "         {instructions}{} of {} · held back {} of {} bytes · {} ways to cut it",
            size(used.memory_bytes),
            size(outcome.limits.memory_bytes),
            used.held_bytes,
            outcome.limits.held_bytes,
            outcome.chunkings,
        ));
    }
    let texts =
        outcome.failures.iter().map(|text| ("", text)).chain(outcome.warnings.iter().map(|text| ("note: ", text)));
    for (mark, text) in texts {
        lines.extend(format!("{mark}{text}").lines().map(|line| format!("         {}", console::printable(line))));
    }
    lines
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
