//! What was said: every key as a flag, an environment variable and a key of the configuration file.
//!
//! One struct serves all three, so that a key cannot exist in one place and be missing in another. A flag wins over
//! the environment, the environment over the file, the file over the default.
#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the comments of arguments are the texts of --help"
)]

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use bytesize::ByteSize;
use clap::Args;
use llama::{Cpus, DeviceChoice, KvType};
use serde::Deserialize;
use telemetry::logging::LogFormat;

use super::lines::{config_lines, model_lines};
use super::listen::FileMode;
use super::model::{Load, ModelTable, ModelsSaid};
use super::{ContextLength, PluginTable, SecretText};

/// Every key, each perhaps unsaid.
#[expect(clippy::doc_markdown, reason = "the comments are the texts of --help, shown as they are")]
#[derive(Debug, Default, Clone, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Said {
    /// Model to serve: org/model[:QUANT][@revision] of the Hugging Face Hub, or file:PATH of a GGUF
    ///
    /// org/model/path/file.gguf names a file of a repository. Without a quantisation Q4_K_M is preferred; without a
    /// revision `main` is meant, as it was when it was first downloaded.
    /// A name that a [[model]] table of the configuration file bears selects that table. Given at all, the flag replaces
    /// the file's tables.
    #[arg(long, env = "OUTRIGGER_MODEL", value_name = "REF", help_heading = "Model")]
    #[serde(skip)]
    pub(crate) model: Option<String>,

    /// `model` of the file: a reference, or `[[model]]` tables, which only a file can say.
    #[arg(skip)]
    #[serde(rename = "model")]
    pub(crate) models: ModelsSaid,

    /// Name that requests use for the model [default: org/model[:QUANT], or the file's name without .gguf]
    #[arg(long, env = "OUTRIGGER_MODEL_ID", value_name = "NAME", help_heading = "Model")]
    pub(crate) model_id: Option<String>,

    /// Tokens that one request may hold, prompt and answer together, or auto: as many as memory holds [default: what the
    /// model was trained for, at most 8192]
    #[arg(long, env = "OUTRIGGER_CONTEXT_LENGTH", value_name = "TOKENS|auto", help_heading = "Model")]
    pub(crate) context_length: Option<ContextLength>,

    /// What keys and values are kept as: f16, or q8_0 and q4_0, which take half and a quarter of the memory, are less exact
    /// and make the processor read long prompts more slowly [default: f16]
    #[arg(long, env = "OUTRIGGER_KV_CACHE_TYPE", value_name = "TYPE", help_heading = "Model")]
    #[serde(deserialize_with = "super::compute::deserialize_name")]
    pub(crate) kv_cache_type: Option<KvType>,

    /// Download and load the model before the server reports ready; otherwise a model that is not there yet is
    /// downloaded when the first request asks for it [default: false]
    #[arg(long, env = "OUTRIGGER_INITIAL_LOAD", value_name = "BOOL", help_heading = "Model")]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) initial_load: Option<bool>,

    /// When the model is loaded: start, downloaded if need be before the server reports ready; or first-use, when a request
    /// asks for it [default: at the start what is there, and at first use what must be downloaded]
    #[arg(long, env = "OUTRIGGER_LOAD", value_name = "WHEN", help_heading = "Model")]
    #[serde(deserialize_with = "super::compute::deserialize_name")]
    pub(crate) load: Option<Load>,

    /// Free the model when nobody has asked for anything for so long; the next request loads it again [default: never]
    #[arg(long, env = "OUTRIGGER_IDLE_UNLOAD_SECONDS", value_name = "SECONDS", help_heading = "Model")]
    pub(crate) idle_unload_seconds: Option<u64>,

    /// Threads that compute; models that compute at the same time divide them [default: the processors that the cgroup grants]
    #[arg(long, env = "OUTRIGGER_THREADS", value_name = "COUNT", help_heading = "Model")]
    pub(crate) threads: Option<u32>,

    /// The only processors that compute, such as 0-3,8; everything else of the host runs where the system puts it
    /// [default: all that the process may use]
    #[arg(long, env = "OUTRIGGER_CPUS", value_name = "LIST", help_heading = "Model")]
    #[serde(deserialize_with = "super::compute::deserialize_name")]
    pub(crate) cpus: Option<Cpus>,

    /// What computes: auto, cuda, metal, rocm, vulkan or cpu. auto takes the first in this order that has a device; a
    /// device that is named and missing is an error [default: auto]
    #[arg(long, env = "OUTRIGGER_DEVICE", value_name = "DEVICE", help_heading = "Device")]
    #[serde(deserialize_with = "super::compute::deserialize_name")]
    pub(crate) device: Option<DeviceChoice>,

    /// Layers that the GPU computes, of which one is the output; the processor computes the rest [default: as many as the
    /// GPU's memory holds]
    #[arg(long, env = "OUTRIGGER_GPU_LAYERS", value_name = "COUNT", help_heading = "Device")]
    pub(crate) gpu_layers: Option<u32>,

    /// The only GPU to use, counted from 0 [default: all, each with as many layers as its free memory suggests]
    #[arg(long, env = "OUTRIGGER_MAIN_GPU", value_name = "NUMBER", help_heading = "Device")]
    pub(crate) main_gpu: Option<u32>,

    /// Folder of llama.cpp's modules, libggml-*.so [default: lib/outrigger beside the folder of the executable]
    #[arg(long, env = "OUTRIGGER_BACKENDS_DIR", value_name = "DIR", help_heading = "Device")]
    pub(crate) backends_dir: Option<PathBuf>,

    /// Folder of downloaded models, as <org>/<model>/<revision>/ [default: ~/.outrigger/models]
    #[arg(long, env = "OUTRIGGER_MODELS_DIR", value_name = "DIR", help_heading = "Model store")]
    pub(crate) models_dir: Option<PathBuf>,

    /// Hub to download from [default: $HF_ENDPOINT or huggingface.co]
    #[arg(long, env = "OUTRIGGER_HF_ENDPOINT", value_name = "URL", help_heading = "Model store")]
    pub(crate) hf_endpoint: Option<String>,

    /// Use no network: what is not in the models folder is an error [default: $HF_HUB_OFFLINE or false]
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

    /// The token for private and gated models. Only a file can say it: a command line is for everybody to read.
    #[arg(skip)]
    pub(crate) hf_token: Option<SecretText>,

    /// R2: an alias of `hf_token`.
    #[arg(skip)]
    pub(crate) token: Option<SecretText>,

    /// R2: another one.
    #[arg(skip)]
    pub(crate) huggingface_token: Option<SecretText>,

    /// Requests answered at the same time; each takes its own share of memory [default: 1]
    #[arg(long, env = "OUTRIGGER_MAX_CONCURRENCY", value_name = "COUNT", help_heading = "Capacity")]
    pub(crate) max_concurrency: Option<u32>,

    /// Host memory for the beginnings of prompts that no place has room for any more, so that they need not be computed
    /// again, such as 1GiB; 0: none [default: 256MiB, or what memory is left]
    #[arg(long, env = "OUTRIGGER_PREFIX_CACHE_SIZE", value_name = "SIZE", help_heading = "Capacity")]
    pub(crate) prefix_cache_size: Option<ByteSize>,

    /// Tokens guessed ahead where an answer repeats its prompt or itself, and checked in one step; they never change what
    /// is answered; 0: none [default: 16]
    #[arg(long, env = "OUTRIGGER_DRAFT_MAX", value_name = "TOKENS", help_heading = "Capacity")]
    pub(crate) draft_max: Option<u32>,

    /// System prompts that conversations begin with: computed at the start, so that no request waits for that. Only a file
    /// can say them.
    #[arg(skip)]
    pub(crate) warm_prompts: Vec<String>,

    /// Requests that may wait for a free place; one more is answered 503 [default: 64]
    #[arg(long, env = "OUTRIGGER_QUEUE_MAX", value_name = "COUNT", help_heading = "Capacity")]
    pub(crate) queue_max: Option<u32>,

    /// Tokens of the prompts of all requests that wait, about; a request that waits alone may be longer [default: 262144]
    #[arg(long, env = "OUTRIGGER_QUEUE_TOKENS_MAX", value_name = "TOKENS", help_heading = "Capacity")]
    pub(crate) queue_tokens_max: Option<u64>,

    /// How long a request may wait for its place [default: 30]
    #[arg(long, env = "OUTRIGGER_QUEUE_WAIT_SECONDS", value_name = "SECONDS", help_heading = "Capacity")]
    pub(crate) queue_wait_seconds: Option<u64>,

    /// Requests a minute; so many may come at once, one more is answered 429 [default: as many as come]
    #[arg(long, env = "OUTRIGGER_REQUESTS_PER_MINUTE_LIMIT", value_name = "COUNT", help_heading = "Capacity")]
    pub(crate) requests_per_minute_limit: Option<u32>,

    /// How long a request may take, from its arrival to the end of its answer; a client may ask for less with the header
    /// X-Request-Timeout [default: 600]
    #[arg(long, env = "OUTRIGGER_REQUEST_TIMEOUT_SECONDS", value_name = "SECONDS", help_heading = "Capacity")]
    pub(crate) request_timeout_seconds: Option<u64>,

    /// Connections at once, each up to 148 KiB of memory, idle ones a tenth of that; the next one waits until one closes
    /// [default: 512]
    #[arg(long, env = "OUTRIGGER_CONNECTIONS_MAX", value_name = "COUNT", help_heading = "Capacity")]
    pub(crate) connections_max: Option<u32>,

    /// The header that tells callers apart, who share places and queue fairly [default: X-Gateway-Inference-Fairness-Id]
    #[arg(long, env = "OUTRIGGER_CALLER_HEADER", value_name = "NAME", help_heading = "Capacity")]
    pub(crate) caller_header: Option<String>,

    /// Plugin to use: a bundled one by name (redact), or the path of a component; may be given several times
    ///
    /// A name that a [[plugin]] table of the configuration file bears selects that table. Given at all, the flag
    /// replaces the file's list. `chat-template` is always there unless another plugin renders prompts.
    #[arg(long = "plugin", env = "OUTRIGGER_PLUGIN", value_name = "NAME|PATH", value_delimiter = ',')]
    #[arg(help_heading = "Plugins")]
    #[serde(skip)]
    pub(crate) plugin_names: Option<Vec<String>>,

    /// `[[plugin]]` tables: only a file can say as much.
    #[arg(skip)]
    #[serde(rename = "plugin")]
    pub(crate) plugin_tables: Vec<PluginTable>,

    /// Keys of which one must have signed what `outrigger plugin pull` takes, as `ed25519:…`. Only a file can say them.
    #[arg(skip)]
    pub(crate) trusted_keys: Vec<String>,

    /// Threads that run plugins [default: a quarter of the processors, 2 to 4]
    #[arg(long, env = "OUTRIGGER_PLUGIN_WORKERS", value_name = "COUNT", help_heading = "Plugins")]
    pub(crate) plugin_workers: Option<u32>,

    /// Load the plugins anew when a file that they were read from changes, the configuration included [default: false]
    ///
    /// SIGHUP and POST /admin/plugins/reload do so at any time. New plugins take over only when all of them load.
    #[arg(long, env = "OUTRIGGER_PLUGIN_WATCH", value_name = "BOOL", help_heading = "Plugins")]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) plugin_watch: Option<bool>,

    /// Folder for what can be made again, such as compiled plugins [default: $XDG_CACHE_HOME/outrigger or
    /// ~/.cache/outrigger]
    #[arg(long, env = "OUTRIGGER_CACHE_DIR", value_name = "DIR", help_heading = "Plugins")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Address and port to listen on, or unix:PATH for a Unix socket; may be given several times [default: 127.0.0.1:8484]
    ///
    /// An address that other machines reach needs TLS, and keys or certificates of clients.
    #[arg(
        long,
        env = "OUTRIGGER_LISTEN",
        value_name = "ADDRESS|unix:PATH",
        value_delimiter = ',',
        help_heading = "Server"
    )]
    #[serde(deserialize_with = "super::listen::deserialize_places")]
    pub(crate) listen: Option<Vec<String>>,

    /// Further address that answers probes and /metrics, and nothing else; it tells no content and needs no key, so other
    /// machines may reach it [default: none]
    #[arg(long, env = "OUTRIGGER_PROBE_LISTEN", value_name = "ADDRESS", help_heading = "Server")]
    pub(crate) probe_listen: Option<String>,

    /// File of the keys that clients need, one to a line, perhaps after the name of whoever it is for; read again when it
    /// changes [default: none is needed]
    #[arg(long, env = "OUTRIGGER_API_KEYS_FILE", value_name = "FILE", help_heading = "Server")]
    pub(crate) api_keys_file: Option<PathBuf>,

    /// Certificate of the server, with those that lead to its authority (PEM); read again when it changes
    #[arg(long, env = "OUTRIGGER_TLS_CERT_FILE", value_name = "FILE", help_heading = "Server")]
    pub(crate) tls_cert_file: Option<PathBuf>,

    /// Key of that certificate (PEM)
    #[arg(long, env = "OUTRIGGER_TLS_KEY_FILE", value_name = "FILE", help_heading = "Server")]
    pub(crate) tls_key_file: Option<PathBuf>,

    /// Authorities (PEM), one of which must have signed a client's certificate [default: clients need none]
    #[arg(long, env = "OUTRIGGER_TLS_CLIENT_CA_FILE", value_name = "FILE", help_heading = "Server")]
    pub(crate) tls_client_ca_file: Option<PathBuf>,

    /// Mode of Unix sockets, in octal digits [default: 0600]
    #[arg(long, env = "OUTRIGGER_SOCKET_MODE", value_name = "MODE", help_heading = "Server")]
    #[serde(deserialize_with = "super::compute::deserialize_name")]
    pub(crate) socket_mode: Option<FileMode>,

    /// User who may connect to a Unix socket, by number; may be given several times [default: the host's own, and root]
    #[arg(long = "allowed-uid", env = "OUTRIGGER_ALLOWED_UIDS", value_name = "UID", value_delimiter = ',')]
    #[arg(help_heading = "Server")]
    pub(crate) allowed_uids: Option<Vec<u32>>,

    /// Listen on an address that other machines reach without a key, without TLS or without both
    #[arg(long, env = "OUTRIGGER_LISTEN_INSECURE", value_name = "BOOL", help_heading = "Server")]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) listen_insecure: Option<bool>,

    /// Host name that requests may be addressed to beside localhost; may be given several times
    #[arg(long = "allowed-host", env = "OUTRIGGER_ALLOWED_HOSTS", value_name = "HOST", value_delimiter = ',')]
    #[arg(help_heading = "Server")]
    pub(crate) allowed_hosts: Option<Vec<String>>,

    /// Answer /admin/plugins, to connections over a loopback address only [default: true]
    #[arg(long, env = "OUTRIGGER_ADMIN", value_name = "BOOL", help_heading = "Server")]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) admin: Option<bool>,

    /// How long the engine may go without ending a step, while there is work, before /livez says that it is stalled [default:
    /// 300]
    #[arg(long, env = "OUTRIGGER_STALL_SECONDS", value_name = "SECONDS", help_heading = "Server")]
    pub(crate) stall_seconds: Option<u64>,

    /// How long running answers may take to finish after SIGTERM or Ctrl-C [default: 30]
    #[arg(long, env = "OUTRIGGER_DRAIN_SECONDS", value_name = "SECONDS", help_heading = "Server")]
    pub(crate) drain_seconds: Option<u64>,

    /// Form of the log on standard error: auto, text or json [default: auto: text on a terminal, json elsewhere]
    #[arg(long, env = "OUTRIGGER_LOG_FORMAT", value_name = "FORMAT", help_heading = "Log", value_parser = log_format)]
    #[serde(deserialize_with = "deserialize_log_format")]
    pub(crate) log_format: Option<LogFormat>,

    /// What to log, as LEVEL or TARGET=LEVEL,… such as info,engine=debug [default: info]
    #[arg(long, env = "OUTRIGGER_LOG", value_name = "FILTER", help_heading = "Log")]
    pub(crate) log: Option<String>,
}

