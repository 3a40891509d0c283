//! What computes the model, how much of it, and for how long a context: decided before anything is loaded (R16–R19, R26).

mod held;
mod report;

use anyhow::bail;
use bytesize::ByteSize;
use llama::{Backend, Backends, Device, DeviceChoice, KvType, Skipped, Why};
use model::Workload;
use model::gguf::{Header, TensorType};
use model::memory::{self, Budget, Memory, NotEnough, Placement};

use crate::config::{ContextLength, ModelSettings};
use crate::encoder;

pub(crate) use held::{Held, beside};
pub(crate) use report::{compare, forget};

/// What was decided.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) context_length: u32,
    /// Layers on the GPU; 0: the processor computes all.
    pub(crate) gpu_layers: u32,
    pub(crate) prefix_cache_bytes: usize,
    pub(crate) placement: Placement,
    /// What computes after all: a GPU that holds nothing of the model does not.
    pub(crate) backend: Backend,
    devices: Vec<String>,
    skipped: Vec<Skipped>,
    /// What there was to be had.
    budgets: Vec<Budget>,
}

impl Plan {
    /// Decides for a model with this header that is to be loaded beside those of `held`.
    pub(crate) fn of(
        settings: &ModelSettings,
        header: &Header,
        backends: &Backends,
        held: &[Held],
    ) -> anyhow::Result<Self> {
        let machine = held::left(memory::available(), held);
        let devices = backends.used(settings.main_gpu)?;
        let mut skipped = backends.skipped.clone();
        if backends.backend != Backend::Cpu && settings.gpu_layers != Some(0) {
            // What only one of them can spend: a GPU that is part of the processor has the machine's memory.
            let of_devices = held::left(device_budgets(devices).collect(), held);
            let budgets: Vec<Budget> = of_devices.into_iter().chain(machine.iter().cloned()).collect();
            let has_own_memory = budgets.iter().any(Budget::is_device);
            match Fitted::find(settings, header, &budgets, settings.gpu_layers) {
                Ok(fitted) => {
                    let all = fitted.placement.layers_total;
                    let gpu_layers = if has_own_memory {
                        fitted.placement.layers
                    } else {
                        settings.gpu_layers.unwrap_or(all).min(all)
                    };
                    let devices = devices.iter().map(|device| device.description.clone()).collect();
                    return fitted.plan(settings, backends.backend, gpu_layers, devices, skipped, budgets);
                }
                Err(Unfit::Memory(refusal)) if may_fall_back(settings, &refusal) => {
                    pass_over(&mut skipped, backends.backend, Why::TooSmall(refusal.to_string()));
                }
                Err(unfit) => return Err(unfit.into()),
            }
        } else if backends.backend != Backend::Cpu {
            pass_over(&mut skipped, backends.backend, Why::NotAsked);
        }
        let fitted = Fitted::find(settings, header, &machine, None)?;
        fitted.plan(settings, Backend::Cpu, 0, Vec::new(), skipped, machine)
    }
}

/// The GPUs' own memory. One that is part of the processor, or that does not say what it has, counts as the machine's.
fn device_budgets(devices: &[Device]) -> impl Iterator<Item = Budget> {
    let own: Vec<&Device> = devices.iter().filter(|device| !device.is_integrated && device.memory().1 > 0).collect();
    let own = if own.len() == devices.len() { own } else { Vec::new() };
    own.into_iter().map(|device| Budget {
        memory: Memory::Device { name: format!("{} ({})", device.name, device.description) },
        have_bytes: device.memory().0,
    })
}

/// The processor computes in place of `backend`.
fn pass_over(skipped: &mut Vec<Skipped>, backend: Backend, why: Why) {
    skipped.retain(|skipped| skipped.backend != Backend::Cpu);
    skipped.push(Skipped { backend, why });
    skipped.sort_by_key(|skipped| skipped.backend);
}

/// Only where neither a device nor a number of layers was asked for, and it is the device that is too small.
fn may_fall_back(settings: &ModelSettings, refusal: &NotEnough) -> bool {
    settings.backends.device == DeviceChoice::Auto
        && settings.gpu_layers.is_none()
        && matches!(refusal.memory, Memory::Device { .. })
}

/// A context and a division that fit.
struct Fitted {
    context_length: u32,
    placement: Placement,
    /// Whether beginnings of prompts are kept: a model that encodes has none.
    remembers: bool,
}

/// Why there is none.
enum Unfit {
    Memory(Box<NotEnough>),
    Settings(anyhow::Error),
}

impl From<Unfit> for anyhow::Error {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Memory(refusal) => refusal.into(),
            Unfit::Settings(error) => error,
        }
    }
}

impl Fitted {
    fn find(settings: &ModelSettings, header: &Header, budgets: &[Budget], layers: Option<u32>) -> Result<Self, Unfit> {
        let slots = u32::try_from(settings.max_concurrency.get()).unwrap_or(u32::MAX);
        let context_length = match settings.context_length {
            None => context_length(None, header),
            Some(ContextLength::Tokens(tokens)) => context_length(Some(tokens), header),
            Some(ContextLength::Auto) => Ok(longest_context(settings, header, budgets, layers, slots)),
        };
        let context_length = context_length.map_err(Unfit::Settings)?;
        let workload = workload(settings, header, context_length, slots);
        let placement = memory::place(header, &workload, budgets, layers).map_err(Unfit::Memory)?;
        Ok(Self { context_length, placement, remembers: workload.encodes.is_none() })
    }

