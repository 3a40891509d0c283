//! What is said when a model does not fit.

use std::fmt;

use super::{Memory, Share};
use crate::footprint::{Basis, Footprint, Workload};

/// A model that a memory does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEnough {
    /// What it would need there, margin and all.
    pub need_bytes: u64,
    /// The memory that is too small; of several the smallest.
    pub memory: Memory,
    /// What it has left.
    pub have_bytes: u64,
    /// What the whole model takes.
    pub footprint: Footprint,
    /// What of it this memory would hold: what the need consists of.
    pub held: Share,
    /// The part of the need that is margin.
    pub margin_bytes: u64,
    /// What it was to be loaded for.
    pub workload: Workload,
    /// Layers that were to be on devices, the output's counted as one.
    pub layers: u32,
    /// Fewer of them that would fit, if any would.
    pub layers_max: Option<u32>,
    /// The largest context length that fits with as many requests at once, if any does.
    pub context_length_max: Option<u32>,
    /// Whether keys and values of 8 bits instead of 16 would make it fit.
    pub quantised_kv_fits: bool,
    /// The most requests at once that fit with this context length, if any do.
    pub sequences_max: Option<u32>,
    /// Whether the weights alone would fit.
    pub weights_fit: bool,
}

impl std::error::Error for NotEnough {}

impl fmt::Display for NotEnough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Share { weights_bytes, kv_bytes, compute_bytes, process_bytes } = self.held;
        let Workload { context_length, sequences, .. } = self.workload;
        write!(
            f,
            "{} {} and {} are left of {}",
            self.what(),
            size(self.need_bytes),
            size(self.have_bytes),
            self.memory
        )?;
        let remembered = match self.workload.encodes {
            None => format!("KV cache of {sequences} x {context_length} tokens"),
            Some(_) => format!("KV cache for inputs of {context_length} tokens"),
        };
        write!(
            f,
            " (weights {}, {remembered} {}, compute buffers {}",
            size(weights_bytes),
            size(kv_bytes),
            size(compute_bytes),
        )?;
        if process_bytes > 0 {
            write!(f, ", process {}", size(process_bytes))?;
        }
        write!(f, ", margin {}", size(self.margin_bytes))?;
        if let Basis::Estimated { because } = self.footprint.basis {
            write!(f, "; the KV cache is an estimate: {because}")?;
        }
        write!(f, "); {}", self.ways_out().join(", or "))
    }
}

impl NotEnough {
    /// Who needs it: the model, or its part that is to be on a device or beside one.
    fn what(&self) -> String {
        match (&self.memory, self.layers) {
            (Memory::Device { .. }, 1) => "one layer of the model needs".to_owned(),
            (Memory::Device { .. }, layers) => format!("{layers} layers of the model need"),
            (_, 0) => "the model needs".to_owned(),
            (_, layers) => format!("what {layers} layers on the GPU leave of the model needs"),
        }
    }

    /// What would help, most likely first.
    #[must_use]
    pub fn ways_out(&self) -> Vec<String> {
        let mut ways = Vec::new();
        if let (Memory::Device { .. }, Some(most)) = (&self.memory, self.layers_max) {
            ways.push(format!("set `gpu_layers` to {most} or less, or leave it out for what fits"));
        }
        if let Some(most) = self.context_length_max {
            // In steps of what llama.cpp rounds up to; what is below one step is told as it is.
            let most = if most >= 256 { most / 256 * 256 } else { most };
            ways.push(format!("set `context_length` to {most} or less"));
        }
        if let Some(most) = self.sequences_max {
            let or_less = if most > 1 { " or less" } else { "" };
            ways.push(format!("set `max_concurrency` to {most}{or_less}"));
        }
        if self.quantised_kv_fits {
            ways.push("set `kv_cache_type` to q8_0".to_owned());
        }
        ways.push(
            if self.weights_fit {
                "choose a smaller quantisation of the model"
            } else {
                "choose a smaller model or quantisation"
            }
            .to_owned(),
        );
        ways.push(match &self.memory {
            Memory::Cgroup { .. } => "raise the limit".to_owned(),
            Memory::Ram => "free memory or use a larger machine".to_owned(),
            Memory::Device { .. } => "set `device` to cpu, or use more or larger GPUs".to_owned(),
        });
        ways
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ram => f.write_str("the machine's memory"),
            Self::Cgroup { limit_file, limit_bytes } => {
                write!(f, "the cgroup's limit of {} ({})", size(*limit_bytes), limit_file.display())
            }
            Self::Device { name } => write!(f, "the memory of {name}"),
        }
    }
}

/// Bytes as people compare them: decimal, three digits or so.
fn size(bytes: u64) -> String {
    let scaled = |unit: f64, name| format!("{:.1} {name}", bytes as f64 / unit);
    match bytes {
        1_000_000_000.. => scaled(1e9, "GB"),
        _ => scaled(1e6, "MB"),
    }
}
