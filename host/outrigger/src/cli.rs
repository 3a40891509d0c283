//! The command line.
#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the comments of arguments are the texts of --help"
)]

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use telemetry::logging::LogFormat;

use crate::config::{Said, Settings, StoreSettings, log_format};
use crate::{plugin, probe};

/// A WebAssembly-pluggable inference sidecar: llama.cpp behind an OpenAI-compatible API on loopback, with sandboxed
/// plugins between prompt and tokens.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Start here:
  outrigger pull bartowski/SmolLM2-135M-Instruct-GGUF               a model from the Hugging Face Hub
  outrigger run --model REF \"Why is the sky blue?\"                 one answer on the terminal
  outrigger serve --model REF --plugin redact                       a server on 127.0.0.1:8484

A model REF is org/model[:QUANT][@revision] of the Hub, or file:PATH of a GGUF.
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
    Probe(probe::Probe),
    /// Download a model, or bring it up to date
    Pull(Pull),
    /// List downloaded models
    List(List),
    /// Check every byte of downloaded models against their digests
    Verify(Verify),
    /// Delete a downloaded model
    Remove(Remove),
    /// Delete the models used longest ago until the rest fits a size
    Prune(Prune),
    /// Show what a model's file says of itself, and the memory that it needs
    Inspect(Inspect),
    /// Write, test, measure, check and list plugins
    Plugin(plugin::Plugin),
    /// Measure how fast this machine answers with a model
    Bench(Bench),
    /// Check what `serve` would be run with: token, revision, cache, device, memory, disk, concurrency, metrics
    Doctor(Doctor),
    /// Print the HTTP API as an OpenAPI document, as `GET /openapi.json` serves it
    Openapi,
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
  POST /v1/chat/completions, /v1/embeddings,
  POST /v1/rerank, GET /v1/models                the OpenAI API
  GET /livez, /startupz, /readyz                 does it get on, has it started, is it ready (/health, /v1/ready)
  GET /metrics                                   Prometheus
  GET /openapi.json                              all routes, as an OpenAPI document
  GET /admin/plugins, POST /admin/plugins/reload what runs, and a reload (loopback only)

Several models: [[model]] tables in the configuration file; requests choose by `model`.

SIGHUP reads the configuration again: plugins, keys, certificates, allowed hosts and the limits of the line change; a change of
anything else is refused by its name, and with it the rest. Ctrl-C or SIGTERM lets running answers finish; a second one ends at once.

Exit codes:
  0  ended as asked; every answer was finished
  1  failed: the model or a plugin was refused, or could not be had
  2  wrong usage or configuration, unusable keys or certificates
  3  an address or a socket to listen on is not to be had
  4  ended as asked; answers were broken off after drain_seconds
  5  ended at once by a second signal")]
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
#[command(after_help = "\
Requests take the path that they take in `serve`, plugins included; only HTTP is left out. Nothing else should run on
the machine. The first text of a prompt is what its reader waits for; prefill and decode are the engine's own times.")]
pub(crate) struct Bench {
    /// Lengths of prompts to answer one at a time, in tokens
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "32,512,2048")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) prompt_tokens: Vec<u32>,

    /// Numbers of streams to answer side by side; the largest is the concurrency that the model is loaded for
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_value = "1,4,8")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) streams: Vec<u32>,

    /// Tokens of each answer
    #[arg(long, value_name = "TOKENS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) answer_tokens: u32,

    /// How often each figure is taken; the median is shown
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    /// One JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) settings: SettingsArguments,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SettingsArguments {
    /// Configuration file (TOML)
    #[arg(long, env = "OUTRIGGER_CONFIG", value_name = "FILE", long_help = format!("Configuration file (TOML)\n\n{PRECEDENCE}"))]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) said: Said,
}

/// What the commands around the model store may be told.
#[expect(clippy::doc_markdown, reason = "the comments are the texts of --help, shown as they are")]
#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    /// Configuration file (TOML); of its keys those about the model store count
    #[arg(long, env = "OUTRIGGER_CONFIG", value_name = "FILE", help_heading = "Model store")]
    pub(crate) config: Option<PathBuf>,

    /// Folder of downloaded models, as <org>/<model>/<revision>/ [default: ~/.outrigger/models]
    #[arg(long, env = "OUTRIGGER_MODELS_DIR", value_name = "DIR", help_heading = "Model store")]
    pub(crate) models_dir: Option<PathBuf>,

    /// Hub to download from [default: $HF_ENDPOINT or huggingface.co]
    #[arg(long, env = "OUTRIGGER_HF_ENDPOINT", value_name = "URL", help_heading = "Model store")]
    pub(crate) hf_endpoint: Option<String>,

    /// Use no network [default: $HF_HUB_OFFLINE or false]
    #[arg(long, env = "OUTRIGGER_OFFLINE", value_name = "BOOL", help_heading = "Model store")]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) offline: Option<bool>,

    /// File of further certificate authorities (PEM) to trust; may be given several times
    #[arg(long = "ca-file", env = "OUTRIGGER_CA_FILES", value_name = "FILE", value_delimiter = ',')]
    #[arg(help_heading = "Model store")]
    pub(crate) ca_files: Option<Vec<PathBuf>>,

    /// Take no token from HF_TOKEN or the Hugging Face CLI's files: only the configuration's `hf_token` [default: false]
    #[arg(long, env = "OUTRIGGER_REQUIRE_EXPLICIT_TOKEN", value_name = "BOOL", help_heading = "Model store")]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) require_explicit_token: Option<bool>,

    /// Form of the log on standard error: auto, text or json [default: auto: text on a terminal, json elsewhere]
    #[arg(long, env = "OUTRIGGER_LOG_FORMAT", value_name = "FORMAT", help_heading = "Log", value_parser = log_format)]
    pub(crate) log_format: Option<LogFormat>,

    /// What to log on standard error, as LEVEL or TARGET=LEVEL,… [default: info, on a terminal warn]
    #[arg(long, env = "OUTRIGGER_LOG", value_name = "FILTER", help_heading = "Log")]
    pub(crate) log: Option<String>,
}

