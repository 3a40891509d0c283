//! A new plugin: a template's files with its name in them, and what it takes to build them wherever they lie.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

/// A language that plugins are written in.
pub struct Language {
    /// What `--lang` calls it.
    pub name: &'static str,
    /// What is run once in a new plugin's folder, where something is.
    pub setup: Option<&'static str>,
    /// Files of every stage.
    common: &'static Dir<'static>,
    /// A folder for each stage.
    stages: &'static Dir<'static>,
    /// What is written beside them, by the folder that it is written to.
    vendored: &'static [Vendored],
}

struct Vendored {
    folder: &'static str,
    files: &'static Dir<'static>,
    /// The beginnings of the paths that belong to it.
    parts: &'static [&'static str],
}

/// All languages: another one is another line here, and a folder in `templates`.
pub static LANGUAGES: [Language; 3] = [
    Language {
        name: "rust",
        setup: None,
        common: &RUST_COMMON,
        stages: &RUST,
        // Nothing is published: what it is made and tested with travels along.
        vendored: &[
            Vendored {
                folder: "vendor/outrigger-plugin",
                files: &SDK,
                parts: &["Cargo.toml", "README.md", "src", "wit"],
            },
            Vendored {
                folder: "vendor/outrigger-plugin-test",
                files: &TESTKIT,
                parts: &["Cargo.toml", "README.md", "src"],
            },
        ],
    },
    Language {
        name: "javascript",
        setup: Some("npm install"),
        common: &JAVASCRIPT_COMMON,
        stages: &JAVASCRIPT,
        vendored: &[CONTRACT],
    },
    Language {
        name: "python",
        setup: Some("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"),
        common: &PYTHON_COMMON,
        stages: &PYTHON,
        vendored: &[CONTRACT],
    },
];

/// What bindings are generated from, where no SDK has it.
const CONTRACT: Vendored = Vendored { folder: "wit/deps/outrigger-plugin", files: &WIT, parts: &["plugin.wit"] };

/// The stage of a plugin that does not say.
pub const STAGE_DEFAULT: &str = "postprocess";

static RUST: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates/rust");
static RUST_COMMON: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates/rust/common");
static JAVASCRIPT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates/javascript");
static JAVASCRIPT_COMMON: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates/javascript/common");
static PYTHON: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates/python");
static PYTHON_COMMON: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates/python/common");
static WIT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");
static TESTKIT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/testkit");
static SDK: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk");

/// The licence goes where something of ours goes.
const LICENSE: &str = include_str!("../../../LICENSE");

/// The longest name, in bytes: it names metrics and files.
const NAME_BYTES_MAX: usize = 63;

/// Why there is no new plugin.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// A plugin cannot be called so.
    #[error(
        "`{name}` is no name of a plugin: it begins with a lower-case letter, has only lower-case letters, digits and single `-`, ends \
         with none of these, and has {NAME_BYTES_MAX} bytes at most; for example `my-filter`"
    )]
    Name {
        /// What was asked for.
        name: String,
    },
    /// There is no such template.
    #[error("there is no template of a `{stage}` plugin in `{language}`; there are {stages}")]
    Stage {
        /// The language.
        language: String,
        /// What was asked for.
        stage: String,
        /// The stages there are.
        stages: String,
    },
    /// There is no such language.
    #[error("there are no templates in `{language}`; there are some in {languages}")]
    Language {
        /// What was asked for.
        language: String,
        /// The languages there are.
        languages: String,
    },
    /// Something is in the way, and stays.
    #[error("{} is there already, and nothing is written over; choose another name, or remove it", path.display())]
    There {
        /// What is there.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The language of this name.
pub fn language(name: &str) -> Result<&'static Language, ScaffoldError> {
    LANGUAGES.iter().find(|language| language.name == name).ok_or_else(|| {
        let languages = LANGUAGES.each_ref().map(|language| language.name).join(", ");
        ScaffoldError::Language { language: name.to_owned(), languages }
    })
}

