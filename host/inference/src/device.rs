//! What a model is computed with, for those who ask.

/// What a model is computed with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceFacts {
    /// The kind of device, such as `cuda` or `cpu`.
    pub backend: String,
    /// The devices, by the names their makers gave them.
    pub devices: Vec<String>,
    /// The generation of processors that what runs on the CPU was compiled for.
    pub cpu_variant: String,
    /// Layers that the devices compute, the output's counted as one.
    pub layers: u32,
    /// How many there are.
    pub layers_total: u32,
    /// The other kinds of devices, and why each of them does not compute.
    pub skipped: Vec<(String, String)>,
}
