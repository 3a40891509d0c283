//! The loadable parts of llama.cpp: one file per backend, and one per generation of processors for the CPU.
//!
//! They are looked for in one folder that is known beforehand, never in the working directory, where anybody may have put
//! a file. llama.cpp's own search does both and keeps its reasons to itself, so the files are listed, asked and loaded here,
//! one by one.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use libloading::{Library, Symbol};
use llama_cpp_sys_2 as sys;

use crate::device::Backend;
use crate::error::BackendError;
use crate::limits::MODULES_MAX;
use crate::log;

/// Beside the folder of the executable, where it is installed, and in it, where cargo builds it.
const PLACES: [&str; 2] = ["../lib/outrigger", "lib/outrigger"];

/// A module's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) backend: Backend,
    /// The generation of processors that it is made for; empty for the only one of its kind.
    pub(crate) variant: String,
    pub(crate) path: PathBuf,
}

/// A module that was loaded.
pub(crate) struct Loaded {
    pub(crate) module: Module,
    pub(crate) registered: sys::ggml_backend_reg_t,
}

/// The folder to load from: the one that was named, or the one that belongs to this executable.
pub(crate) fn directory(named: Option<&Path>) -> Result<PathBuf, BackendError> {
    if let Some(named) = named {
        return if named.is_dir() {
            Ok(named.to_owned())
        } else {
            Err(BackendError::NamedDirectory { path: named.to_owned() })
        };
    }
    let executable = std::env::current_exe().map_err(|source| BackendError::Executable { source })?;
    let folder = executable.parent().unwrap_or(Path::new("/"));
    let candidates: Vec<PathBuf> = PLACES.iter().map(|place| folder.join(place)).collect();
    match candidates.iter().find(|candidate| candidate.is_dir()) {
        Some(found) => Ok(found.canonicalize().unwrap_or_else(|_| found.clone())),
        None => Err(BackendError::NoDirectory { tried: candidates }),
    }
}

/// The modules of a folder, in the order of their names.
pub(crate) fn list(directory: &Path) -> Result<Vec<Module>, BackendError> {
    let unreadable = |source| BackendError::Directory { path: directory.to_owned(), source };
    let mut modules = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if let Some((backend, variant)) = path.file_name().and_then(module_name)
            && path.is_file()
        {
            modules.push(Module { backend, variant: variant.to_owned(), path });
        }
    }
    modules.sort_by(|a, b| a.path.cmp(&b.path));
    modules.truncate(MODULES_MAX);
    Ok(modules)
}

/// The backend and variant that a file's name speaks of: `libggml-cpu-haswell.so`, `libggml-cuda.so`.
fn module_name(file: &OsStr) -> Option<(Backend, &str)> {
    let name = file.to_str()?.strip_prefix("libggml-")?.strip_suffix(".so")?;
    Backend::ORDER.into_iter().find_map(|backend| {
        let rest = name.strip_prefix(backend.module_name())?;
        match (backend, rest.strip_prefix('-')) {
            (_, None) if rest.is_empty() => Some((backend, "")),
            (Backend::Cpu, Some(variant)) if !variant.is_empty() => Some((backend, variant)),
            _ => None,
        }
    })
}

/// The file that a backend's module has; the CPU's have more to their names.
pub(crate) fn file_name(backend: Backend) -> String {
    format!("libggml-{}.so", backend.module_name())
}

/// Loads the CPU's variant that fits this processor best. The other answers are why each of the others was not taken.
pub(crate) fn load_cpu(directory: &Path, modules: &[Module]) -> Result<Loaded, BackendError> {
    let variants = modules.iter().filter(|module| module.backend == Backend::Cpu);
    let mut reasons = Vec::new();
    let mut scored: Vec<(i32, &Module)> = Vec::new();
    for module in variants {
        match score(module) {
            Ok(score) => scored.push((score, module)),
            Err(why) => reasons.push((module.path.clone(), why)),
        }
    }
    for (score, module) in best_first(&mut scored) {
        if *score == 0 {
            reasons.push((module.path.clone(), "is made for other processors".to_owned()));
            continue;
        }
        match load(module) {
            Ok((loaded, _)) => return Ok(loaded),
            Err(why) => reasons.push((module.path.clone(), why)),
        }
    }
    Err(BackendError::NoCpu { directory: directory.to_owned(), reasons })
}

/// By score, and of equals the one whose name comes first, so that two starts take the same one.
fn best_first<'a, 'm>(scored: &'a mut [(i32, &'m Module)]) -> &'a [(i32, &'m Module)] {
    scored.sort_by(|(a, first), (b, second)| b.cmp(a).then_with(|| first.path.cmp(&second.path)));
    scored
}

