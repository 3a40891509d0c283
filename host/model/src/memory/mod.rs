//! Whether a model fits in memory, asked before it is loaded.
//!
//! What it needs is its [`Footprint`] and a margin. What there is, is the least of the free RAM and of what each memory
//! cgroup around the process has left (`sources.rs`), and the free memory of the devices that compute. A refusal names the memory
//! that is too small, both numbers, what they consist of, and every way out, with the largest setting that fits.

mod refusal;
mod sources;

use std::path::PathBuf;

use crate::footprint::{Basis, Footprint, Shape, Workload};
use crate::gguf::Header;
use crate::limits::{MARGIN_BYTES_MIN, MARGIN_PERCENT, MARGIN_PERCENT_ESTIMATED};

pub use refusal::NotEnough;
pub use sources::{available, available_below};

/// Memory that a model may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Whose it is.
    pub memory: Memory,
    /// How much of it is left.
    pub have_bytes: u64,
}

/// A kind of memory, with what tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// What the machine has free: `MemAvailable`.
    Ram,
    /// What a memory cgroup of this process has left.
    Cgroup {
        /// The file that holds the limit.
        limit_file: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// What a device that computes has free.
    Device {
        /// Its name.
        name: String,
    },
}

/// What is asked of a memory beyond the footprint: what the formulas leave out (tables of pages, fragments, requests under way), in
/// proportion to it, and more of it where the KV cache is an estimate.
///
/// This is not the 20 to 30 % that are usually advised for the KV cache and working memory on top of a model's size: those
/// are computed, and are part of the footprint.
#[must_use]
pub fn margin_bytes(footprint: &Footprint) -> u64 {
    margin(footprint.total_bytes(), footprint.basis)
}

fn margin(held_bytes: u64, basis: Basis) -> u64 {
    let percent = match basis {
        Basis::Stated => MARGIN_PERCENT,
        Basis::Estimated { .. } => MARGIN_PERCENT_ESTIMATED,
    };
    (held_bytes / 100).saturating_mul(percent).max(MARGIN_BYTES_MIN.min(held_bytes / 4))
}

/// Checks that a model fits in every one of `budgets`; says what it takes.
///
/// Where there are devices, they hold the model together and RAM holds the process; without any, RAM holds all of it.
/// An empty list is memory without end: a machine that does not say what it has refuses nothing.
pub fn check(header: &Header, workload: &Workload, budgets: &[Budget]) -> Result<Footprint, Box<NotEnough>> {
    let shape = Shape::of(header);
    let footprint = Footprint::of_shape(&shape, workload);
    let needs = Needs { has_devices: budgets.iter().any(Budget::is_device) };
    let groups = together(budgets);
    let Some(short) = groups
        .iter()
        .filter(|budget| needs.bytes(budget, &footprint) > budget.have_bytes)
        .min_by_key(|budget| budget.have_bytes)
    else {
        return Ok(footprint);
    };
    let fits = |workload: &Workload| {
        let footprint = Footprint::of_shape(&shape, workload);
        groups.iter().all(|budget| needs.bytes(budget, &footprint) <= budget.have_bytes)
    };
    let held_bytes = needs.held_bytes(short, &footprint);
    Err(Box::new(NotEnough {
        need_bytes: needs.bytes(short, &footprint),
        memory: short.memory.clone(),
        have_bytes: short.have_bytes,
        margin_bytes: margin(held_bytes, footprint.basis),
        footprint,
        workload: *workload,
        context_length_max: largest(workload.context_length, |context_length| {
            fits(&Workload { context_length, ..*workload })
        }),
        sequences_max: largest(workload.sequences, |sequences| fits(&Workload { sequences, ..*workload })),
        weights_fit: footprint.weights_bytes < short.have_bytes,
    }))
}

/// The largest number below `limit`, of at least 1, for which `fits` holds, if it holds for all below that.
fn largest(limit: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    let (mut low, mut high) = (0, limit);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    (low > 0).then_some(low)
}

/// Who holds what.
struct Needs {
    has_devices: bool,
}

impl Needs {
    fn held_bytes(&self, budget: &Budget, footprint: &Footprint) -> u64 {
        match (budget.is_device(), self.has_devices) {
            (true, _) => footprint.device_bytes(),
            (false, true) => footprint.process_bytes,
            (false, false) => footprint.total_bytes(),
        }
    }

    fn bytes(&self, budget: &Budget, footprint: &Footprint) -> u64 {
        let held_bytes = self.held_bytes(budget, footprint);
        held_bytes.saturating_add(margin(held_bytes, footprint.basis))
    }
}

impl Budget {
    fn is_device(&self) -> bool {
        matches!(self.memory, Memory::Device { .. })
    }
}

/// The budgets with all devices as one.
fn together(budgets: &[Budget]) -> Vec<Budget> {
    let (devices, mut all): (Vec<Budget>, Vec<Budget>) = budgets.iter().cloned().partition(Budget::is_device);
    let names: Vec<&str> = devices
        .iter()
        .filter_map(|budget| match &budget.memory {
            Memory::Device { name } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    if !names.is_empty() {
        let have_bytes = devices.iter().fold(0, |sum: u64, budget| sum.saturating_add(budget.have_bytes));
        all.push(Budget { memory: Memory::Device { name: names.join(" and ") }, have_bytes });
    }
    all
}

#[cfg(test)]
mod tests;
