//! The `outrigger` command: what the user said, made into rooms wired together.

mod bench;
mod bundle;
mod cli;
mod config;
mod console;
mod doctor;
mod doors;
mod encoder;
mod exit;
mod grants;
mod inspect;
mod lifecycle;
mod models;
mod placement;
mod plugin;
mod probe;
mod progress;
mod reload;
mod run;
mod running;
mod serve;
mod service_manager;
mod source;
mod spin;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

/// Exit codes: 0, or one of [`exit`].
fn main() -> ExitCode {
    spin::bound_openmp_spin();
    let cli = cli::Cli::parse();
    let result = match cli.command {
        cli::Command::Serve(arguments) => serve::serve(arguments),
        cli::Command::Run(arguments) => run::run(arguments),
        cli::Command::Probe(arguments) => probe::probe(&arguments),
        cli::Command::Pull(arguments) => models::pull(arguments),
        cli::Command::List(arguments) => models::list(arguments),
        cli::Command::Verify(arguments) => models::verify(arguments),
        cli::Command::Remove(arguments) => models::remove(arguments),
        cli::Command::Prune(arguments) => models::prune(arguments),
        cli::Command::Bench(arguments) => bench::bench(arguments),
        cli::Command::Inspect(arguments) => inspect::inspect(arguments),
        cli::Command::Plugin(arguments) => plugin::plugin(arguments),
        cli::Command::Doctor(arguments) => doctor::doctor(arguments),
        cli::Command::Openapi => console::write(&format!("{}\n", server::openapi())).map(drop).map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error }) => {
            console::say(format_args!("error: {error:#}"));
            ExitCode::from(code)
        }
    }
}

/// An error with the exit code it ends in.
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// What was said cannot be meant.
    fn usage(error: anyhow::Error) -> Self {
        Self { code: exit::USAGE, error }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: exit::FAILED, error }
    }
}
