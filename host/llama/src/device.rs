//! What computes: the kinds of backends, what may be asked for, and a backend's devices.

use std::ffi::{CStr, c_char};
use std::fmt;
use std::str::FromStr;

use llama_cpp_sys_2 as sys;

/// A kind of device, as llama.cpp has a backend for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// NVIDIA's GPUs.
    Cuda,
    /// Apple's GPUs.
    Metal,
    /// AMD's GPUs by their own interface.
    Rocm,
    /// GPUs of any maker.
    Vulkan,
    /// The processor.
    Cpu,
}

impl Backend {
    /// R16: the order in which they are tried. A maker's own interface comes before the one that all have in common.
    pub const ORDER: [Self; 5] = [Self::Cuda, Self::Metal, Self::Rocm, Self::Vulkan, Self::Cpu];

    /// Its name in configurations, metrics and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Rocm => "rocm",
            Self::Vulkan => "vulkan",
            Self::Cpu => "cpu",
        }
    }

    /// Its part of a module's name; of the CPU's variants what all begin with.
    pub(crate) fn module_name(self) -> &'static str {
        match self {
            // llama.cpp's own name for AMD's interface is that of its compiler.
            Self::Rocm => "hip",
            other => other.as_str(),
        }
    }

    /// R17: what makes it available.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        crate::error::remedy(self)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// R17: what the operator wants to compute with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first that is there.
    #[default]
    Auto,
    /// This one; without it there is no service.
    Only(Backend),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        Backend::ORDER.into_iter().find(|backend| backend.as_str() == text).map(Self::Only).ok_or_else(|| {
            let names: Vec<&str> = Backend::ORDER.iter().map(|backend| backend.as_str()).collect();
            format!("`{text}` is no device; auto, {} are", names.join(", "))
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(backend) => backend.fmt(f),
        }
    }
}

/// A GPU that a loaded backend has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// llama.cpp's name, such as `CUDA0`.
    pub name: String,
    /// The maker's, such as `NVIDIA H100 80GB HBM3`.
    pub description: String,
    /// Whether it is part of the processor and shares its memory.
    pub is_integrated: bool,
    raw: RawDevice,
}

impl Device {
    /// Bytes that it has free now, and in all.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        let (mut free, mut total) = (0, 0);
        // SAFETY: devices live as long as the process; both numbers are written.
        unsafe { sys::ggml_backend_dev_memory(self.raw.0, &raw mut free, &raw mut total) };
        (free as u64, total as u64)
    }

    pub(crate) fn as_raw(&self) -> sys::ggml_backend_dev_t {
        self.raw.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RawDevice(sys::ggml_backend_dev_t);

// SAFETY: a device is registered once, never changed and never freed; llama.cpp itself asks it from any thread.
unsafe impl Send for RawDevice {}
// SAFETY: as above.
unsafe impl Sync for RawDevice {}

/// The GPUs of a loaded backend. Those that are part of the processor count only where there is no other.
pub(crate) fn gpus(registered: sys::ggml_backend_reg_t) -> Vec<Device> {
    // SAFETY: a backend that was loaded is never unloaded.
    let count = unsafe { sys::ggml_backend_reg_dev_count(registered) };
    // SAFETY: the index is below the count.
    let all = (0..count).map(|index| unsafe { sys::ggml_backend_reg_dev_get(registered, index) });
    let found: Vec<Device> = all.filter_map(gpu).collect();
    let has_own = found.iter().any(|device| !device.is_integrated);
    found.into_iter().filter(|device| !(has_own && device.is_integrated)).collect()
}

fn gpu(raw: sys::ggml_backend_dev_t) -> Option<Device> {
    // SAFETY: a registered device; its texts are NUL-terminated and live as long as it does.
    let (kind, name, description) = unsafe {
        (
            sys::ggml_backend_dev_type(raw),
            text(sys::ggml_backend_dev_name(raw)),
            text(sys::ggml_backend_dev_description(raw)),
        )
    };
    let is_integrated = match kind {
        sys::GGML_BACKEND_DEVICE_TYPE_GPU => false,
        sys::GGML_BACKEND_DEVICE_TYPE_IGPU => true,
        _ => return None,
    };
    Some(Device { name, description, is_integrated, raw: RawDevice(raw) })
}

/// # Safety
///
/// `text` is null or NUL-terminated.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    // R16
    #[test]
    fn the_order_is_the_guides() {
        let order: Vec<&str> = Backend::ORDER.iter().map(|backend| backend.as_str()).collect();
        assert_eq!(order, ["cuda", "metal", "rocm", "vulkan", "cpu"]);
    }

    // R17
    #[test]
    fn a_choice_is_one_of_the_names() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        for backend in Backend::ORDER {
            let choice: DeviceChoice = backend.as_str().parse().expect("a device");
            assert_eq!(choice, DeviceChoice::Only(backend));
            assert_eq!(choice.to_string(), backend.as_str());
        }
        for wrong in ["", "CUDA", "gpu", "hip"] {
            let expected = format!("`{wrong}` is no device; auto, cuda, metal, rocm, vulkan, cpu are");
            assert_eq!(wrong.parse::<DeviceChoice>(), Err(expected));
        }
    }
}
