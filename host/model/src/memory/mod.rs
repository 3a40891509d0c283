//! Whether a model fits in memory, asked before it is loaded.
//!
//! What it needs is its [`Footprint`] and a margin. What there is, is the least of the free RAM and of what each memory
//! cgroup around the process has left (`sources.rs`), and the free memory of the devices that compute. A refusal names the memory
//! that is too small, both numbers, what they consist of, and every way out, with the largest setting that fits.

mod placement;
mod refusal;
mod sources;

use std::path::PathBuf;

use crate::footprint::{Basis, Footprint, Shape, Workload};
use crate::gguf::{Header, TensorType};
use crate::limits::{CELLS_PADDING, CONTEXT_LENGTH_WANTED, MARGIN_BYTES_MIN, MARGIN_PERCENT, MARGIN_PERCENT_ESTIMATED};

pub use placement::{Placement, Share};
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
/// Where there are devices, they hold all its layers together, and RAM holds the process; without any, RAM holds all of it.
/// An empty list is memory without end: a machine that does not say what it has refuses nothing.
pub fn check(header: &Header, workload: &Workload, budgets: &[Budget]) -> Result<Footprint, Box<NotEnough>> {
    place(header, workload, budgets, Some(u32::MAX)).map(|placement| placement.footprint)
}

/// Divides a model between the devices among `budgets` and the machine: `layers` of it on the devices, or as many as they
/// hold, of at least one. Checks that each of `budgets` holds its part.
pub fn place(
    header: &Header,
    workload: &Workload,
    budgets: &[Budget],
    layers: Option<u32>,
) -> Result<Placement, Box<NotEnough>> {
    Room::new(header, budgets, layers).place(workload)
}

/// The longest context, up to `most`, with which the model fits as [`place`] would place it; `None` where none does.
///
/// Where devices hold all layers with a context of a usable length, no layer is given up for a longer one: a layer that the
/// processor computes slows down every token.
#[must_use]
pub fn context_length_max(
    header: &Header,
    workload: &Workload,
    budgets: &[Budget],
    layers: Option<u32>,
    most: u32,
) -> Option<u32> {
    let longest = |layers| {
        let room = Room::new(header, budgets, layers);
        let fits = |context_length| room.place(&Workload { context_length, ..*workload }).is_ok();
        let found = largest(most.saturating_add(1), fits)?;
        // llama.cpp rounds up to this.
        let step = u32::try_from(CELLS_PADDING).unwrap_or(1);
        Some(if found == most || found < step { found } else { found / step * step })
    };
    if layers.is_some() {
        return longest(layers);
    }
    let wanted = most.min(CONTEXT_LENGTH_WANTED);
    match longest(Some(u32::MAX)).filter(|&length| length >= wanted) {
        Some(length) => Some(length),
        None => longest(None).map(|length| length.min(wanted)),
    }
}

/// A model, what there is for it, and how many of its layers are to be on devices.
struct Room {
    shape: Shape,
    budgets: Vec<Budget>,
    has_devices: bool,
    layers: Option<u32>,
}

impl Room {
    fn new(header: &Header, budgets: &[Budget], layers: Option<u32>) -> Self {
        let has_devices = budgets.iter().any(Budget::is_device);
        Self { shape: Shape::of(header), budgets: together(budgets), has_devices, layers }
    }

    fn place(&self, workload: &Workload) -> Result<Placement, Box<NotEnough>> {
        let placement = self.placement(workload);
        let Some(short) = self.short(&placement).min_by_key(|budget| budget.have_bytes) else { return Ok(placement) };
        let held = placement.held_by(short);
        let margin_bytes = margin(held.total_bytes(), placement.footprint.basis);
        let fits = |workload: &Workload| self.fits(&self.placement(workload));
        Err(Box::new(NotEnough {
            need_bytes: held.total_bytes().saturating_add(margin_bytes),
            memory: short.memory.clone(),
            have_bytes: short.have_bytes,
            margin_bytes,
            footprint: placement.footprint,
            held,
            workload: *workload,
            layers: placement.layers,
            layers_max: largest(placement.layers, |layers| self.fits(&Placement::of(&self.shape, workload, layers))),
            context_length_max: largest(workload.context_length, |context_length| {
                fits(&Workload { context_length, ..*workload })
            }),
            quantised_kv_fits: workload.encodes.is_none()
                && workload.keys == TensorType::F16
                && placement.footprint.kv_bytes > 0
                && fits(&Workload { keys: TensorType::Q8_0, values: TensorType::Q8_0, ..*workload }),
            sequences_max: largest(workload.sequences, |sequences| fits(&Workload { sequences, ..*workload })),
            weights_fit: held.weights_bytes < short.have_bytes,
        }))
    }

    /// As many layers on the devices as were asked for, or as they hold. One at the least: where not even that fits, the
    /// refusal says what it would need.
    fn placement(&self, workload: &Workload) -> Placement {
        let of = |layers| Placement::of(&self.shape, workload, layers);
        if !self.has_devices {
            return of(0);
        }
        let fits_on_devices = |layers| !self.short(&of(layers)).any(Budget::is_device);
        of(self
            .layers
            .unwrap_or_else(|| placement::most_layers(self.shape.layers_with_output(), fits_on_devices).unwrap_or(1)))
    }

    fn fits(&self, placement: &Placement) -> bool {
        self.short(placement).next().is_none()
    }

    /// What does not hold its part of the model.
    fn short<'a>(&'a self, placement: &'a Placement) -> impl Iterator<Item = &'a Budget> {
        let is_short = |budget: &&Budget| {
            let held_bytes = placement.held_by(budget).total_bytes();
            held_bytes.saturating_add(margin(held_bytes, placement.footprint.basis)) > budget.have_bytes
        };
        self.budgets.iter().filter(is_short)
    }
}

impl Placement {
    fn held_by(&self, budget: &Budget) -> Share {
        if budget.is_device() { self.device } else { self.host }
    }

    /// What of `budgets` is left for other things in the machine's memory.
    #[must_use]
    pub fn left_bytes(&self, budgets: &[Budget]) -> Option<u64> {
        let held_bytes = self.host.total_bytes();
        let need_bytes = held_bytes.saturating_add(margin(held_bytes, self.footprint.basis));
        let machine = budgets.iter().filter(|budget| !budget.is_device());
        machine.map(|budget| budget.have_bytes.saturating_sub(need_bytes)).min()
    }
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

impl Budget {
    /// Whether it is a device's.
    #[must_use]
    pub fn is_device(&self) -> bool {
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