impl Language {
    /// The stages that there are templates of.
    #[must_use]
    pub fn stages(&self) -> Vec<&'static str> {
        let names = self.stages.dirs().filter_map(|dir| dir.path().file_name()?.to_str());
        names.filter(|name| *name != "common").collect()
    }

    /// Writes a new plugin into `folder`, which is made for it, and says which files.
    pub fn write(&self, folder: &Path, name: &str, stage: &str) -> Result<Vec<PathBuf>, ScaffoldError> {
        check_name(name)?;
        let of_stage =
            self.stages.get_dir(stage).filter(|_| stage != "common").ok_or_else(|| ScaffoldError::Stage {
                language: self.name.to_owned(),
                stage: stage.to_owned(),
                stages: self.stages().join(", "),
            })?;
        if fs::symlink_metadata(folder).is_ok() {
            return Err(ScaffoldError::There { path: folder.to_owned() });
        }
        let cannot_write = |source| ScaffoldError::Write { path: folder.to_owned(), source };
        // Beside its place, which it takes as a whole: half a plugin would be in the way of the next attempt.
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let outer = tempfile::Builder::new().prefix(".outrigger-new-").tempdir_in(parent).map_err(cannot_write)?;
        let staged = Staged { it: outer.path().join(name), folder, written: Vec::new() };
        fs::create_dir(&staged.it).map_err(cannot_write)?;
        let staged = self.fill(staged, of_stage, name)?;
        // Made anew, so that it is nobody else's: a folder is renamed over an empty one, too.
        match fs::create_dir(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ScaffoldError::There { path: folder.to_owned() });
            }
            Err(source) => return Err(cannot_write(source)),
        }
        fs::rename(&staged.it, folder).map_err(|source| {
            // Nothing is in it.
            drop(fs::remove_dir(folder));
            cannot_write(source)
        })?;
        Ok(staged.written)
    }

    fn fill<'a>(&self, mut staged: Staged<'a>, of_stage: &Dir<'_>, name: &str) -> Result<Staged<'a>, ScaffoldError> {
        for dir in [self.common, of_stage] {
            for (path, text) in files(dir) {
                let path = named(&path.display().to_string(), name);
                staged.write(Path::new(&path), named(text, name).as_bytes())?;
            }
        }
        for vendored in self.vendored {
            let base = Path::new(vendored.folder);
            for (path, text) in files(vendored.files) {
                if vendored.parts.iter().any(|part| path.starts_with(part)) {
                    staged.write(&base.join(path), text.as_bytes())?;
                }
            }
            staged.write(&base.join("LICENSE"), LICENSE.as_bytes())?;
        }
        Ok(staged)
    }
}

/// All files of a folder, by their paths in it.
fn files<'a>(dir: &'a Dir<'a>) -> Vec<(PathBuf, &'a str)> {
    fn collect<'a>(dir: &'a Dir<'a>, root: &Path, files: &mut Vec<(PathBuf, &'a str)>) {
        for file in dir.files() {
            let path = file.path().strip_prefix(root).unwrap_or(file.path());
            files.extend(file.contents_utf8().map(|text| (path.to_owned(), text)));
        }
        dir.dirs().for_each(|dir| collect(dir, root, files));
    }
    let mut all = Vec::new();
    collect(dir, dir.path(), &mut all);
    all
}

/// A template's text, with the plugin's name in it: only in texts and as a crate's. A type of that name would be in the way of
/// one of the SDK's or of the language's, where a plugin is called `policy`, `config` or `string`.
fn named(text: &str, name: &str) -> String {
    text.replace("template-name", name)
}

fn check_name(name: &str) -> Result<(), ScaffoldError> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = name.len() <= NAME_BYTES_MAX
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && name.bytes().all(is_allowed)
        && !name.ends_with('-')
        && !name.contains("--");
    if is_name { Ok(()) } else { Err(ScaffoldError::Name { name: name.to_owned() }) }
}

/// A plugin that is not in its place yet.
struct Staged<'a> {
    it: PathBuf,
    /// Where it will be.
    folder: &'a Path,
    /// Its files so far.
    written: Vec<PathBuf>,
}

