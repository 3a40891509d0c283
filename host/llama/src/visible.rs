//! GPUs that the machine shows, whether or not anything here can use them (R17): who pays for one wants to know.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::device::Backend;
use crate::limits::VISIBLE_MAX;

/// A GPU on the machine's bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibleGpu {
    /// Its maker.
    pub maker: Maker,
    /// Its address on the bus, such as `0000:01:00.0`.
    pub address: String,
    /// Whether this process sees the maker's device files: in a container they may be missing where the bus is not.
    pub has_device_file: bool,
}

/// Whose GPU it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
}

impl Maker {
    fn of_vendor(id: &str) -> Option<Self> {
        match id {
            "0x10de" => Some(Self::Nvidia),
            "0x1002" => Some(Self::Amd),
            "0x8086" => Some(Self::Intel),
            // The pictures of virtual machines and of servers' consoles are drawn by others.
            _ => None,
        }
    }

    /// The backends that compute on it.
    #[must_use]
    pub fn backends(self) -> &'static [Backend] {
        match self {
            Self::Nvidia => &[Backend::Cuda, Backend::Vulkan],
            Self::Amd => &[Backend::Rocm, Backend::Vulkan],
            Self::Intel => &[Backend::Vulkan],
        }
    }

    fn device_file(self) -> &'static str {
        match self {
            Self::Nvidia => "dev/nvidiactl",
            Self::Amd => "dev/kfd",
            Self::Intel => "dev/dri",
        }
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nvidia => "NVIDIA",
            Self::Amd => "AMD",
            Self::Intel => "Intel",
        })
    }
}

impl fmt::Display for VisibleGpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a GPU of {} ({})", self.maker, self.address)?;
        if !self.has_device_file {
            write!(f, ", whose device file /{} this process does not see", self.maker.device_file())?;
        }
        Ok(())
    }
}

/// The GPUs of this machine.
#[must_use]
pub fn visible_gpus() -> Vec<VisibleGpu> {
    visible_below(Path::new("/"))
}

/// The same, for a system whose `sys` and `dev` are below `root`.
fn visible_below(root: &Path) -> Vec<VisibleGpu> {
    let Ok(entries) = fs::read_dir(root.join("sys/bus/pci/devices")) else { return Vec::new() };
    let mut gpus: Vec<VisibleGpu> = entries.filter_map(|entry| visible(root, &entry.ok()?.path())).collect();
    gpus.sort_by(|a, b| a.address.cmp(&b.address));
    gpus.truncate(VISIBLE_MAX);
    gpus
}

fn visible(root: &Path, device: &Path) -> Option<VisibleGpu> {
    let read = |name: &str| fs::read_to_string(device.join(name)).ok();
    // 0x03…: display controllers; 0x1200: accelerators that have no display, as AMD's are.
    let class = read("class")?;
    if !class.starts_with("0x03") && !class.starts_with("0x1200") {
        return None;
    }
    let maker = Maker::of_vendor(read("vendor")?.trim())?;
    Some(VisibleGpu {
        maker,
        address: device.file_name()?.to_string_lossy().into_owned(),
        has_device_file: root.join(maker.device_file()).exists(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        root
    }

    // R17
    #[test]
    fn gpus_on_the_bus_are_seen() {
        let root = machine(&[
            ("sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n"),
            ("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n"),
            ("sys/bus/pci/devices/0000:02:00.0/class", "0x120000\n"),
            ("sys/bus/pci/devices/0000:02:00.0/vendor", "0x1002\n"),
            // A network card of Intel's, and a virtual machine's display.
            ("sys/bus/pci/devices/0000:03:00.0/class", "0x020000\n"),
            ("sys/bus/pci/devices/0000:03:00.0/vendor", "0x8086\n"),
            ("sys/bus/pci/devices/0000:04:00.0/class", "0x030000\n"),
            ("sys/bus/pci/devices/0000:04:00.0/vendor", "0x1234\n"),
            ("sys/bus/pci/devices/0000:05:00.0/class", ""),
            ("dev/nvidiactl", ""),
        ]);
        let shown: Vec<String> = visible_below(root.path()).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "a GPU of NVIDIA (0000:01:00.0)",
                "a GPU of AMD (0000:02:00.0), whose device file /dev/kfd this process does not see"
            ]
        );
    }

    #[test]
    fn a_machine_without_a_bus_has_none() {
        assert_eq!(visible_below(machine(&[]).path()), []);
    }
}