/// How well a variant fits this processor; 0: not at all. Only such as are made by variants say so; the only one of its
/// kind is taken as it is.
fn score(module: &Module) -> Result<i32, String> {
    let library = open(module)?;
    // SAFETY: this is the symbol's type in ggml-backend-impl.h.
    let score: Result<Symbol<'_, unsafe extern "C" fn() -> i32>, _> = unsafe { library.get(b"ggml_backend_score\0") };
    // SAFETY: it asks the processor, and nothing else.
    Ok(score.map_or(1, |score| unsafe { score() }).max(0))
}

/// Loads a module and registers its backend with llama.cpp. With it comes what llama.cpp had to say about that.
pub(crate) fn load(module: &Module) -> Result<(Loaded, String), String> {
    // The dynamic linker's reason; llama.cpp would have it in its log only.
    let _held = open(module)?;
    let path = CString::new(module.path.as_os_str().as_bytes()).map_err(|_| "its path holds a NUL".to_owned())?;
    // SAFETY: the path is NUL-terminated. What the module does when it is loaded is llama.cpp's own code: the folder is the
    // operator's or the installed one.
    let (registered, said) = log::tried(|| unsafe { sys::ggml_backend_load(path.as_ptr()) });
    match (registered.is_null(), said) {
        (false, said) => Ok((Loaded { module: module.clone(), registered }, said)),
        (true, said) if said.is_empty() => Err("it registers no backend, and gives no reason".to_owned()),
        (true, said) => Err(said),
    }
}

fn open(module: &Module) -> Result<Library, String> {
    // SAFETY: as for `load`.
    unsafe { Library::new(&module.path) }.map_err(|error| {
        let error = error.to_string();
        // The linker begins with the path of what it could not open, where that is this very file.
        let own = format!("{}: ", module.path.display());
        error.strip_prefix(&own).unwrap_or(&error).to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_name_says_what_it_is() {
        let check = |name: &str, expected: Option<(Backend, &'static str)>| {
            assert_eq!(module_name(OsStr::new(name)), expected, "{name}");
        };
        check("libggml-cpu-haswell.so", Some((Backend::Cpu, "haswell")));
        check("libggml-cpu.so", Some((Backend::Cpu, "")));
        check("libggml-cuda.so", Some((Backend::Cuda, "")));
        check("libggml-hip.so", Some((Backend::Rocm, "")));
        check("libggml-vulkan.so", Some((Backend::Vulkan, "")));
        for other in [
            "libggml-base.so",
            "libggml-rpc.so",
            "libggml-cuda-12.so",
            "libggml-cpu-.so",
            "libggml-cpu-haswell.so.bak",
            "libggml-base.so.0",
            "libggml.so",
            "ggml-cuda.so",
        ] {
            check(other, None);
        }
    }

    fn module(variant: &str) -> Module {
        Module { backend: Backend::Cpu, variant: variant.to_owned(), path: format!("libggml-cpu-{variant}.so").into() }
    }

    #[test]
    fn the_best_score_comes_first_and_of_equals_the_first_name() {
        let (haswell, zen4, icelake, alien) = (module("haswell"), module("zen4"), module("icelake"), module("alien"));
        let mut scored = [(0, &alien), (64, &haswell), (1024, &zen4), (1024, &icelake)];
        let order: Vec<&str> = best_first(&mut scored).iter().map(|(_, module)| module.variant.as_str()).collect();
        assert_eq!(order, ["icelake", "zen4", "haswell", "alien"]);
    }

    #[test]
    fn a_folder_without_a_usable_module_says_why_of_each() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = directory(Some(&folder.path().join("no"))).expect_err("no folder").to_string();
        assert!(missing.contains("`backends_dir`"), "{missing}");
        let empty =
            load_cpu(folder.path(), &list(folder.path()).expect("an empty list")).map(|_| ()).expect_err("empty");
        assert!(empty.to_string().contains("holds no libggml-cpu"), "{empty}");
        fs::write(folder.path().join("libggml-cpu-fake.so"), "not a library").expect("a file");
        fs::write(folder.path().join("notes.txt"), "").expect("a file");
        let modules = list(folder.path()).expect("one module");
        assert_eq!(modules.len(), 1);
        let error = load_cpu(folder.path(), &modules).map(|_| ()).expect_err("no library").to_string();
        assert!(error.contains("libggml-cpu-fake.so: ") && error.contains("file too short"), "{error}");
    }
}
