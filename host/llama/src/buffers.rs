//! What memory llama.cpp took, as it says itself (R18): the only place where it tells all of it is its log.

/// A buffer that llama.cpp made.
#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    /// Where it is, in llama.cpp's words, such as `CPU`, `CPU_Mapped`, `CPU_REPACK`, `CUDA0` or `CUDA_Host`.
    pub place: String,
    /// What it holds.
    pub part: Part,
    /// Its size. llama.cpp says it in MiB with two digits.
    pub bytes: u64,
}

/// What a buffer holds, by the parts of a footprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Tensors of the model.
    Weights,
    /// Keys and values, or states.
    Kv,
    /// What a batch needs, and its logits.
    Compute,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Weights, Self::Kv, Self::Compute];

    /// A word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Kv => "kv_cache",
            Self::Compute => "compute",
        }
    }
}

impl Buffer {
    /// `load_tensors:   CPU_Mapped model buffer size =    92.87 MiB`
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (what, size) = line.split_once(" buffer size = ")?;
        let mebibytes: f64 = size.trim().strip_suffix("MiB")?.trim().parse().ok()?;
        let (_, what) = what.split_once(": ")?;
        let (place, part) = what.trim().split_once(' ')?;
        let part = match part.trim() {
            "model" => Part::Weights,
            "KV" | "RS" => Part::Kv,
            "compute" | "output" => Part::Compute,
            _ => return None,
        };
        if !(0.0..1e9).contains(&mebibytes) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, and rounded on purpose")]
        let bytes = (mebibytes * f64::from(1 << 20)).round() as u64;
        Some(Self { place: place.to_owned(), part, bytes })
    }

    /// Whether it is in a GPU's own memory. What llama.cpp calls `CUDA_Host` is pinned memory of the machine.
    #[must_use]
    pub fn is_on_device(&self) -> bool {
        !self.place.starts_with("CPU") && !self.place.ends_with("_Host")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, Part, u64, bool)>) {
        let found = Buffer::parse(line);
        let found = found.as_ref().map(|it| (it.place.as_str(), it.part, it.bytes, it.is_on_device()));
        assert_eq!(found, expected, "{line}");
    }

    // R18
    #[test]
    fn lines_of_llama_cpp_are_understood() {
        const MIB: u64 = 1 << 20;
        check(
            "load_tensors:   CPU_Mapped model buffer size =    93.50 MiB",
            Some(("CPU_Mapped", Part::Weights, 187 * MIB / 2, false)),
        );
        check(
            "load_tensors:   CPU_REPACK model buffer size =     2.00 MiB",
            Some(("CPU_REPACK", Part::Weights, 2 * MIB, false)),
        );
        check("llama_kv_cache:    Vulkan0 KV buffer size =    45.00 MiB", Some(("Vulkan0", Part::Kv, 45 * MIB, true)));
        check("llama_memory_recurrent:  CPU RS buffer size =     1.00 MiB", Some(("CPU", Part::Kv, MIB, false)));
        check(
            "sched_reserve:      CUDA0 compute buffer size =    97.00 MiB",
            Some(("CUDA0", Part::Compute, 97 * MIB, true)),
        );
        check(
            "llama_context:        CPU  output buffer size =     0.25 MiB",
            Some(("CPU", Part::Compute, MIB / 4, false)),
        );
        check(
            "sched_reserve: Vulkan_Host compute buffer size =     1.00 MiB",
            Some(("Vulkan_Host", Part::Compute, MIB, false)),
        );
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            " buffer size = 1.00 MiB",
            "x: CPU model buffer size = many MiB",
            "x: CPU model buffer size = -1.00 MiB",
            "x: CPU model buffer size = inf MiB",
            "x: CPU LoRA buffer size = 1.00 MiB",
            "x: CPU model buffer size = 1.00 GiB",
        ] {
            check(line, None);
        }
    }
}
