//! What computes the model, how much of it, and for how long a context: decided before anything is loaded (R16–R19, R26).

use anyhow::bail;
use bytesize::ByteSize;
use inference::DeviceFacts;
use llama::{Backend, Backends, Device, DeviceChoice, Part, Skipped, VisibleGpu, Why};
use model::gguf::Header;
use model::memory::{self, Budget, Memory, NotEnough, Placement, Share};
use model::{Footprint, Workload};
use telemetry::{DeviceMetrics, MemoryKind, Place};

use crate::config::{ContextLength, Settings};

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
    /// Decides for a model with this header.
    pub(crate) fn of(settings: &Settings, header: &Header, backends: &Backends) -> anyhow::Result<Self> {
        let machine = memory::available();
        let devices = backends.used(settings.main_gpu)?;
        let mut skipped = backends.skipped.clone();
        if backends.backend != Backend::Cpu && settings.gpu_layers != Some(0) {
            // What only one of them can spend: a GPU that is part of the processor has the machine's memory.
            let budgets: Vec<Budget> = device_budgets(devices).chain(machine.iter().cloned()).collect();
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

    /// Says what was decided and why.
    pub(crate) fn log(&self, backends: &Backends, settings: &Settings) {
        tracing::info!(
            backend = %self.backend,
            device = self.device_names(),
            cpu_variant = backends.cpu_variant,
            layers = self.gpu_layers,
            layers_total = self.placement.layers_total,
            backends_dir = %backends.directory.display(),
            "what computes"
        );
        for skipped in &self.skipped {
            tracing::info!(backend = %skipped.backend, why = %skipped, "not used");
        }
        for warning in self.warnings(settings, &llama::visible_gpus()) {
            tracing::warn!("{warning}");
        }
        let Footprint { weights_bytes, kv_bytes, compute_bytes, .. } = self.placement.footprint;
        tracing::info!(
            context_length = self.context_length,
            weights_bytes,
            kv_bytes,
            compute_bytes,
            total_bytes = self.placement.footprint.total_bytes(),
            on_device_bytes = self.placement.device.total_bytes(),
            available_bytes = self.budgets.iter().filter(|it| !it.is_device()).map(|it| it.have_bytes).min(),
            device_available_bytes =
                self.budgets.iter().filter(|it| it.is_device()).map(|it| it.have_bytes).sum::<u64>(),
            prefix_cache_bytes = self.prefix_cache_bytes,
            "the model fits in memory"
        );
    }

    /// R17: what an operator who paid for a GPU wants to know, and settings without an effect.
    pub(crate) fn warnings(&self, settings: &Settings, visible: &[VisibleGpu]) -> Vec<String> {
        let mut warnings = Vec::new();
        if settings.backends.device == DeviceChoice::Auto && settings.gpu_layers != Some(0) {
            let unused = visible.iter().filter(|gpu| !gpu.maker.backends().contains(&self.backend));
            warnings.extend(unused.map(|gpu| self.about_unused(gpu)));
        }
        if self.backend == Backend::Cpu {
            for (key, given) in [("gpu_layers", settings.gpu_layers), ("main_gpu", settings.main_gpu)] {
                if given.is_some_and(|given| key != "gpu_layers" || given > 0) {
                    warnings.push(format!("`{key}` has no effect: the processor computes all of the model"));
                }
            }
        } else if self.gpu_layers < self.placement.layers_total && settings.gpu_layers.is_none() {
            warnings.push(format!(
                "the GPU's memory holds {} of {} layers, and the processor computes the others, which is slower; choose a \
                 smaller quantisation, a smaller `context_length` or more or larger GPUs",
                self.gpu_layers, self.placement.layers_total
            ));
        }
        warnings
    }

    fn about_unused(&self, gpu: &VisibleGpu) -> String {
        let reasons: Vec<String> = gpu
            .maker
            .backends()
            .iter()
            .filter_map(|backend| self.skipped.iter().find(|skipped| skipped.backend == *backend))
            .map(|skipped| format!("{}: {skipped}", skipped.backend))
            .collect();
        let remedy = gpu.maker.backends().first().map_or("", |backend| backend.remedy());
        format!("this machine has {gpu}, and it computes nothing ({}); {remedy}", reasons.join("; "))
    }

    /// Says it in numbers.
    pub(crate) fn record(&self, backends: &Backends, metrics: &DeviceMetrics) {
        if self.devices.is_empty() {
            metrics.computes(self.backend.as_str(), "CPU", &backends.cpu_variant);
        }
        for device in &self.devices {
            metrics.computes(self.backend.as_str(), device, &backends.cpu_variant);
        }
        for skipped in &self.skipped {
            metrics.skipped(skipped.backend.as_str(), skipped.why.as_str());
        }
        metrics.layers(Place::Device, self.gpu_layers);
        metrics.layers(Place::Host, self.placement.layers_total.saturating_sub(self.gpu_layers));
        for part in Part::ALL {
            metrics.memory(MemoryKind::Expected, part.as_str(), Place::Device, part_of(&self.placement.device, part));
            metrics.memory(MemoryKind::Expected, part.as_str(), Place::Host, part_of(&self.placement.host, part));
        }
    }

    /// What is told over HTTP.
    pub(crate) fn facts(&self, backends: &Backends) -> DeviceFacts {
        DeviceFacts {
            backend: self.backend.to_string(),
            devices: self.devices.clone(),
            cpu_variant: backends.cpu_variant.clone(),
            layers: self.gpu_layers,
            layers_total: self.placement.layers_total,
            skipped: self.skipped.iter().map(|it| (it.backend.to_string(), it.to_string())).collect(),
        }
    }

    /// `needs 318 MB of 21.4 GB, …`
    pub(crate) fn memory_sentence(&self, settings: &Settings) -> String {
        let Placement { host, device, .. } = &self.placement;
        let size = |bytes| ByteSize::b(bytes).display().si().to_string();
        let least = self.budgets.iter().filter(|it| !it.is_device()).min_by_key(|it| it.have_bytes);
        let of = |held: u64, what: Option<&Budget>| match what {
            Some(budget) => {
                format!("{} of the {} that are left of {}", size(held), size(budget.have_bytes), budget.memory)
            }
            None => size(held),
        };
        let on_device = if self.gpu_layers == 0 {
            String::new()
        } else {
            let free = self.budgets.iter().filter(|it| it.is_device()).map(|it| it.have_bytes).sum::<u64>();
            format!(", and {} of the {} that the GPU has free", size(device.total_bytes()), size(free))
        };
        format!(
            "{} x {} tokens need {}{on_device}; {} for beginnings of prompts",
            settings.max_concurrency,
            self.context_length,
            of(host.total_bytes(), least),
            size(self.prefix_cache_bytes as u64)
        )
    }

    pub(crate) fn device_names(&self) -> String {
        if self.devices.is_empty() { "CPU".to_owned() } else { self.devices.join(", ") }
    }

    pub(crate) fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }
}

