//! `model`: one by its reference, or `[[model]]` tables of several; and what can be said of each.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use llama::{Cpus, KvType};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{ConfigLines, ContextLength, Said};

/// What the file says of `model`.
#[derive(Debug, Default, Clone)]
pub(crate) enum ModelsSaid {
    /// Nothing.
    #[default]
    Nothing,
    /// `model = "REF"`.
    One(String),
    /// `[[model]]` tables.
    Several(Vec<ModelTable>),
}

/// One `[[model]]` table. What it does not say is as the keys of the same names above it say.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelTable {
    /// Name that requests use for it; the top level calls it `model_id`.
    pub(crate) id: Option<String>,
    /// Its reference; the top level calls it `model`.
    pub(crate) from: Option<String>,
    #[serde(deserialize_with = "super::compute::deserialize_name")]
    pub(crate) load: Option<Load>,
    pub(crate) idle_unload_seconds: Option<u64>,
    pub(crate) context_length: Option<ContextLength>,
    #[serde(deserialize_with = "super::compute::deserialize_name")]
    pub(crate) kv_cache_type: Option<KvType>,
    pub(crate) threads: Option<u32>,
    #[serde(deserialize_with = "super::compute::deserialize_name")]
    pub(crate) cpus: Option<Cpus>,
    pub(crate) gpu_layers: Option<u32>,
    pub(crate) main_gpu: Option<u32>,
    pub(crate) max_concurrency: Option<u32>,
    pub(crate) prefix_cache_size: Option<ByteSize>,
    pub(crate) draft_max: Option<u32>,
    pub(crate) warm_prompts: Option<Vec<String>>,
    pub(crate) queue_max: Option<u32>,
    pub(crate) queue_tokens_max: Option<u64>,
    pub(crate) queue_wait_seconds: Option<u64>,
    pub(crate) requests_per_minute_limit: Option<u32>,
    pub(crate) request_timeout_seconds: Option<u64>,
    /// Where the file says it.
    #[serde(skip)]
    pub(crate) lines: ConfigLines,
}

impl ModelTable {
    /// What `said` says of a model. Neither which it is, nor what belongs to one model's conversations.
    pub(crate) fn of(said: &Said) -> Self {
        Self {
            id: None,
            from: None,
            load: said.load,
            idle_unload_seconds: said.idle_unload_seconds,
            context_length: said.context_length,
            kv_cache_type: said.kv_cache_type,
            threads: said.threads,
            cpus: said.cpus.clone(),
            gpu_layers: said.gpu_layers,
            main_gpu: said.main_gpu,
            max_concurrency: said.max_concurrency,
            prefix_cache_size: said.prefix_cache_size,
            draft_max: said.draft_max,
            warm_prompts: None,
            queue_max: said.queue_max,
            queue_tokens_max: said.queue_tokens_max,
            queue_wait_seconds: said.queue_wait_seconds,
            requests_per_minute_limit: said.requests_per_minute_limit,
            request_timeout_seconds: said.request_timeout_seconds,
            lines: ConfigLines::default(),
        }
    }

    /// What this says, completed by `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            id: self.id.or(other.id),
            from: self.from.or(other.from),
            load: self.load.or(other.load),
            idle_unload_seconds: self.idle_unload_seconds.or(other.idle_unload_seconds),
            context_length: self.context_length.or(other.context_length),
            kv_cache_type: self.kv_cache_type.or(other.kv_cache_type),
            threads: self.threads.or(other.threads),
            cpus: self.cpus.or(other.cpus),
            gpu_layers: self.gpu_layers.or(other.gpu_layers),
            main_gpu: self.main_gpu.or(other.main_gpu),
            max_concurrency: self.max_concurrency.or(other.max_concurrency),
            prefix_cache_size: self.prefix_cache_size.or(other.prefix_cache_size),
            draft_max: self.draft_max.or(other.draft_max),
            warm_prompts: self.warm_prompts.or(other.warm_prompts),
            queue_max: self.queue_max.or(other.queue_max),
            queue_tokens_max: self.queue_tokens_max.or(other.queue_tokens_max),
            queue_wait_seconds: self.queue_wait_seconds.or(other.queue_wait_seconds),
            requests_per_minute_limit: self.requests_per_minute_limit.or(other.requests_per_minute_limit),
            request_timeout_seconds: self.request_timeout_seconds.or(other.request_timeout_seconds),
            lines: if self.lines == ConfigLines::default() { other.lines } else { self.lines },
        }
    }
}

/// When a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Before the host is ready, downloaded if need be.
    Start,
    /// When the first request asks for it.
    FirstUse,
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self::Start),
            "first-use" => Ok(Self::FirstUse),
            _ => Err(format!("`{text}` is no time to load a model; start and first-use are")),
        }
    }
}

impl<'de> Deserialize<'de> for ModelsSaid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReferenceOrTables;

        impl<'de> Visitor<'de> for ReferenceOrTables {
            type Value = ModelsSaid;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a model's reference in quotes, or [[model]] tables (two brackets)")
            }

            fn visit_str<E: Error>(self, reference: &str) -> Result<ModelsSaid, E> {
                Ok(ModelsSaid::One(reference.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, tables: A) -> Result<ModelsSaid, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(tables)).map(ModelsSaid::Several)
            }
        }

        deserializer.deserialize_any(ReferenceOrTables)
    }
}
