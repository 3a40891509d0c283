//! A plugin's sources on disk: what its manifest says, how it is built, and what its component then is.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plugin::{Limits, Manifest, Package, PackageError, PluginSpec};
use serde_json::Value;

use crate::stand::with_sources;
use crate::toolchain::{TARGET, Toolchain, ToolchainError};

/// A folder with a `plugin.toml`.
#[derive(Debug)]
pub struct Project {
    /// The folder.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

/// A component that was just built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Where it is.
    pub component: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The manifest's command, where it ended well and left the file as it was: all was made before, or it makes another file.
    pub untouched_by: Option<String>,
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (component, kibibytes) = (self.component.display(), self.size_bytes.div_ceil(1024));
        match &self.untouched_by {
            None => write!(f, "built {component} ({kibibytes} KiB)"),
            Some(command) => write!(
                f,
                "`{command}` left {component} ({kibibytes} KiB) as it was: nothing had changed, or it makes another file than \
                 the `component` in plugin.toml"
            ),
        }
    }
}

/// What went wrong with a project.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// There is none.
    #[error("{} has no `plugin.toml`, so it is no plugin; `outrigger plugin new NAME` makes one", folder.display())]
    None {
        /// Where one was looked for.
        folder: PathBuf,
    },
    /// The manifest or the component cannot be used.
    #[error("{}", with_sources(.0))]
    Package(#[from] PackageError),
    /// The manifest does not say which file is the component.
    #[error("{}/plugin.toml does not say which file is the component; write `component = \"FILE.wasm\"` under [plugin]", folder.display())]
    NoComponent {
        /// The project.
        folder: PathBuf,
    },
    /// Nobody knows how to build it.
    #[error(
        "{} has no Cargo.toml, and its plugin.toml does not say how it is built; write under [build]: command = \"…\"",
        folder.display()
    )]
    NoBuild {
        /// The project.
        folder: PathBuf,
    },
    /// Something is missing on this machine.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// What the manifest says is needed is missing.
    #[error(
        "`{command}` needs what is not there; install it:\n\n{}",
        missing.iter().map(|(what, how)| format!("  {how}\n      for {what}\n")).collect::<String>().trim_end()
    )]
    Needs {
        /// The command.
        command: String,
        /// What is missing, programs first, and how it comes there.
        missing: Vec<(String, String)>,
    },
    /// A command could not be run.
    #[error("cannot run `{command}`: {source}")]
    Run {
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A command said no; what it had to say is on the terminal.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
    },
    /// The build went well and the component is not there.
    #[error("`{command}` ended well, and there is no {}; is `component` in plugin.toml the file that it makes?", component.display())]
    NotMade {
        /// The command.
        command: String,
        /// What should be there.
        component: PathBuf,
    },
    /// The component could not be put into its place.
    #[error("cannot write {}: {source}", component.display())]
    Place {
        /// Its place.
        component: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Cargo made no component.
    #[error("cargo built no component; its Cargo.toml needs under [lib]: crate-type = [\"cdylib\"]")]
    NoArtifact,
}

impl Project {
    /// Reads the project in `folder`.
    pub fn open(folder: &Path) -> Result<Self, ProjectError> {
        let manifest = Package::manifest(&folder.join("plugin.toml"))?;
        let manifest = manifest.ok_or_else(|| ProjectError::None { folder: folder.to_owned() })?;
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// The component's file.
    pub fn component(&self) -> Result<PathBuf, ProjectError> {
        let named = self.manifest.about.component.as_ref();
        let named = named.ok_or_else(|| ProjectError::NoComponent { folder: self.folder.clone() })?;
        Ok(self.folder.join(named))
    }

    /// Builds the component. What the compiler says goes to standard error.
    pub fn build(&self) -> Result<Built, ProjectError> {
        let component = self.component()?;
        let written = || fs::metadata(&component).and_then(|metadata| metadata.modified()).ok();
        let before = written();
        let command = match &self.manifest.build.command {
            Some(command) => {
                self.check_needs(command)?;
                run(shell(command, &self.folder), command)?;
                command.clone()
            }
            None if self.folder.join("Cargo.toml").is_file() => {
                let made = self.cargo_build()?;
                put(&made, &component)?;
                "cargo build".to_owned()
            }
            None => return Err(ProjectError::NoBuild { folder: self.folder.clone() }),
        };
        match fs::metadata(&component) {
            Ok(metadata) if metadata.is_file() => {
                // Cargo says itself which file it is.
                let is_untouched = self.manifest.build.command.is_some() && before.is_some() && before == written();
                let untouched_by = is_untouched.then_some(command);
                Ok(Built { size_bytes: metadata.len(), component, untouched_by })
            }
            _ => Err(ProjectError::NotMade { command, component }),
        }
    }

    /// Looks for what the manifest says its command needs.
    fn check_needs(&self, command: &str) -> Result<(), ProjectError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let is_program = |what: &str| !what.contains('/');
        let is_there = |what: &str| {
            let in_path = || env::split_paths(&path).any(|folder| folder.join(what).is_file());
            if is_program(what) { in_path() } else { self.folder.join(what).exists() }
        };
        let missing = self.manifest.build.needs.iter().filter(|(what, _)| !is_there(what));
        let mut missing: Vec<_> = missing.map(|(what, how)| (what.clone(), how.clone())).collect();
        // Programs are what the rest is installed with.
        missing.sort_by_key(|(what, _)| !is_program(what));
        if missing.is_empty() { Ok(()) } else { Err(ProjectError::Needs { command: command.to_owned(), missing }) }
    }

