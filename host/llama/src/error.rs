//! Why a model cannot be served.

use std::io;
use std::path::PathBuf;

use crate::device::Backend;
use crate::limits::SLOTS_MAX;
use crate::probe::Skipped;

/// Why nothing can be computed with.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The process cannot tell where it was started from.
    #[error(
        "cannot find out where this program is, to look for llama.cpp's modules beside it; name their folder with `backends_dir`"
    )]
    Executable {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nothing is where the modules belong.
    #[error(
        "llama.cpp's modules are missing: there is no folder {}; install the whole tree (bin and lib/outrigger, see \
         deploy/install.sh), or name their folder with `backends_dir`",
        joined(.tried.iter().map(|path| path.display().to_string()), " and no folder ")
    )]
    NoDirectory {
        /// Where they were looked for.
        tried: Vec<PathBuf>,
    },
    /// What the configuration names is no folder.
    #[error(
        "`backends_dir` is {path}, which is no folder; name the one that holds libggml-cpu-*.so",
        path = .path.display()
    )]
    NamedDirectory {
        /// What it names.
        path: PathBuf,
    },
    /// The folder cannot be read.
    #[error("cannot read the folder of llama.cpp's modules, {path}", path = .path.display())]
    Directory {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No module for the processor: without one nothing computes.
    #[error(
        "llama.cpp cannot compute on this processor: {directory} {}; install the modules that this program was built with \
         (deploy/install.sh), or name their folder with `backends_dir`",
        unusable(.reasons),
        directory = .directory.display()
    )]
    NoCpu {
        /// The folder.
        directory: PathBuf,
        /// Each module, and why not.
        reasons: Vec<(PathBuf, String)>,
    },
    /// R17: what was asked for is not there.
    #[error("`device` is {wanted}, and there is none: {why} (modules in {}); {}, or set `device` to auto or cpu", .directory.display(), remedy(*.wanted))]
    NoDevice {
        /// What was asked for.
        wanted: Backend,
        /// The folder of the modules.
        directory: PathBuf,
        /// What is wrong.
        why: Skipped,
    },
    /// A GPU that is not there.
    #[error("`main_gpu` is {index}, and {backend} has {count} {devices}: {names}", devices = if *.count == 1 { "device" } else { "devices" })]
    NoSuchGpu {
        /// What was asked for.
        index: u32,
        /// What computes.
        backend: Backend,
        /// How many there are.
        count: usize,
        /// What they are called.
        names: String,
    },
}

fn joined(items: impl Iterator<Item = String>, between: &str) -> String {
    items.collect::<Vec<_>>().join(between)
}

fn unusable(reasons: &[(PathBuf, String)]) -> String {
    if reasons.is_empty() {
        return "holds no libggml-cpu*.so".to_owned();
    }
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!(
        "has none that works ({})",
        joined(reasons.iter().map(|(path, why)| format!("{}: {why}", name(path))), "; ")
    )
}

/// R17: what makes a backend available.
pub(crate) fn remedy(backend: Backend) -> &'static str {
    match backend {
        Backend::Cuda => {
            "build the module with `deploy/backend.sh cuda`, install NVIDIA's driver and give the process /dev/nvidia*"
        }
        Backend::Rocm => {
            "build the module with `deploy/backend.sh hip`, install AMD's driver and give the process /dev/kfd and /dev/dri"
        }
        Backend::Vulkan => {
            "build the module with `deploy/backend.sh vulkan`, install the GPU's Vulkan driver and give the process /dev/dri"
        }
        Backend::Metal => "use macOS",
        Backend::Cpu => "install llama.cpp's modules",
    }
}

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is nothing to compute with.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Not where it may compute.
    #[error("cannot compute on the processors {cpus} (`cpus`): this process may run on {allowed}")]
    Cpus {
        /// What was chosen.
        cpus: String,
        /// What there is.
        allowed: String,
    },
    /// The file cannot be read.
    #[error("failed to open the model file {path}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is something else.
    #[error(
        "{path} is not a GGUF file: it starts with {found}, not with \"GGUF\"; give a model in llama.cpp's format",
        path = .path.display()
    )]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// Its first bytes.
        found: String,
    },
    /// The path cannot be handed to llama.cpp.
    #[error("the path {path:?} is not UTF-8 or contains a NUL; rename the file")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// llama.cpp does not take it.
    #[error("llama.cpp cannot load {path}: {reason}", path = .path.display())]
    Rejected {
        /// The file.
        path: PathBuf,
        /// Its last words.
        reason: String,
    },
    /// The model neither completes nor encodes text in a way that is served.
    #[error(
        "{path} holds a model of architecture `{architecture}`, which {why}; serve a model that completes text or embeds it",
        path = .path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// `general.architecture`.
        architecture: String,
        /// What it is instead.
        why: &'static str,
    },
    /// llama.cpp would end the process over what the file says.
    #[error("the model file {path} is broken: {reason}; download it again, or convert it again", path = .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// More sequences than llama.cpp can hold.
    #[error("{slots} concurrent requests are asked for, and llama.cpp computes at most {SLOTS_MAX} side by side")]
    TooManySlots {
        /// What was asked for.
        slots: usize,
    },
    /// There is no memory for the context, most likely.
    #[error(
        "failed to make a context of {context_length} tokens for each of {slots} concurrent requests: {reason}; try a \
         smaller context length or fewer concurrent requests"
    )]
    Context {
        /// Tokens per sequence.
        context_length: u32,
        /// Sequences.
        slots: usize,
        /// llama.cpp's last words.
        reason: String,
    },
    /// The same, for a model that encodes.
    #[error("failed to make a context for inputs of {context_length} tokens: {reason}; try a smaller context length")]
    EncodingContext {
        /// Tokens of an input.
        context_length: u32,
        /// llama.cpp's last words.
        reason: String,
    },
    /// The model loads and does not compute.
    #[error("the model failed to compute its first token: {reason}")]
    WarmUp {
        /// What the decoder said.
        reason: String,
    },
}
