//! What was decided, told: in the log, in metrics, over HTTP and by `outrigger doctor` (R17, R18, R27).

use bytesize::ByteSize;
use inference::DeviceFacts;
use llama::{Backend, Backends, DeviceChoice, Part, Skipped, VisibleGpu};
use model::Footprint;
use model::memory::{Budget, Placement, Share};
use telemetry::{DeviceMetrics, MemoryKind, Place};

use super::Plan;
use crate::config::ModelSettings;

impl Plan {
    /// Says what was decided and why.
    pub(crate) fn log(&self, backends: &Backends, settings: &ModelSettings) {
        tracing::info!(
            model = settings.id,
            backend = %self.backend,
            device = self.device_names(),
            cpu_variant = backends.cpu_variant,
            layers = self.gpu_layers,
            layers_total = self.placement.layers_total,
            backends_dir = %backends.directory.display(),
            "what computes"
        );
        for skipped in &self.skipped {
            tracing::info!(model = settings.id, backend = %skipped.backend, why = %skipped, "not used");
        }
        for warning in self.warnings(settings, &llama::visible_gpus()) {
            tracing::warn!(model = settings.id, "{warning}");
        }
        let Footprint { weights_bytes, kv_bytes, compute_bytes, .. } = self.placement.footprint;
        tracing::info!(
            model = settings.id,
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
    pub(crate) fn warnings(&self, settings: &ModelSettings, visible: &[VisibleGpu]) -> Vec<String> {
        let mut warnings = Vec::new();
        if settings.backends.device == DeviceChoice::Auto && settings.gpu_layers != Some(0) {
            warnings.extend(about_unused(visible, self.backend, &self.skipped));
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

    /// Says it in numbers.
    pub(crate) fn record(&self, model: &str, backends: &Backends, metrics: &DeviceMetrics) {
        metrics.forget(model);
        if self.devices.is_empty() {
            metrics.computes(model, self.backend.as_str(), "CPU", &backends.cpu_variant);
        }
        for device in &self.devices {
            metrics.computes(model, self.backend.as_str(), device, &backends.cpu_variant);
        }
        for skipped in &self.skipped {
            metrics.skipped(model, skipped.backend.as_str(), skipped.why.as_str());
        }
        metrics.layers(model, Place::Device, self.gpu_layers);
        metrics.layers(model, Place::Host, self.placement.layers_total.saturating_sub(self.gpu_layers));
        for part in Part::ALL {
            for (place, share) in [(Place::Device, &self.placement.device), (Place::Host, &self.placement.host)] {
                metrics.memory(model, MemoryKind::Expected, part.as_str(), place, part_of(share, part));
            }
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
    pub(crate) fn memory_sentence(&self, settings: &ModelSettings) -> String {
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
    show_allocated(&model.card().id, &host, &device, metrics);
    let Placement { device: device_expected, host: host_expected, footprint, .. } = &plan.placement;
    tracing::info!(
        model = model.card().id,
        host_bytes = host.total_bytes(),
        // The copies in another order are no part of what is needed, and are made all the same.
        host_expected_bytes = host_expected.total_bytes() - host_expected.process_bytes
            + if plan.gpu_layers == 0 { footprint.rearranged_bytes } else { 0 },
        device_bytes = device.total_bytes(),
        device_expected_bytes = device_expected.total_bytes(),
        "memory that llama.cpp took, and what was expected"
    );
}

/// Nothing computes the model any more, and it has no memory.
pub(crate) fn forget(model: &str, metrics: &DeviceMetrics) {
    metrics.forget(model);
    show_allocated(model, &Share::default(), &Share::default(), metrics);
}

fn show_allocated(model: &str, host: &Share, device: &Share, metrics: &DeviceMetrics) {
    for part in Part::ALL {
        for (place, share) in [(Place::Device, device), (Place::Host, host)] {
            metrics.memory(model, MemoryKind::Allocated, part.as_str(), place, part_of(share, part));
        }
    }
}

fn part_of(share: &Share, part: Part) -> u64 {
    match part {
        Part::Weights => share.weights_bytes,
        Part::Kv => share.kv_bytes,
        Part::Compute => share.compute_bytes,
    }
}

/// GPUs that nothing computes on, each with what keeps it from that and what would change it.
fn about_unused(visible: &[VisibleGpu], backend: Backend, skipped: &[Skipped]) -> impl Iterator<Item = String> {
    let unused = visible.iter().filter(move |gpu| !gpu.maker.backends().contains(&backend));
    unused.map(move |gpu| {
        let able = gpu.maker.backends();
        let reasons = able.iter().filter_map(|backend| skipped.iter().find(|skipped| skipped.backend == *backend));
        let reasons: Vec<String> = reasons.map(|skipped| format!("{}: {skipped}", skipped.backend)).collect();
        let remedy = able.first().map_or("", |backend| backend.remedy());
        format!(
            "this machine has {gpu}, and it computes nothing ({}); {remedy}, or set `device` to cpu",
            reasons.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use llama::{Maker, Why};

    use super::*;

    // R17
    #[test]
    fn a_gpu_that_computes_nothing_is_told_of_with_the_reasons_and_the_remedy() {
        let gpu = |maker, address: &str| VisibleGpu { maker, address: address.to_owned(), has_device_file: true };
        let visible = [gpu(Maker::Nvidia, "0000:01:00.0"), gpu(Maker::Amd, "0000:02:00.0")];
        let skipped = [
            Skipped { backend: Backend::Cuda, why: Why::NotLoaded("libcuda.so.1: cannot open".to_owned()) },
            Skipped { backend: Backend::Rocm, why: Why::NoModule },
            Skipped { backend: Backend::Vulkan, why: Why::NoModule },
        ];
        let told: Vec<String> = about_unused(&visible, Backend::Cpu, &skipped).collect();
        assert_eq!(
            told[0],
            "this machine has a GPU of NVIDIA (0000:01:00.0), and it computes nothing (cuda: the module failed to load: \
             libcuda.so.1: cannot open; vulkan: no module libggml-vulkan.so); build the module with `deploy/backend.sh \
             cuda`, install NVIDIA's driver and give the process /dev/nvidia*, or set `device` to cpu"
        );
        assert_eq!(told.len(), 2);
        // Vulkan computes on either.
        assert_eq!(about_unused(&visible, Backend::Vulkan, &skipped).count(), 0);
        assert_eq!(about_unused(&visible, Backend::Cuda, &skipped).count(), 1);
    }
}