    /// Runs the language's own tests; `None` where there are none to run.
    #[must_use]
    pub fn test(&self) -> Option<Result<(), ProjectError>> {
        if let Some(command) = &self.manifest.build.test {
            return Some(run(told_of_us(shell(command, &self.folder)), command));
        }
        if self.manifest.build.command.is_some() || !self.folder.join("Cargo.toml").is_file() {
            return None;
        }
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--quiet"]).current_dir(&self.folder);
        Some(run(told_of_us(cargo), "cargo test"))
    }

    /// What the host is told of it, with everything granted that the manifest asks for. It is called as its manifest says, if a
    /// plugin may be called so.
    pub fn spec(&self) -> Result<PluginSpec, ProjectError> {
        let package = Package::read(&self.folder, component_bytes_max(&self.manifest))?;
        let mut spec = PluginSpec::new(&self.manifest.about.name, package.source, package.component);
        spec.component_bytes = package.component_bytes;
        spec.manifest = package.manifest;
        plugin::grant_what_is_asked(&mut spec);
        Ok(spec)
    }

    /// Where the cases are.
    #[must_use]
    pub fn cases(&self) -> PathBuf {
        self.folder.join("tests")
    }

    /// Builds with cargo, and says where it put the component: with a `CARGO_TARGET_DIR`, or in a workspace, nobody else knows.
    fn cargo_build(&self) -> Result<PathBuf, ProjectError> {
        const SHOWN: &str = "cargo build";
        let toolchain = Toolchain::find(&self.folder)?;
        let mut cargo = Command::new("cargo");
        toolchain.apply(&mut cargo);
        cargo.args(["build", "--release", "--lib", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
        cargo.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let failed_to_run = |source| ProjectError::Run { command: SHOWN.to_owned(), source };
        let mut child = cargo.spawn().map_err(failed_to_run)?;
        let manifest = self.folder.join("Cargo.toml").canonicalize().map_err(failed_to_run)?;
        let messages = child.stdout.take().map(BufReader::new);
        let made = messages.into_iter().flat_map(|messages| messages.lines().map_while(Result::ok));
        let made = made.filter_map(|line| component_of(&line, &manifest)).last();
        let status = child.wait().map_err(failed_to_run)?;
        if !status.success() {
            return Err(ProjectError::Failed { command: SHOWN.to_owned(), status: status.to_string() });
        }
        made.ok_or(ProjectError::NoArtifact)
    }
}

/// The component's size that a manifest asks for, or the default; what is larger the loader refuses.
#[must_use]
pub fn component_bytes_max(manifest: &Manifest) -> usize {
    let asked = manifest.asks.limits.get("component_bytes").map_or(0, |ask| ask.least);
    Limits::default().component_bytes_max.max(usize::try_from(asked).unwrap_or(usize::MAX))
}

/// The component that one of cargo's messages is about, if it is of the package with this manifest.
fn component_of(message: &str, manifest: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_ours = message["reason"] == "compiler-artifact"
        && message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest);
    let files = message["filenames"].as_array().filter(|_| is_ours)?;
    files
        .iter()
        .filter_map(Value::as_str)
        .map(PathBuf::from)
        .find(|file| file.extension().is_some_and(|end| end == "wasm"))
}

/// Puts a component into its place in one step: a host may be watching.
fn put(made: &Path, component: &Path) -> Result<(), ProjectError> {
    let same = |path: &Path| path.canonicalize().ok();
    if same(made).is_some() && same(made) == same(component) {
        return Ok(());
    }
    let placed = || {
        let folder = component.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        // A name of its own: another build of the folder may be putting the same component into its place.
        let new = tempfile::Builder::new().prefix(".").suffix(".wasm.new").tempfile_in(folder)?;
        fs::copy(made, new.path())?;
        new.persist(component)?;
        Ok(())
    };
    placed().map_err(|source| ProjectError::Place { component: component.to_owned(), source })
}

fn shell(command: &str, folder: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder);
    shell
}

/// Tests that ask the host of the component (`plugins/testkit`) ask this one.
fn told_of_us(mut tests: Command) -> Command {
    if let Ok(this) = env::current_exe() {
        tests.env("OUTRIGGER", this);
    }
    tests
}