impl Staged<'_> {
    fn write(&mut self, path: &Path, text: &[u8]) -> Result<(), ScaffoldError> {
        let full = self.it.join(path);
        let created = full.parent().map_or(Ok(()), fs::create_dir_all);
        let done = created.and_then(|()| fs::File::create_new(&full)).and_then(|mut file| file.write_all(text));
        done.map_err(|source| ScaffoldError::Write { path: self.folder.join(path), source })?;
        self.written.push(path.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_crate_s_and_a_metric_s() {
        for name in ["my-filter", "a", "a1-b2"] {
            check_name(name).expect(name);
        }
        for name in ["", "My-filter", "1a", "-a", "a-", "a--b", "a_b", "a/b", "..", &"a".repeat(64)] {
            check_name(name).expect_err(name);
        }
        assert_eq!(named("a template-name b", "my-2nd-filter"), "a my-2nd-filter b");
    }

    /// A new plugin, and what was written.
    fn made(language: &Language, stage: &str) -> (tempfile::TempDir, PathBuf, Vec<PathBuf>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("my-filter");
        let written = language.write(&path, "my-filter", stage).expect("a plugin");
        (folder, path, written)
    }

    #[test]
    fn every_template_is_whole() {
        let contract = include_str!("../../../wit/plugin.wit");
        for language in &LANGUAGES {
            assert!(language.stages().contains(&STAGE_DEFAULT), "{}", language.name);
            for stage in language.stages() {
                let (_folder, path, written) = made(language, stage);
                let what = format!("{} {stage}: {written:?}", language.name);
                for file in [".gitignore", "README.md", "plugin.toml"] {
                    assert!(written.contains(&PathBuf::from(file)), "{file} is missing in {what}");
                }
                for file in &written {
                    let text = fs::read_to_string(path.join(file)).expect("text");
                    let left = ["template-name", "template_name", "templatename"];
                    let is_named = !left.iter().any(|placeholder| text.to_lowercase().contains(placeholder));
                    assert!(is_named, "{} of {what}", file.display());
                }
                let project = crate::Project::open(&path).expect(&what);
                assert_eq!(project.component().expect(&what), path.join("my-filter.wasm"));
                let stages = project.manifest.stages.expect(&what);
                assert_eq!(stages.iter().map(|(stage, _)| stage.as_str()).collect::<Vec<_>>(), [stage], "{what}");
                assert!(!crate::case::CaseFile::read_folder(&path.join("tests")).expect(&what).is_empty(), "{what}");
                let needs = &project.manifest.build.needs;
                assert!(language.setup.is_none_or(|setup| needs.values().any(|how| how == setup)), "{what}");
                let copies = written.iter().filter(|file| file.ends_with("plugin.wit"));
                let copies: Vec<_> = copies.map(|file| fs::read_to_string(path.join(file)).expect("text")).collect();
                assert!(copies.len() == 1 && copies[0] == contract, "the contract of {what}");
            }
        }
    }

    /// A second attempt must not find half of the first.
    #[test]
    fn an_attempt_that_fails_leaves_nothing() {
        const TWICE: Vendored = Vendored { folder: ".", files: &WIT, parts: &["plugin.wit"] };
        let broken = Language { vendored: &[CONTRACT, TWICE, TWICE], ..*language("rust").expect("a language") };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("my-filter");
        let error = broken.write(&path, "my-filter", "postprocess").expect_err("a file is there twice").to_string();
        assert!(error.contains("my-filter/./plugin.wit"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn nothing_is_written_over_and_nothing_is_left_out() {
        let rust = language("rust").expect("a language");
        let (folder, path, written) = made(rust, "postprocess");
        for file in [
            "Cargo.toml",
            ".cargo/config.toml",
            "src/lib.rs",
            "tests/words.toml",
            "vendor/outrigger-plugin/Cargo.toml",
            "vendor/outrigger-plugin/LICENSE",
            "vendor/outrigger-plugin/src/lib.rs",
            "vendor/outrigger-plugin-test/Cargo.toml",
            "vendor/outrigger-plugin-test/src/lib.rs",
        ] {
            assert!(
                written.contains(&PathBuf::from(file)) && path.join(file).is_file(),
                "{file} is not in {written:?}"
            );
        }
        let there = rust.write(&path, "my-filter", "postprocess").expect_err("it is there").to_string();
        assert!(there.contains("is there already"), "{there}");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is beside it");
        let nowhere = folder.path().join("none/my-filter");
        let error = rust.write(&nowhere, "my-filter", "postprocess").expect_err("no folder").to_string();
        assert!(error.starts_with("cannot write ") && error.contains("none/my-filter"), "{error}");
        let stage = rust.write(&folder.path().join("b"), "b", "common").expect_err("no stage").to_string();
        assert!(stage.ends_with("there are audit, parse, policy, postprocess, prompt, token-control"), "{stage}");
        let none = language("cobol").err().expect("no language").to_string();
        assert!(none.ends_with("there are some in rust, javascript, python"), "{none}");
    }
}
