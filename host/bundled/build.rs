//! Compiles the guests with `plugins/build.sh` and puts the components where `lib.rs` embeds them from.
//!
//! The guests have a target folder of their own (`plugins/target`), so that debug and release builds of the host
//! share one build of them. Nothing of this cargo run reaches the nested one: its flags, wrappers and target folder
//! are for the host.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// Variables of cargo that say where it lives and what it may download, and so hold for the guests too.
const CARGO_KEPT: [&str; 6] =
    ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];

/// Variables that cargo sets for build scripts and programs set for cargo: about the host's compilation.
const DROPPED: [&str; 14] = [
    "CLIPPY_",
    "DEBUG",
    "DEP_",
    "HOST",
    "LD_LIBRARY_PATH",
    "MAKEFLAGS",
    "MFLAGS",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let plugins = root.join("plugins");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut packages = vec!["chat-template", "redact"];
    if env::var_os("CARGO_FEATURE_MISBEHAVING").is_some() {
        packages.push("misbehaving");
    }

    watch(&root, &plugins, &packages);
    let built = build(&plugins, &packages)?;
    for package in &packages {
        let file = format!("{}.wasm", package.replace('-', "_"));
        fs::copy(built.join(&file), out.join(&file))
            .map_err(|error| format!("failed to copy {file} from {}: {error}", built.display()))?;
    }
    write_manifests(&plugins, &packages, &out)
}

/// The table of manifests that `lib.rs` includes. Every plugin has one, but the guest that is only for tests.
fn write_manifests(plugins: &Path, packages: &[&str], out: &Path) -> Result<(), Box<dyn Error>> {
    let mut table = String::from("&[");
    for package in packages.iter().filter(|package| **package != "misbehaving") {
        let manifest = plugins.join(package).join("plugin.toml");
        if !manifest.is_file() {
            return Err(format!("{} is missing; plugins/MANIFEST.md says what is in it", manifest.display()).into());
        }
        let path = manifest.to_str().ok_or("the path of the plugins is not UTF-8")?;
        write!(table, "({package:?}, include_str!({path:?})), ")?;
    }
    table.push(']');
    Ok(fs::write(out.join("manifests.rs"), table)?)
}

/// Runs the script; its last line says where the components are.
fn build(plugins: &Path, packages: &[&str]) -> Result<PathBuf, Box<dyn Error>> {
    let script = plugins.join("build.sh");
    let mut command = Command::new(&script);
    command.args(packages).current_dir(plugins).stdin(Stdio::null()).stderr(Stdio::inherit());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_the_host) {
            command.env_remove(name);
        }
    }
    let output = command.output().map_err(|error| format!("failed to run {}: {error}", script.display()))?;
    if !output.status.success() {
        return Err(format!("failed to build the plugins: {} ended with {}", script.display(), output.status).into());
    }
    let said = String::from_utf8(output.stdout)?;
    Ok(PathBuf::from(said.lines().last().ok_or("plugins/build.sh did not say where the components are")?))
}

fn is_of_the_host(name: &str) -> bool {
    let is_one_of = |names: &[&str]| names.iter().any(|start| name.starts_with(start));
    (name.starts_with("CARGO") && !is_one_of(&CARGO_KEPT)) || name == "TARGET" || is_one_of(&DROPPED)
}

/// Everything that the guests are made of; not `plugins/target`, which every build writes.
fn watch(root: &Path, plugins: &Path, packages: &[&str]) {
    println!("cargo::rerun-if-env-changed=OUTRIGGER_WASM_TOOLCHAIN");
    let mut sources = vec![root.join("wit"), root.join("rust-toolchain.toml")];
    sources.extend(
        [".cargo/config.toml", "Cargo.toml", "Cargo.lock", "build.sh", "make-sysroot.sh"]
            .map(|file| plugins.join(file)),
    );
    for package in packages.iter().chain(&["sdk"]) {
        sources.extend(["Cargo.toml", "src"].map(|part| plugins.join(package).join(part)));
    }
    sources
        .extend(packages.iter().map(|package| plugins.join(package).join("plugin.toml")).filter(|file| file.is_file()));
    for source in sources {
        println!("cargo::rerun-if-changed={}", source.display());
    }
}
