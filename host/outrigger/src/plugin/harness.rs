//! `outrigger plugin harness`: questions on standard input, answers on standard output, a line of JSON each. Nobody types them.

use std::io::{self, BufRead as _, Read as _};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use kit::{Project, Stand, stand_in};

use super::components_dir;
use crate::{Failure, console};

/// A case's answer is the largest part of a question, and has 256 KiB at most.
const QUESTION_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Args)]
pub(super) struct Harness {
    /// The plugin's folder, with its plugin.toml
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

pub(super) fn harness(Harness { dir }: &Harness) -> Result<(), Failure> {
    let project = Project::open(dir).map_err(anyhow::Error::from)?;
    let spec = project.spec().map_err(anyhow::Error::from)?;
    let stand = Stand::new(stand_in::model(None), spec.limits.memory_bytes_max, true, components_dir(None));
    let mut harness = kit::Harness::new(stand.map_err(anyhow::Error::from)?, spec);
    console::print(std::iter::once(harness.greeting()))?;
    let mut questions = io::stdin().lock();
    loop {
        let mut line = String::new();
        let read = questions.by_ref().take(QUESTION_BYTES_MAX).read_line(&mut line);
        if read.context("cannot read a question")? == 0 {
            return Ok(());
        }
        let is_cut = !line.ends_with('\n') && line.len() as u64 == QUESTION_BYTES_MAX;
        if is_cut {
            return Err(anyhow!("a question has {QUESTION_BYTES_MAX} bytes or more").into());
        }
        console::print(std::iter::once(harness.answer(&line)))?;
    }
}
