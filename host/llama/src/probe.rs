//! Which backend computes: each is tried in order, and each that is passed over has its reason (R16, R17, R27).

use std::fmt;
use std::path::{Path, PathBuf};

use crate::device::{self, Backend, Device, DeviceChoice};
use crate::error::BackendError;
use crate::modules::{self, Module};

/// What this process computes with. Loaded once, and never unloaded: llama.cpp keeps threads and memory in its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// The folder of the modules.
    pub directory: PathBuf,
    /// The CPU's variant that fits this processor best, such as `zen4`. It computes what the device does not.
    pub cpu_variant: String,
    /// What was chosen.
    pub backend: Backend,
    /// Its devices; none for the CPU.
    pub devices: Vec<Device>,
    /// What was not, in the order of [`Backend::ORDER`].
    pub skipped: Vec<Skipped>,
}

/// A backend that does not compute, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The backend.
    pub backend: Backend,
    /// Why.
    pub why: Why,
}

/// Why a backend does not compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The configuration names another one.
    NotAsked,
    /// One that comes first has a device.
    NotNeeded(Backend),
    /// There is no such thing on this system.
    OtherSystem,
    /// The folder has no module for it.
    NoModule,
    /// The module is there and does not load.
    NotLoaded(String),
    /// It loads and finds nothing to compute with; what it said about that.
    NoDevice(String),
    /// It has a device, whose memory does not hold any part of the model.
    TooSmall(String),
}

impl Why {
    /// A word for metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::NotNeeded(_) => "not_needed",
            Self::OtherSystem => "other_system",
            Self::NoModule => "no_module",
            Self::NotLoaded(_) => "not_loaded",
            Self::NoDevice(_) => "no_device",
            Self::TooSmall(_) => "too_small",
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::NotAsked => f.write_str("the configuration asks for another device"),
            Why::NotNeeded(other) => write!(f, "not needed: {other} comes first and has a device"),
            Why::OtherSystem => f.write_str("this is not macOS"),
            Why::NoModule => write!(f, "no module {}", modules::file_name(self.backend)),
            Why::NotLoaded(reason) => write!(f, "the module failed to load: {reason}"),
            Why::NoDevice(said) if said.is_empty() => f.write_str("the module is loaded and finds no device"),
            Why::NoDevice(said) => write!(f, "the module is loaded and finds no device: {said}"),
            Why::TooSmall(reason) => write!(f, "its memory does not hold the model: {reason}"),
        }
    }
}