    fn plan(
        self,
        settings: &ModelSettings,
        backend: Backend,
        gpu_layers: u32,
        devices: Vec<String>,
        skipped: Vec<Skipped>,
        budgets: Vec<Budget>,
    ) -> anyhow::Result<Plan> {
        let Self { context_length, placement, remembers } = self;
        let prefix_cache_bytes = if remembers {
            prefix_cache_bytes(settings.prefix_cache_bytes, placement.left_bytes(&budgets))?
        } else {
            0
        };
        Ok(Plan { context_length, gpu_layers, prefix_cache_bytes, placement, backend, devices, skipped, budgets })
    }
}

/// What the model is loaded for.
fn workload(settings: &ModelSettings, header: &Header, context_length: u32, slots: u32) -> Workload {
    let mut workload = encoder::workload(header, context_length, slots);
    if workload.encodes.is_none() {
        workload.guesses = u32::try_from(settings.draft_max).unwrap_or(u32::MAX);
        let stored = match settings.kv_type {
            KvType::F16 => TensorType::F16,
            KvType::Q8_0 => TensorType::Q8_0,
            KvType::Q4_0 => TensorType::Q4_0,
        };
        (workload.keys, workload.values) = (stored, stored);
    }
    workload
}

/// The longest context that leaves room for the prefix cache: the one that was asked for, or the default one unless
/// without it more is possible than nothing. Where none fits, the shortest one, whose refusal says what is missing.
fn longest_context(
    settings: &ModelSettings,
    header: &Header,
    budgets: &[Budget],
    layers: Option<u32>,
    slots: u32,
) -> u32 {
    let most = trained(header).unwrap_or_else(|| encoder::context_length_default(header));
    let default_bytes = engine::limits::PREFIX_CACHE_BYTES_DEFAULT as u64;
    let reserves = match settings.prefix_cache_bytes {
        Some(asked) => vec![asked],
        None => vec![default_bytes, 0],
    };
    let longest = |reserve_bytes: u64| {
        let left = |budget: &Budget| {
            let reserve_bytes = if budget.is_device() { 0 } else { reserve_bytes };
            Budget { have_bytes: budget.have_bytes.saturating_sub(reserve_bytes), ..budget.clone() }
        };
        let budgets: Vec<Budget> = budgets.iter().map(left).collect();
        memory::context_length_max(header, &workload(settings, header, 1, slots), &budgets, layers, most)
    };
    reserves.into_iter().find_map(longest).unwrap_or(1)
}

/// Tokens that one request may hold: what was asked for, else what the model was trained for, up to the default.
pub(crate) fn context_length(asked: Option<u32>, header: &Header) -> anyhow::Result<u32> {
    let trained = trained(header).unwrap_or(u32::MAX);
    match asked {
        None => Ok(trained.min(encoder::context_length_default(header))),
        Some(asked) if asked > trained => {
            bail!("`context_length` is {asked}, and the model was trained for {trained} tokens; ask for no more")
        }
        Some(asked) => Ok(asked),
    }
}

fn trained(header: &Header) -> Option<u32> {
    header.context_length().and_then(|length| u32::try_from(length).ok())
}

/// What the prefix cache may take. It fills as conversations come, so what it may become is decided while there is still
/// somebody to tell.
fn prefix_cache_bytes(asked: Option<u64>, left_bytes: Option<u64>) -> anyhow::Result<usize> {
    let left_bytes = left_bytes.unwrap_or(u64::MAX);
    let bytes = match asked {
        None => left_bytes.min(engine::limits::PREFIX_CACHE_BYTES_DEFAULT as u64),
        Some(asked) if asked > left_bytes => bail!(
            "`prefix_cache_size` is {}, and {} of memory are left beside the model; ask for no more, or leave it out for \
             what fits",
            ByteSize::b(asked).display().si(),
            ByteSize::b(left_bytes).display().si()
        ),
        Some(asked) => asked,
    };
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_cache_takes_what_is_left_and_no_more() {
        let default = engine::limits::PREFIX_CACHE_BYTES_DEFAULT;
        assert_eq!(prefix_cache_bytes(None, None).unwrap(), default);
        assert_eq!(prefix_cache_bytes(None, Some(u64::MAX)).unwrap(), default);
        assert_eq!(prefix_cache_bytes(None, Some(1000)).unwrap(), 1000);
        assert_eq!(prefix_cache_bytes(Some(0), Some(1000)).unwrap(), 0);
        assert_eq!(prefix_cache_bytes(Some(1000), Some(1000)).unwrap(), 1000);
        let error = prefix_cache_bytes(Some(2_000_000), Some(1_000_000)).unwrap_err().to_string();
        assert!(error.contains("`prefix_cache_size` is 2.0 MB, and 1.0 MB of memory are left"), "{error}");
    }
}
