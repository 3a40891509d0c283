//! The list of models in OpenAI's form, with what is ours.

use inference::{DeviceFacts, ModelCard};
use schemars::JsonSchema;
use serde::Serialize;

use crate::service::Capability;

/// `GET /v1/models`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelList")]
pub(crate) struct ModelList<'a> {
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    data: Vec<ModelObject<'a>>,
}

impl<'a> ModelList<'a> {
    /// The loaded models, and the name of one that is still to come.
    pub(crate) fn new(
        models: &'a [(ModelCard, Capability)],
        device: Option<&'a DeviceFacts>,
        expected: Option<&'a str>,
    ) -> Self {
        let loaded = models.iter().map(|model| ModelObject::new(model, device));
        Self { object: "list", data: loaded.chain(expected.map(ModelObject::expected)).collect() }
    }
}

/// `GET /v1/models/{id}`. R13: `revision` says what a moving name resolved to.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Model")]
pub(crate) struct ModelObject<'a> {
    id: &'a str,
    #[schemars(extend("const" = "model"))]
    object: &'static str,
    created: u64,
    #[schemars(extend("const" = "outrigger"))]
    owned_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<ModelFacts<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelFacts")]
struct ModelFacts<'a> {
    revision: &'a str,
    architecture: &'a str,
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
    device: Option<DeviceObject<'a>>,
}

/// R16, R27: what computes, and why not something faster.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Device")]
struct DeviceObject<'a> {
    backend: &'a str,
    devices: &'a [String],
    cpu_variant: &'a str,
    layers: u32,
    layers_total: u32,
    skipped: Vec<SkippedObject<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SkippedDevice")]
struct SkippedObject<'a> {
    backend: &'a str,
    reason: &'a str,
}

impl<'a> DeviceObject<'a> {
    fn new(facts: &'a DeviceFacts) -> Self {
        let DeviceFacts { backend, devices, cpu_variant, layers, layers_total, skipped } = facts;
        Self {
            backend,
            devices,
            cpu_variant,
            layers: *layers,
            layers_total: *layers_total,
            skipped: skipped.iter().map(|(backend, reason)| SkippedObject { backend, reason }).collect(),
        }
    }
}

impl<'a> ModelObject<'a> {
    pub(crate) fn new((card, capability): &'a (ModelCard, Capability), device: Option<&'a DeviceFacts>) -> Self {
        let (capability, dimensions) = match *capability {
            Capability::Chat => ("chat", None),
            Capability::Embedding { dimensions } => ("embedding", Some(dimensions)),
            Capability::Rerank => ("rerank", None),
        };
        Self {
            id: &card.id,
            object: "model",
            created: card.created,
            owned_by: "outrigger",
            outrigger: Some(ModelFacts {
                revision: &card.revision,
                architecture: &card.architecture,
                context_length: card.context_length,
                context_length_trained: card.context_length_trained,
                size_bytes: card.size_bytes,
                capability,
                dimensions,
                device: device.map(DeviceObject::new),
            }),
        }
    }

    /// A model that is not loaded yet: only its name is known.
    pub(crate) fn expected(id: &'a str) -> Self {
        Self { id, object: "model", created: 0, owned_by: "outrigger", outrigger: None }
    }
}