/// R18: what was expected beside what llama.cpp made.
pub(crate) fn compare(plan: &Plan, model: &llama::Model, metrics: &DeviceMetrics) {
    let buffers = model.buffers();
    let mut allocated = [Share::default(), Share::default()];
    for buffer in &buffers {
        let share = &mut allocated[usize::from(buffer.is_on_device())];
        *match buffer.part {
            Part::Weights => &mut share.weights_bytes,
            Part::Kv => &mut share.kv_bytes,
            Part::Compute => &mut share.compute_bytes,
        } += buffer.bytes;
    }
    let [host, device] = allocated;
    for part in Part::ALL {
        metrics.memory(MemoryKind::Allocated, part.as_str(), Place::Device, part_of(&device, part));
        metrics.memory(MemoryKind::Allocated, part.as_str(), Place::Host, part_of(&host, part));
    }
    let Placement { device: device_expected, host: host_expected, footprint, .. } = &plan.placement;
    tracing::info!(
        host_bytes = host.total_bytes(),
        // The copies in another order are no part of what is needed, and are made all the same.
        host_expected_bytes = host_expected.total_bytes() - host_expected.process_bytes
            + if plan.gpu_layers == 0 { footprint.rearranged_bytes } else { 0 },
        device_bytes = device.total_bytes(),
        device_expected_bytes = device_expected.total_bytes(),
        "memory that llama.cpp took, and what was expected"
    );
}

fn part_of(share: &Share, part: Part) -> u64 {
    match part {
        Part::Weights => share.weights_bytes,
        Part::Kv => share.kv_bytes,
        Part::Compute => share.compute_bytes,
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
fn may_fall_back(settings: &Settings, refusal: &NotEnough) -> bool {
    settings.backends.device == DeviceChoice::Auto
        && settings.gpu_layers.is_none()
        && matches!(refusal.memory, Memory::Device { .. })
}

/// A context and a division that fit.
struct Fitted {
    context_length: u32,
    placement: Placement,
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
    fn find(settings: &Settings, header: &Header, budgets: &[Budget], layers: Option<u32>) -> Result<Self, Unfit> {
        let slots = u32::try_from(settings.max_concurrency.get()).unwrap_or(u32::MAX);
        let context_length = match settings.context_length {
            None => context_length(None, header),
            Some(ContextLength::Tokens(tokens)) => context_length(Some(tokens), header),
            Some(ContextLength::Auto) => Ok(longest_context(settings, header, budgets, layers, slots)),
        };
        let context_length = context_length.map_err(Unfit::Settings)?;
        let workload = Workload::new(context_length, slots);
        let placement = memory::place(header, &workload, budgets, layers).map_err(Unfit::Memory)?;
        Ok(Self { context_length, placement })
    }

    fn plan(
        self,
        settings: &Settings,
        backend: Backend,
        gpu_layers: u32,
        devices: Vec<String>,
        skipped: Vec<Skipped>,
        budgets: Vec<Budget>,
    ) -> anyhow::Result<Plan> {
        let Self { context_length, placement } = self;
        let left_bytes = placement.left_bytes(&budgets);
        let prefix_cache_bytes = prefix_cache_bytes(settings.prefix_cache_bytes, left_bytes)?;
        Ok(Plan { context_length, gpu_layers, prefix_cache_bytes, placement, backend, devices, skipped, budgets })
    }
}

/// The longest context that leaves room for the prefix cache: the one that was asked for, or the default one unless
/// without it more is possible than nothing. Where none fits, the shortest one, whose refusal says what is missing.
fn longest_context(settings: &Settings, header: &Header, budgets: &[Budget], layers: Option<u32>, slots: u32) -> u32 {
    let most = trained(header).unwrap_or(llama::CONTEXT_LENGTH_DEFAULT);
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
        memory::context_length_max(header, &Workload::new(1, slots), &budgets, layers, most)
    };
    reserves.into_iter().find_map(longest).unwrap_or(1)
}

/// Tokens that one request may hold: what was asked for, else what the model was trained for, up to the default.
pub(crate) fn context_length(asked: Option<u32>, header: &Header) -> anyhow::Result<u32> {
    let trained = trained(header).unwrap_or(u32::MAX);
    match asked {
        None => Ok(trained.min(llama::CONTEXT_LENGTH_DEFAULT)),
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
