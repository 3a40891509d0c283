//! Which part of a model a device holds, and which the machine.
//!
//! llama.cpp puts the last layers on the devices and the output first of all (`llama-model.cpp: load_tensors`): of
//! `gpu_layers` one is the output. Keys and values lie with their layer. What is looked up by token (`token_embd`) stays with
//! the machine; a model that uses it for its output as well has a copy on the device.

use super::largest;
use crate::footprint::{Footprint, Shape, Workload};

/// What one kind of memory holds of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Tensors.
    pub weights_bytes: u64,
    /// Keys and values, or states.
    pub kv_bytes: u64,
    /// What a batch needs, and its logits.
    pub compute_bytes: u64,
    /// The process around it.
    pub process_bytes: u64,
}

impl Share {
    /// All of it.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        [self.weights_bytes, self.kv_bytes, self.compute_bytes, self.process_bytes]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// A model, divided between devices and the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// What the whole of it takes.
    pub footprint: Footprint,
    /// Layers on the devices, the output's counted as one.
    pub layers: u32,
    /// How many there are.
    pub layers_total: u32,
    /// What the devices hold together.
    pub device: Share,
    /// What the machine holds.
    pub host: Share,
}

impl Placement {
    /// The last `layers` on the devices, the rest with the machine.
    pub(crate) fn of(shape: &Shape, workload: &Workload, layers: u32) -> Self {
        let footprint = Footprint::of_shape(shape, workload);
        let layers_total = shape.layers_with_output();
        let layers = layers.min(layers_total);
        let whole = Share {
            weights_bytes: footprint.weights_bytes,
            kv_bytes: footprint.kv_bytes,
            compute_bytes: footprint.compute_bytes,
            process_bytes: footprint.process_bytes,
        };
        if layers == 0 {
            return Self { footprint, layers, layers_total, device: Share::default(), host: whole };
        }
        let (weights, copied) = shape.weights_of_last(layers);
        let kv_bytes = footprint.kv_of_last(shape, workload, layers);
        let device = Share {
            weights_bytes: weights.saturating_add(copied),
            kv_bytes,
            compute_bytes: footprint.compute_bytes,
            process_bytes: 0,
        };
        let host = Share {
            weights_bytes: footprint.weights_bytes.saturating_sub(weights),
            kv_bytes: footprint.kv_bytes.saturating_sub(kv_bytes),
            // Where both compute, both have buffers; where the devices compute all, their logits still come here.
            compute_bytes: if layers == layers_total {
                Footprint::logits_bytes(shape, workload)
            } else {
                footprint.compute_bytes
            },
            process_bytes: footprint.process_bytes,
        };
        Self { footprint, layers, layers_total, device, host }
    }
}

/// The most layers, of at least one, for which `fits`.
pub(super) fn most_layers(layers_total: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    largest(layers_total.saturating_add(1), fits)
}
