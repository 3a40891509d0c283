//! `outrigger doctor`: the production checklist, and what falls short of it (X3).
//!
//! It asks the same code that `serve` asks, and starts nothing: no download, no model, no listener.

mod checks;

use serde_json::json;

use crate::Failure;
use crate::cli::Doctor;
use crate::console::{self, Stderr, printable};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// As it should be in production.
    Ok,
    /// Works, and production would have it otherwise.
    Note,
    /// `serve` would end with an error.
    Fail,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    state: State,
    /// What is so, and what to do about it where something is to be done.
    says: String,
}

impl Finding {
    fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, state: State::Ok, says: says.into() }
    }

    fn note(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, state: State::Note, says: says.into() }
    }

    fn fail(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, state: State::Fail, says: says.into() }
    }

    fn line(&self) -> String {
        format!("{:<5} {:<12} {}", self.state.as_str(), self.check, printable(&self.says))
    }
}

pub(crate) fn doctor(arguments: Doctor) -> Result<(), Failure> {
    let Doctor { json, mut settings } = arguments;
    // The findings are the output; of the log only what is wrong adds to them.
    settings.said.log.get_or_insert_with(|| "error".to_owned());
    let settings = settings.resolve().map_err(Failure::usage)?;
    telemetry::logging::init(settings.log_format, &settings.log, Stderr::default)
        .map_err(|error| Failure::usage(error.into()))?;
    let findings = checks::all(&settings);
    if json {
        let lines = findings.iter().map(|it| json!({"check": it.check, "state": it.state.as_str(), "says": it.says}));
        console::print(lines.map(|line| line.to_string()))?;
    } else {
        console::print(findings.iter().map(Finding::line))?;
    }
    match findings.iter().filter(|finding| finding.state == State::Fail).count() {
        0 => Ok(()),
        count => {
            let checks = if count == 1 { "check" } else { "checks" };
            Err(anyhow::anyhow!("{count} {checks} failed: `outrigger serve` would not start like this").into())
        }
    }
}