impl Said {
    /// What flags and environment said (`self`), completed by the file at `path`.
    pub(crate) fn or_file(self, path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(self) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        Ok(self.or(Self::from_toml(&text).with_context(|| format!("cannot use the configuration {}", path.display()))?))
    }

    /// The error names the line and the key. It does not show the line, nor what is wrong with the value of a key that
    /// holds a token.
    fn from_toml(text: &str) -> anyhow::Result<Self> {
        let place = |error: &toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            format!("line {}", before.matches('\n').count() + 1)
        };
        let toml = toml::Deserializer::parse(text)
            .map_err(|error| anyhow!("{}: {}", place(&error), error.message().trim_end()))?;
        let said: Result<Self, _> = serde_path_to_error::deserialize(toml);
        let mut said = said.map_err(|error| {
            let (key, error) = (error.path().to_string(), error.inner());
            let place = place(error);
            match key.as_str() {
                "hf_token" | "token" | "huggingface_token" => anyhow!("{place}: `{key}` is not a text in quotes"),
                key if key == "." || error.message().contains(key) => {
                    anyhow!("{place}: {}", error.message().trim_end())
                }
                key => anyhow!("{place}: `{key}`: {}", error.message().trim_end()),
            }
        })?;
        for (table, lines) in said.plugin_tables.iter_mut().zip(config_lines(text)) {
            table.config_lines = lines;
        }
        if let ModelsSaid::Several(tables) = &mut said.models {
            for (table, lines) in tables.iter_mut().zip(model_lines(text)) {
                table.lines = lines;
            }
        }
        Ok(said)
    }

    fn or(self, file: Self) -> Self {
        let models = match file.models {
            // What a flag says holds for every model, whatever its table says.
            ModelsSaid::Several(tables) => {
                let flags = ModelTable::of(&self);
                ModelsSaid::Several(tables.into_iter().map(|table| flags.clone().or(table)).collect())
            }
            // What was completed by a file before.
            ModelsSaid::Nothing => self.models,
            one @ ModelsSaid::One(_) => one,
        };
        Self {
            model: self.model,
            models,
            model_id: self.model_id.or(file.model_id),
            context_length: self.context_length.or(file.context_length),
            kv_cache_type: self.kv_cache_type.or(file.kv_cache_type),
            initial_load: self.initial_load.or(file.initial_load),
            load: self.load.or(file.load),
            idle_unload_seconds: self.idle_unload_seconds.or(file.idle_unload_seconds),
            threads: self.threads.or(file.threads),
            cpus: self.cpus.or(file.cpus),
            device: self.device.or(file.device),
            gpu_layers: self.gpu_layers.or(file.gpu_layers),
            main_gpu: self.main_gpu.or(file.main_gpu),
            backends_dir: self.backends_dir.or(file.backends_dir),
            models_dir: self.models_dir.or(file.models_dir),
            hf_endpoint: self.hf_endpoint.or(file.hf_endpoint),
            offline: self.offline.or(file.offline),
            ca_files: self.ca_files.or(file.ca_files),
            require_explicit_token: self.require_explicit_token.or(file.require_explicit_token),
            hf_token: file.hf_token,
            token: file.token,
            huggingface_token: file.huggingface_token,
            max_concurrency: self.max_concurrency.or(file.max_concurrency),
            prefix_cache_size: self.prefix_cache_size.or(file.prefix_cache_size),
            draft_max: self.draft_max.or(file.draft_max),
            warm_prompts: file.warm_prompts,
            queue_max: self.queue_max.or(file.queue_max),
            queue_tokens_max: self.queue_tokens_max.or(file.queue_tokens_max),
            queue_wait_seconds: self.queue_wait_seconds.or(file.queue_wait_seconds),
            requests_per_minute_limit: self.requests_per_minute_limit.or(file.requests_per_minute_limit),
            request_timeout_seconds: self.request_timeout_seconds.or(file.request_timeout_seconds),
            connections_max: self.connections_max.or(file.connections_max),
            caller_header: self.caller_header.or(file.caller_header),
            plugin_names: self.plugin_names,
            plugin_tables: file.plugin_tables,
            trusted_keys: file.trusted_keys,
            plugin_workers: self.plugin_workers.or(file.plugin_workers),
            plugin_watch: self.plugin_watch.or(file.plugin_watch),
            cache_dir: self.cache_dir.or(file.cache_dir),
            listen: self.listen.or(file.listen),
            probe_listen: self.probe_listen.or(file.probe_listen),
            api_keys_file: self.api_keys_file.or(file.api_keys_file),
            tls_cert_file: self.tls_cert_file.or(file.tls_cert_file),
            tls_key_file: self.tls_key_file.or(file.tls_key_file),
            tls_client_ca_file: self.tls_client_ca_file.or(file.tls_client_ca_file),
            socket_mode: self.socket_mode.or(file.socket_mode),
            allowed_uids: self.allowed_uids.or(file.allowed_uids),
            stall_seconds: self.stall_seconds.or(file.stall_seconds),
            listen_insecure: self.listen_insecure.or(file.listen_insecure),
            allowed_hosts: self.allowed_hosts.or(file.allowed_hosts),
            admin: self.admin.or(file.admin),
            drain_seconds: self.drain_seconds.or(file.drain_seconds),
            log_format: self.log_format.or(file.log_format),
            log: self.log.or(file.log),
        }
    }
}

/// The form of the log that a text names.
pub(crate) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` is not a log format; auto, text and json are")),
    }
}

fn deserialize_log_format<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<LogFormat>, D::Error> {
    let text = String::deserialize(deserializer)?;
    log_format(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
