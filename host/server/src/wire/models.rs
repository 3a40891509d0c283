//! The list of models in OpenAI's form, with what is ours.

use inference::{DeviceFacts, ModelCard};
use schemars::JsonSchema;
use serde::Serialize;

use crate::service::Capability;

/// `GET /v1/models`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelList")]
pub(crate) struct ModelList {
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    data: Vec<ModelObject>,
}

impl ModelList {
    /// All models that are served, loaded or not.
    pub(crate) fn new(data: Vec<ModelObject>) -> Self {
        Self { object: "list", data }
    }
}

/// `GET /v1/models/{id}`. R13: `revision` says what a moving name resolved to.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Model")]
pub(crate) struct ModelObject {
    id: String,
    #[schemars(extend("const" = "model"))]
    object: &'static str,
    created: u64,
    #[schemars(extend("const" = "outrigger"))]
    owned_by: &'static str,
    outrigger: ModelFacts,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelFacts")]
struct ModelFacts {
    #[schemars(extend("enum" = ["ready", "on_first_use", "loading", "failed", "draining"]))]
    state: &'static str,
    /// How far it is, or why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What is known once it is loaded.
    #[serde(flatten)]
    loaded: Option<LoadedFacts>,
}

#[derive(Serialize, JsonSchema)]
struct LoadedFacts {
    revision: String,
    architecture: String,
    context_length: u32,
    context_length_trained: u32,
    size_bytes: u64,
    /// What the model can be asked for: `chat`, `embedding` or `rerank`.
    #[schemars(extend("enum" = ["chat", "embedding", "rerank"]))]
    capability: &'static str,
    /// Numbers of a vector, where it makes vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceObject>,
}

/// R16, R27: what computes, and why not something faster.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Device")]
struct DeviceObject {
    backend: String,
    devices: Vec<String>,
    cpu_variant: String,
    layers: u32,
    layers_total: u32,
    skipped: Vec<SkippedObject>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SkippedDevice")]
struct SkippedObject {
    backend: String,
    reason: String,
}

impl DeviceObject {
    fn new(facts: &DeviceFacts) -> Self {
        let DeviceFacts { backend, devices, cpu_variant, layers, layers_total, skipped } = facts.clone();
        let skipped = skipped.into_iter().map(|(backend, reason)| SkippedObject { backend, reason }).collect();
        Self { backend, devices, cpu_variant, layers, layers_total, skipped }
    }
}

impl ModelObject {
    /// A model that is served; `loaded`: what is known of it while it is loaded.
    pub(crate) fn new(
        id: &str,
        state: &'static str,
        reason: Option<String>,
        loaded: Option<(ModelCard, Capability)>,
        device: Option<&DeviceFacts>,
    ) -> Self {
        let created = loaded.as_ref().map_or(0, |(card, _)| card.created);
        let loaded = loaded.map(|(card, capability)| {
            let (capability, dimensions) = match capability {
                Capability::Chat => ("chat", None),
                Capability::Embedding { dimensions } => ("embedding", Some(dimensions)),
                Capability::Rerank => ("rerank", None),
            };
            LoadedFacts {
                revision: card.revision,
                architecture: card.architecture,
                context_length: card.context_length,
                context_length_trained: card.context_length_trained,
                size_bytes: card.size_bytes,
                capability,
                dimensions,
                device: device.map(DeviceObject::new),
            }
        });
        let outrigger = ModelFacts { state, reason, loaded };
        Self { id: id.to_owned(), object: "model", created, owned_by: "outrigger", outrigger }
    }
}