/// Runs a command whose words are for the terminal: all of them go to standard error, as standard output is for results.
fn run(mut command: Command, shown: &str) -> Result<(), ProjectError> {
    let shown = || shown.to_owned();
    command.stdin(Stdio::null()).stdout(io::stderr());
    let status = command.status().map_err(|source| ProjectError::Run { command: shown(), source })?;
    if status.success() {
        return Ok(());
    }
    Err(ProjectError::Failed { command: shown(), status: status.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(manifest: &str) -> (tempfile::TempDir, Result<Project, ProjectError>) {
        let folder = tempfile::tempdir().expect("a folder");
        let about = "[plugin]\nname = \"a\"\nversion = \"1\"\ndescription = \"A.\"\n";
        fs::write(folder.path().join("plugin.toml"), format!("{about}{manifest}")).expect("a manifest");
        let project = Project::open(folder.path());
        (folder, project)
    }

    #[test]
    fn a_command_builds_what_is_no_rust() {
        let (folder, project) =
            project("[build]\ncommand = \"printf abc > out.wasm\"\ntest = \"exit 3\"\ncomponent = \"out.wasm\"");
        let project = project.expect("a project");
        let built = project.build().expect("built");
        let component = folder.path().join("out.wasm");
        assert_eq!(built, Built { component: component.clone(), size_bytes: 3, untouched_by: None });
        let failed = project.test().expect("it has tests").expect_err("they fail").to_string();
        assert!(failed.starts_with("`exit 3` failed (") && failed.contains('3'), "{failed}");
    }

    #[test]
    fn a_command_that_makes_nothing_is_told_of() {
        let (folder, project) = project("component = \"a.wasm\"\n[build]\ncommand = \"true\"\n");
        fs::write(folder.path().join("a.wasm"), "yesterday's").expect("written");
        let line = project.expect("a project").build().expect("it is there").to_string();
        assert!(line.starts_with("`true` left ") && line.contains("as it was"), "{line}");
    }

    #[test]
    fn what_a_command_needs_is_looked_for_first() {
        let needs = "[build]\ncommand = \"exit 7\"\ncomponent = \"a.wasm\"\n[build.needs]\n\"bin/tool\" = \"make tool\"\n\
                     sh = \"apt-get install dash\"\nno-such-program = \"apt-get install it\"\n";
        let (folder, project) = project(needs);
        let project = project.expect("a project");
        let error = project.build().expect_err("two are missing").to_string();
        let programs_first = "  apt-get install it\n      for no-such-program\n  make tool\n      for bin/tool";
        assert_eq!(error, format!("`exit 7` needs what is not there; install it:\n\n{programs_first}"));
        fs::create_dir(folder.path().join("bin")).expect("a folder");
        fs::write(folder.path().join("bin/tool"), "").expect("written");
        let error = project.build().expect_err("one is missing").to_string();
        assert!(error.ends_with("install it:\n\n  apt-get install it\n      for no-such-program"), "{error}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let check = |manifest: &str, expected: &str| {
            let (_folder, project) = project(manifest);
            let error = project.and_then(|project| project.build()).expect_err(manifest).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("", "does not say which file is the component");
        check("component = \"a.wasm\"", "write under [build]: command");
        check("component = \"a.wasm\"\n[build]\ncommand = \"true\"", "`true` ended well, and there is no");
        check("component = \"a.wasm\"\n[build]\ncommand = \"exit 7\"", "`exit 7` failed (exit status: 7)");
        check("component = \"a.wasm\"\n[build]\ncomponent = \"b.wasm\"", "leave one of them out");
        let folder = tempfile::tempdir().expect("a folder");
        let error = Project::open(folder.path()).expect_err("nothing is there").to_string();
        assert!(error.contains("outrigger plugin new"), "{error}");
    }

    #[test]
    fn two_builds_are_not_in_each_other_s_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let [made, component, others] = ["made.wasm", "a.wasm", "a.wasm.new"].map(|name| folder.path().join(name));
        fs::write(&made, "whole").expect("written");
        fs::write(&others, "half of ano").expect("written");
        let permissions = fs::metadata(&made).expect("there").permissions();
        put(&made, &component).expect("put");
        let read = |path: &Path| fs::read_to_string(path).expect("there");
        assert_eq!((read(&component).as_str(), read(&others).as_str()), ("whole", "half of ano"));
        assert_eq!(fs::metadata(&component).expect("there").permissions(), permissions, "others may read it");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3, "nothing else is left");
    }

    #[test]
    fn cargo_says_where_the_component_is() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","filenames":["/t/liba.rlib","/t/a.wasm"]}"#;
        assert_eq!(component_of(line, Path::new("/p/Cargo.toml")), Some("/t/a.wasm".into()));
        assert_eq!(component_of(line, Path::new("/other/Cargo.toml")), None);
        assert_eq!(component_of("not json", Path::new("/p/Cargo.toml")), None);
    }
}