const TOKENS: &str = "\
A token for private and gated models is taken from the configuration's `hf_token`, HF_TOKEN, HF_HUB_TOKEN,
HUGGING_FACE_HUB_TOKEN, the file that HF_TOKEN_PATH names, or what the Hugging Face CLI stored (`hf auth login`).
Proxies are taken from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.";

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  outrigger pull bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M
  outrigger pull org/model/path/model-00001-of-00003.gguf@8c1f2f0e…   a file, all its shards, at a commit
  outrigger pull org/model --update                                  what `main` is now

An interrupted download goes on where it was; every file is checked against the hub's digest before it is used.
{TOKENS}"))]
pub(crate) struct Pull {
    /// org/model[:QUANT | /path/file.gguf][@revision]
    #[arg(value_name = "REF")]
    pub(crate) model: String,

    /// Ask the hub what the revision is now; without this, what was downloaded stays as it is
    #[arg(long)]
    pub(crate) update: bool,

    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// One JSON object per model and line, for programs
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit code 1 when a file is not what it should be; `outrigger pull` then fetches it anew.")]
pub(crate) struct Verify {
    /// org/model[:QUANT | /path/file.gguf][@revision] [default: all models]
    #[arg(value_name = "REF")]
    pub(crate) model: Option<String>,

    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// org/model[:QUANT | /path/file.gguf][@revision]; without QUANT and path, all files of the revision
    #[arg(value_name = "REF")]
    pub(crate) model: String,

    /// Also when a running process uses it
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "What a running process uses is never deleted.")]
pub(crate) struct Prune {
    /// Size that all models together may have, such as 20GB or 20GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: ByteSize,

    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

#[expect(clippy::doc_markdown, reason = "the comments are the texts of --help, shown as they are")]
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A downloaded model's REF, file:PATH, or the path of a GGUF
    #[arg(value_name = "REF|PATH")]
    pub(crate) model: String,

    /// Tokens that one request may hold [default: what the model was trained for, at most 8192]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) context_length: Option<u32>,

    /// Requests answered at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) max_concurrency: u32,

    /// One JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,

    /// Print how many tokens a text has instead, by the repository's tokenizer.json; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) count: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Takes the configuration, variables and flags of `outrigger serve`, and starts nothing.

  ok     as it should be in production
  note   works, and production would have it otherwise
  fail   `serve` would end with an error

Exit codes: 0 nothing would stop `serve`, 1 something would, 2 wrong usage or configuration.")]
pub(crate) struct Doctor {
    /// One JSON object per check and line, for programs
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) settings: SettingsArguments,
}

/// A size with its unit. `50` would be bytes, and would delete all models of somebody who thinks in gigabytes.
fn size(text: &str) -> Result<ByteSize, String> {
    let text = text.trim();
    if text != "0" && text.ends_with(|last: char| last.is_ascii_digit()) {
        return Err(format!("a size has a unit; write {text}GB or {text}GiB"));
    }
    text.parse().map_err(|_| "it is no size; write for example 20GB or 20GiB".to_owned())
}

impl SettingsArguments {
    /// What was said in flags, environment and file, and what it means.
    pub(crate) fn resolve(self) -> anyhow::Result<Settings> {
        Settings::from_said(self.said.or_file(self.config.as_deref())?)
    }
}

impl StoreArguments {
    /// What was said in flags, environment and file about the model store, and what it means.
    pub(crate) fn resolve(self) -> anyhow::Result<StoreSettings> {
        let Self { config, models_dir, hf_endpoint, offline, ca_files, require_explicit_token, log_format, log } = self;
        let said = Said {
            models_dir,
            hf_endpoint,
            offline,
            ca_files,
            require_explicit_token,
            log_format,
            log,
            ..Said::default()
        };
        StoreSettings::from_said(&said.or_file(config.as_deref())?)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_size_has_a_unit() {
        let check = |text: &str, expected: Result<u64, &str>| {
            assert_eq!(size(text).map(|size| size.as_u64()), expected.map_err(str::to_owned), "{text}");
        };
        check("50GB", Ok(50_000_000_000));
        check("1.5 GiB", Ok(1_610_612_736));
        check("1B", Ok(1));
        check("0", Ok(0));
        check("50", Err("a size has a unit; write 50GB or 50GiB"));
        for text in ["", "-5GB", "5XB", "many", "NaN"] {
            check(text, Err("it is no size; write for example 20GB or 20GiB"));
        }
    }

    /// What a pod's environment says of the store and the log holds for every command that has to do with them.
    #[test]
    fn the_commands_of_the_store_are_told_what_the_server_is_told() {
        let keys = |command: &str| {
            let cli = Cli::command();
            let command = cli.find_subcommand(command).expect("a command");
            let of_the_store = command.get_arguments().filter(|argument| {
                matches!(argument.get_help_heading(), Some("Model store" | "Log")) && argument.get_id() != "config"
            });
            let mut keys: Vec<_> =
                of_the_store.map(|it| (it.get_id().to_string(), it.get_env().map(ToOwned::to_owned))).collect();
            keys.sort();
            keys
        };
        assert_eq!(keys("pull"), keys("serve"));
        assert!(keys("pull").len() > 5);
    }
}
