//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Said, Settings};

/// A WebAssembly-pluggable inference sidecar: llama.cpp behind an OpenAI-compatible API on loopback, with sandboxed
/// plugins between prompt and tokens.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Start here:
  outrigger run --model file:model.gguf \"Why is the sky blue?\"    one answer on the terminal
  outrigger serve --model file:model.gguf --plugin redact         a server on 127.0.0.1:8484

Point any OpenAI client at http://127.0.0.1:8484/v1.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a model over an OpenAI-compatible HTTP API
    Serve(Serve),
    /// Answer one prompt on the terminal, as the answer is made
    Run(Run),
    /// Ask a running server how it is: exit code 0 if well, 1 if not
    Probe(Probe),
}

const PRECEDENCE: &str = "\
Every key can be a flag, an environment variable, or a line in the configuration file (`max_concurrency = 2`).
A flag wins over the environment, the environment over the file.";

#[derive(Debug, Args)]
#[command(after_help = "\
Bundled plugins:
  chat-template   renders the model's own Jinja chat template; always on unless replaced
  redact          masks e-mail addresses, phone and card numbers, IBANs and API keys in answers

Routes:
  POST /v1/chat/completions, GET /v1/models      the OpenAI API
  GET /livez, /readyz, /health, /v1/ready        is it alive, is it ready
  GET /metrics                                   Prometheus

Exit codes: 0 ended as asked, 1 failed, 2 wrong usage or configuration.
Ctrl-C or SIGTERM lets running answers finish; a second one ends at once.")]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) settings: SettingsArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// What to ask; `-` reads it from standard input
    pub(crate) prompt: String,

    /// Instructions for the model, before the prompt
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    /// Most tokens of the answer [default: what the context holds]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: Option<u32>,

    /// 0 for the likeliest answer, 2 for the wildest [default: 0.8]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) temperature: Option<f32>,

    /// Makes the answer repeatable
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,

    #[command(flatten)]
    pub(crate) settings: SettingsArguments,
}

#[derive(Debug, Args)]
pub(crate) struct SettingsArguments {
    /// Configuration file (TOML)
    #[arg(long, env = "OUTRIGGER_CONFIG", value_name = "FILE", long_help = format!("Configuration file (TOML)\n\n{PRECEDENCE}"))]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) said: Said,
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// What to ask
    #[arg(value_enum)]
    pub(crate) probe: ProbeKind,

    /// Where the server listens
    #[arg(long, env = "OUTRIGGER_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8484")]
    pub(crate) listen: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ProbeKind {
    /// Does it answer at all?
    Livez,
    /// Does it take requests?
    Readyz,
}

impl ProbeKind {
    /// The path that answers.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Livez => "/livez",
            Self::Readyz => "/readyz",
        }
    }
}

impl SettingsArguments {
    /// What was said in flags, environment and file, and what it means.
    pub(crate) fn resolve(self) -> anyhow::Result<Settings> {
        Settings::from_said(self.said.or_file(self.config.as_deref())?)
    }
}
