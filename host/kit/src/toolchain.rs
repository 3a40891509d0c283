//! What it takes to compile Rust for WebAssembly, and what to do where it is not there.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What plugins are compiled for: the component is made by the linker, with no WASI in it.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// The linker that makes a component at once; it comes with every toolchain of rustup.
const LINKER: &str = "wasm-component-ld";

/// What is missing, and the command that installs it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolchainError {
    /// There is no cargo.
    #[error(
        "cargo is not there, and Rust plugins are built with it; install Rust:\n\n  \
         curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh\n  rustup target add {TARGET}"
    )]
    Cargo,
    /// The compiler cannot make WebAssembly.
    #[error(
        "the Rust compiler ({version}) has no standard library for {TARGET}; install it:\n\n  {}",
        if *has_rustup { "rustup target add wasm32-unknown-unknown" } else {
            "apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src   (Debian 12 and later; then \
             plugins/make-sysroot.sh of Outrigger's sources)\n\nor use rustup (https://rustup.rs):\n\n  \
             rustup target add wasm32-unknown-unknown"
        }
    )]
    Target {
        /// What the compiler calls itself.
        version: String,
        /// Whether rustup is there.
        has_rustup: bool,
    },
    /// The linker is missing.
    #[error(
        "`{LINKER}`, the linker that makes components, is neither in PATH nor in the Rust toolchain; every toolchain of rustup has it \
         (https://rustup.rs), or:\n\n  cargo install wasm-component-ld"
    )]
    Linker,
}

/// Variables that cargo has to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Toolchain {
    variables: Vec<(&'static str, OsString)>,
}

impl Toolchain {
    /// Looks for what is needed, as cargo would in `folder`.
    pub(crate) fn find(folder: &Path) -> Result<Self, ToolchainError> {
        if said(folder, "cargo", &["--version"]).is_none() {
            return Err(ToolchainError::Cargo);
        }
        let mut this = Self::default();
        let mut rustc = "rustc".to_owned();
        let libraries = said(folder, "rustc", &["--print", "target-libdir", "--target", TARGET]);
        if libraries.is_none_or(|folder| !Path::new(&folder).is_dir()) {
            // Made by plugins/make-sysroot.sh from Debian's packages.
            let made = sysroot_of_ours().join("bin/rustc");
            if !made.is_file() {
                let version = said(folder, "rustc", &["--version"]).unwrap_or_else(|| "no rustc".to_owned());
                let has_rustup = said(folder, "rustup", &["--version"]).is_some();
                return Err(ToolchainError::Target { version, has_rustup });
            }
            rustc = made.display().to_string();
            this.variables.push(("RUSTC", rustc.clone().into()));
        }
        let own = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER";
        // A variable would win over what the project's own configuration says.
        if env::var_os(own).is_none() && !names_linker(folder) {
            this.variables.push((own, LINKER.into()));
            this.find_linker(folder, &rustc)?;
        }
        Ok(this)
    }

    /// rustc looks for the linker beside itself; a compiler that was installed otherwise finds it through PATH.
    fn find_linker(&mut self, folder: &Path, rustc: &str) -> Result<(), ToolchainError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let is_in = |folder: &Path| folder.join(LINKER).is_file();
        if env::split_paths(&path).any(|folder| is_in(&folder)) {
            return Ok(());
        }
        let beside = [rustc, "rustc"].into_iter().filter_map(|rustc| {
            let root = said(folder, rustc, &["--print", "sysroot"])?;
            let verbose = said(folder, rustc, &["-vV"])?;
            let host = verbose.lines().find_map(|line| line.strip_prefix("host: "))?.to_owned();
            Some(Path::new(&root).join("lib/rustlib").join(host).join("bin"))
        });
        let found = beside.into_iter().find(|folder| is_in(folder)).ok_or(ToolchainError::Linker)?;
        let folders = env::split_paths(&path).chain([found]);
        self.variables.push(("PATH", env::join_paths(folders).map_err(|_| ToolchainError::Linker)?));
        Ok(())
    }

    pub(crate) fn apply(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

/// Whether cargo's configuration for `folder` says which linker it is.
fn names_linker(folder: &Path) -> bool {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let home =
        env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let folders = folder.ancestors().map(|folder| folder.join(".cargo")).chain(home);
    folders.flat_map(|folder| [folder.join("config.toml"), folder.join("config")]).any(|file| {
        let table = fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
        table.is_some_and(|table| {
            let of_target = table.get("target").and_then(|targets| targets.get(TARGET));
            of_target.is_some_and(|target| target.get("linker").is_some())
        })
    })
}

/// What a program says in `folder`, where a toolchain may be chosen for it; `None` where it fails.
fn said(folder: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}

fn sysroot_of_ours() -> PathBuf {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).unwrap_or_default();
    cache.join("outrigger/wasm-sysroot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_chooses_its_linker() {
        let folder = tempfile::tempdir().expect("a folder");
        let plugin = folder.path().join("plugin");
        fs::create_dir_all(plugin.join(".cargo")).expect("a folder");
        let config = plugin.join(".cargo/config.toml");
        fs::write(&config, "[build]\njobs = 1\n").expect("written");
        let before = names_linker(&plugin);
        fs::write(&config, format!("[target.{TARGET}]\nlinker = \"mine\"\n")).expect("written");
        assert!(names_linker(&plugin) && names_linker(&plugin.join(".cargo")), "also from further down");
        assert!(!before, "it says something else");
    }

    #[test]
    fn what_is_missing_comes_with_the_command_that_installs_it() {
        let target = |has_rustup| ToolchainError::Target { version: "rustc 1.99.0".to_owned(), has_rustup }.to_string();
        assert!(
            target(true).ends_with("install it:\n\n  rustup target add wasm32-unknown-unknown"),
            "{}",
            target(true)
        );
        assert!(target(false).contains("apt-get install"), "{}", target(false));
        assert!(ToolchainError::Cargo.to_string().contains("sh.rustup.rs"));
    }
}