impl Backends {
    /// The devices that compute: all, or the only one that was asked for.
    pub fn used(&self, main_gpu: Option<u32>) -> Result<&[Device], BackendError> {
        let Some(index) = main_gpu.filter(|_| self.backend != Backend::Cpu) else { return Ok(&self.devices) };
        let at = index as usize;
        self.devices.get(at..=at).ok_or_else(|| BackendError::NoSuchGpu {
            index,
            backend: self.backend,
            count: self.devices.len(),
            names: self.devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// What trying a backend came to.
enum Tried {
    Found(Vec<Device>),
    Skipped(Why),
}

/// Loads what `choice` asks for from the folder that is `named`, or the one that belongs to this executable.
pub(crate) fn load(named: Option<&Path>, choice: DeviceChoice) -> Result<Backends, BackendError> {
    let directory = modules::directory(named)?;
    let modules = modules::list(&directory)?;
    // The processor first: without it nothing computes, whatever else there is.
    let cpu = modules::load_cpu(&directory, &modules)?;
    let (backend, devices, skipped) = choose(choice, |backend| try_backend(backend, &modules));
    if let DeviceChoice::Only(wanted) = choice
        && backend != wanted
    {
        let skipped = skipped.into_iter().find(|skipped| skipped.backend == wanted);
        let why = skipped.map_or(Why::NoModule, |skipped| skipped.why);
        return Err(BackendError::NoDevice { wanted, directory, why: Skipped { backend: wanted, why } });
    }
    Ok(Backends { directory, cpu_variant: cpu.module.variant, backend, devices, skipped })
}

/// The first backend with a device, in order, and why each of the others is not it. Nothing is tried that is not needed: a GPU's
/// driver takes memory on the device as soon as its module is loaded.
fn choose(choice: DeviceChoice, mut attempt: impl FnMut(Backend) -> Tried) -> (Backend, Vec<Device>, Vec<Skipped>) {
    let mut chosen: Option<(Backend, Vec<Device>)> = None;
    let mut skipped = Vec::new();
    for backend in Backend::ORDER {
        let why = match (choice, &chosen) {
            (DeviceChoice::Only(wanted), _) if wanted != backend => Why::NotAsked,
            (_, Some((first, _))) => Why::NotNeeded(*first),
            _ => match attempt(backend) {
                Tried::Found(devices) => {
                    chosen = Some((backend, devices));
                    continue;
                }
                Tried::Skipped(why) => why,
            },
        };
        skipped.push(Skipped { backend, why });
    }
    let (backend, devices) = chosen.unwrap_or((Backend::Cpu, Vec::new()));
    (backend, devices, skipped)
}

fn try_backend(backend: Backend, modules: &[Module]) -> Tried {
    if backend == Backend::Cpu {
        return Tried::Found(Vec::new());
    }
    if backend == Backend::Metal && !cfg!(target_os = "macos") {
        return Tried::Skipped(Why::OtherSystem);
    }
    let Some(module) = modules.iter().find(|module| module.backend == backend) else {
        return Tried::Skipped(Why::NoModule);
    };
    match modules::load(module) {
        Err(reason) => Tried::Skipped(Why::NotLoaded(reason)),
        Ok((loaded, said)) => match device::gpus(loaded.registered) {
            devices if devices.is_empty() => Tried::Skipped(Why::NoDevice(said)),
            devices => Tried::Found(devices),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries backends of which only `there` has something, and tells what was tried.
    fn check(choice: DeviceChoice, there: &[Backend], expected: Backend, tried: &[Backend], reasons: &[&str]) {
        let mut asked = Vec::new();
        let (backend, _, skipped) = choose(choice, |backend| {
            asked.push(backend);
            if there.contains(&backend) { Tried::Found(Vec::new()) } else { Tried::Skipped(Why::NoModule) }
        });
        let found: Vec<String> =
            skipped.iter().map(|skipped| format!("{}: {}", skipped.backend, skipped.why.as_str())).collect();
        assert_eq!((backend, asked.as_slice()), (expected, tried));
        assert_eq!(found, reasons);
    }

    // R16
    #[test]
    fn the_first_that_is_there_computes_and_the_others_have_their_reasons() {
        use Backend::{Cpu, Cuda, Metal, Rocm, Vulkan};
        check(
            DeviceChoice::Auto,
            &[Cpu],
            Cpu,
            &[Cuda, Metal, Rocm, Vulkan, Cpu],
            &["cuda: no_module", "metal: no_module", "rocm: no_module", "vulkan: no_module"],
        );
        check(
            DeviceChoice::Auto,
            &[Cpu, Vulkan, Rocm],
            Rocm,
            &[Cuda, Metal, Rocm],
            &["cuda: no_module", "metal: no_module", "vulkan: not_needed", "cpu: not_needed"],
        );
    }

    // R17
    #[test]
    fn only_what_was_asked_for_is_tried() {
        use Backend::{Cpu, Cuda, Vulkan};
        check(
            DeviceChoice::Only(Cpu),
            &[Cuda, Cpu],
            Cpu,
            &[Cpu],
            &["cuda: not_asked", "metal: not_asked", "rocm: not_asked", "vulkan: not_asked"],
        );
        check(
            DeviceChoice::Only(Vulkan),
            &[Cuda, Vulkan, Cpu],
            Vulkan,
            &[Vulkan],
            &["cuda: not_asked", "metal: not_asked", "rocm: not_asked", "cpu: not_asked"],
        );
        // What computes then is not asked by anybody: the caller makes it an error.
        check(
            DeviceChoice::Only(Cuda),
            &[Cpu],
            Cpu,
            &[Cuda],
            &["cuda: no_module", "metal: not_asked", "rocm: not_asked", "vulkan: not_asked", "cpu: not_asked"],
        );
    }

    #[test]
    fn a_reason_is_a_sentence() {
        let says = |why| Skipped { backend: Backend::Rocm, why }.to_string();
        assert_eq!(says(Why::NoModule), "no module libggml-hip.so");
        assert_eq!(
            says(Why::NotLoaded("libcuda.so.1: cannot open".to_owned())),
            "the module failed to load: libcuda.so.1: cannot open"
        );
        assert_eq!(says(Why::NoDevice(String::new())), "the module is loaded and finds no device");
        assert_eq!(says(Why::NotNeeded(Backend::Cuda)), "not needed: cuda comes first and has a device");
    }
}
