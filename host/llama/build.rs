//! Lays out llama.cpp's libraries and modules beside the binaries as they are installed: `lib/outrigger` holds all of them.
//!
//! llama-cpp-sys-2 leaves them deep in its own output directory and sets no path to find them by. From here they are found
//! by a path relative to whatever runs (`RPATH`), so that a binary starts from the shell as it does under cargo.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where a binary looks: the installed tree (`bin/` beside `lib/`), which is also where a test or an example in a folder of
/// its own finds them, then the folder that cargo builds binaries into.
const RPATH: [&str; 2] = ["$ORIGIN/../lib/outrigger", "$ORIGIN/lib/outrigger"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The older tag, which goes before LD_LIBRARY_PATH: another llama.cpp of the machine must not take the place of ours.
    println!("cargo::rustc-link-arg=-Wl,--disable-new-dtags");
    for path in RPATH {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{path}");
    }
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // target/PROFILE/build/llama-HASH/out
    let profile_dir = out_dir.ancestors().nth(3).expect("an output directory of cargo");
    let modules = std::env::var_os("DEP_LLAMA_BACKENDS_DIR").map(PathBuf::from);
    let modules = modules.expect("llama-cpp-sys-2 is built with `dynamic-backends`, and says where the modules are");
    let built = modules.parent().expect("the modules are in the output directory of llama-cpp-sys-2");
    stage(&[built.join("lib"), built.join("lib64"), modules.clone()], &profile_dir.join("lib").join("outrigger"))
        .expect("llama.cpp's libraries can be laid out beside the binaries");
    for folder in [profile_dir.to_owned(), profile_dir.join("deps"), profile_dir.join("examples")] {
        remove_dangling_links(&folder).expect("the folder of the binaries can be changed");
    }
}

/// Links into `target` what is loaded at run time, and nothing else: a module of another build must not stay behind.
fn stage(sources: &[PathBuf], target: &Path) -> io::Result<()> {
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    fs::create_dir_all(target)?;
    for source in sources.iter().filter(|source| source.is_dir()) {
        for entry in fs::read_dir(source)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // `libggml-base.so` is a link, for compilers.
            let is_module =
                name.starts_with("libggml-") && path.extension().is_some_and(|it| it == "so") && !path.is_symlink();
            if !is_module && !is_versioned_library(name) {
                continue;
            }
            let (file, staged) = (path.canonicalize()?, target.join(name));
            // Another file system has no links to this one.
            fs::hard_link(&file, &staged).or_else(|_| fs::copy(&file, &staged).map(drop))?;
            println!("cargo::rerun-if-changed={}", staged.display());
        }
    }
    Ok(())
}

/// `libllama.so.0`: the name under which the dynamic linker looks for a library.
fn is_versioned_library(name: &str) -> bool {
    name.split_once(".so.")
        .is_some_and(|(_, version)| !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()))
}

/// llama-cpp-sys-2 links `libllama.so` here, which points at a file that is not here, and ends with an error where it finds
/// one from the last time.
fn remove_dangling_links(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_symlink() && path.extension().is_some_and(|extension| extension == "so") && !path.exists() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
