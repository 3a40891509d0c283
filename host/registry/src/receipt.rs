//! What a pull leaves in the folder that it wrote: from where, what, and whose. The name of a plugin is its author's choice, and
//! becomes that of a folder; only a folder of the same origin that nobody changed is replaced without being told so, and not by an
//! older version.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::artifact::{File, json};
use crate::client::Pulled;
use crate::digest::Digest;
use crate::error::{RegistryError, shown};
use crate::limits::{COMPONENT_BYTES_MAX, RECEIPT_BYTES_MAX};
use crate::signature::PublicKey;
use crate::version::is_older;

/// No file of an artifact can have this name: theirs do not begin with a dot.
const NAME: &str = ".outrigger-pull.json";

/// The origin of a folder. What is not there was not noted yet by who pulled it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Registry and repository.
    from: String,
    /// Of the manifest.
    digest: Digest,
    /// The plugin's version, as it says itself.
    #[serde(default)]
    version: Option<String>,
    /// The trusted keys that signed it.
    signers: Vec<String>,
    /// Its files.
    #[serde(default)]
    files: Option<BTreeMap<String, Digest>>,
}

/// What the user said of a folder that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// Which version is meant: it may be an older one.
    Version,
    /// It may be replaced, whoever made it and whatever was done to it.
    Replace,
}

impl Receipt {
    /// Of a plugin from this repository, which says that it is this version.
    #[must_use]
    pub fn new(from: String, pulled: &Pulled, version: &str) -> Self {
        let signers = pulled.signers.iter().map(PublicKey::to_string).collect();
        let files = pulled.files.iter().map(|File { path, bytes }| (path.clone(), Digest::of(bytes))).collect();
        Self { from, digest: pulled.digest.clone(), version: Some(version.to_owned()), signers, files: Some(files) }
    }

    /// Puts it into the folder.
    pub fn write(&self, folder: &Path) -> Result<(), RegistryError> {
        let path = folder.join(NAME);
        let written = fs::File::create_new(&path).and_then(|mut file| {
            file.write_all(&json(self))?;
            file.sync_all()
        });
        written.map_err(|source| RegistryError::File { what: format!("write {}", path.display()), source })
    }

    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&read(&folder.join(NAME), RECEIPT_BYTES_MAX)?).ok()
    }

    /// Says whether a folder may be replaced by the plugin of this receipt.
    pub fn check(&self, folder: &Path, said: Said) -> Result<(), RegistryError> {
        match fs::symlink_metadata(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(RegistryError::File { what: format!("look at {}", folder.display()), source }),
            Ok(_) => {}
        }
        let refused = |why: String, remedy| {
            let folder = folder.display().to_string();
            Err(RegistryError::Taken { folder, why, remedy })
        };
        let found = Self::read(folder);
        if said == Said::Replace {
            let is_plugin = found.is_some() || folder.join("plugin.toml").is_file();
            return if is_plugin {
                Ok(())
            } else {
                refused("it is no plugin's folder".to_owned(), "remove it yourself, or pull")
            };
        }
        let remedy = "say --replace if it may be removed, or pull";
        let Some(found) = found else { return refused("`plugin pull` did not make it".to_owned(), remedy) };
        if found.from != self.from {
            let why = format!("it was pulled from {}, and this comes from {}", shown(&found.from), self.from);
            return refused(why, remedy);
        }
        // Signed by nobody that was trusted then: whoever signed this one is no less.
        if !found.signers.is_empty() && !found.signers.iter().any(|key| self.signers.contains(key)) {
            let why = format!("none of its signers signed this one ({})", shown(&found.signers.join(", ")));
            return refused(why, remedy);
        }
        if let (Some(theirs), Some(ours)) = (&found.version, &self.version)
            && said == Said::Nothing
            && is_older(ours, theirs)
        {
            let why = format!("it is version {}, and this is {}, an older one", shown(theirs), shown(ours));
            return refused(why, "name the version or the digest that you mean, say --replace, or pull");
        }
        match found.files.as_ref().and_then(|files| changed(folder, files)) {
            Some(file) => refused(format!("its {} was changed since it was pulled", shown(&file)), remedy),
            None => Ok(()),
        }
    }
}

/// A file of a folder that is another one than these, or none of these.
fn changed(folder: &Path, files: &BTreeMap<String, Digest>) -> Option<String> {
    let is_same = |(path, digest): &(&String, &Digest)| {
        read(&folder.join(path), COMPONENT_BYTES_MAX).is_some_and(|bytes| Digest::of(&bytes) == **digest)
    };
    let other = files.iter().find(|file| !is_same(file)).map(|(path, _)| path.clone());
    other.or_else(|| added(folder, Path::new(""), files))
}

/// The first file below a folder that is none of these.
fn added(folder: &Path, below: &Path, files: &BTreeMap<String, Digest>) -> Option<String> {
    let entries = fs::read_dir(folder.join(below)).into_iter().flatten().flatten();
    entries.into_iter().find_map(|entry| {
        let path = below.join(entry.file_name());
        // Not through a link, which is none of ours.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            return added(folder, &path, files);
        }
        let name = path.to_string_lossy().into_owned();
        (name != NAME && !files.contains_key(&name)).then_some(name)
    })
}

/// A file that is no larger than this.
fn read(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(bytes_max + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= bytes_max).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(from: &str, signers: &[&str]) -> Receipt {
        let signers = signers.iter().map(|&key| key.to_owned()).collect();
        Receipt { from: from.to_owned(), digest: Digest::of(b"x"), version: None, signers, files: None }
    }

    /// What is said of a folder that was pulled so, and is to be pulled so; empty: nothing.
    fn check(before: (&str, &[&str]), now: (&str, &[&str]), said: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        receipt(before.0, before.1).write(folder.path()).expect("written");
        let now = receipt(now.0, now.1);
        let refused = now.check(folder.path(), Said::Version).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(if said.is_empty() { refused.is_empty() } else { refused.contains(said) }, "{refused}");
        assert!(refused.is_empty() || refused.contains("--replace"), "{refused}");
        now.check(folder.path(), Said::Replace).expect("told");
    }

    #[test]
    fn only_the_same_origin_replaces_a_folder() {
        check(("ghcr.io/acme/mask", &[]), ("ghcr.io/acme/mask", &[]), "");
        check(("ghcr.io/acme/mask", &["a"]), ("ghcr.io/acme/mask", &["b", "a"]), "");
        check(("ghcr.io/acme/mask", &[]), ("ghcr.io/acme/mask", &["a"]), "");
        check(("ghcr.io/acme/mask", &["a"]), ("ghcr.io/acme/mask", &["b"]), "none of its signers signed this one (a)");
        check(("ghcr.io/acme/mask", &["a"]), ("ghcr.io/acme/mask", &[]), "none of its signers");
        check(
            ("ghcr.io/acme/mask", &["a"]),
            ("ghcr.io/other/mask", &["a"]),
            "it was pulled from ghcr.io/acme/mask, and",
        );
    }

    #[test]
    fn what_was_not_pulled_is_not_replaced_and_what_is_no_plugin_never() {
        let folder = tempfile::tempdir().expect("a folder");
        let (place, now) = (folder.path().join("src"), receipt("ghcr.io/acme/src", &[]));
        now.check(&place, Said::Nothing).expect("nothing is there");
        fs::create_dir(&place).expect("made");
        fs::write(place.join("main.rs"), "").expect("written");
        for (said, why) in [(Said::Version, "did not make it"), (Said::Replace, "no plugin's folder")] {
            let refused = now.check(&place, said).expect_err("refused").to_string();
            assert!(refused.contains(why), "{refused}");
        }
        fs::write(place.join("plugin.toml"), "").expect("written");
        assert!(now.check(&place, Said::Version).is_err());
        now.check(&place, Said::Replace).expect("the author's own, and told");
        fs::write(place.join(NAME), "no receipt").expect("written");
        assert!(now.check(&place, Said::Version).is_err());
        // A link that leads nowhere is there, too.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).expect("made");
        assert!(now.check(&link, Said::Version).is_err() && now.check(&link, Said::Replace).is_err());
    }

    #[test]
    fn an_older_version_has_to_be_meant() {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |version: &str| Receipt { version: Some(version.to_owned()), ..receipt("ghcr.io/acme/mask", &["a"]) };
        of("1.10.0").write(folder.path()).expect("written");
        for version in ["1.10.0", "1.10.1", "next"] {
            of(version).check(folder.path(), Said::Nothing).expect(version);
        }
        let refused = of("1.9.0").check(folder.path(), Said::Nothing).expect_err("older").to_string();
        assert!(refused.contains("it is version 1.10.0, and this is 1.9.0, an older one"), "{refused}");
        for said in [Said::Version, Said::Replace] {
            of("1.9.0").check(folder.path(), said).expect("meant");
        }
        // A receipt of before versions were noted.
        let old = format!(r#"{{"from": "ghcr.io/acme/mask", "digest": "{}", "signers": []}}"#, Digest::of(b"x"));
        fs::write(folder.path().join(NAME), old).expect("written");
        of("1.9.0").check(folder.path(), Said::Nothing).expect("nobody knows");
    }

    #[test]
    fn what_was_changed_since_is_kept() {
        let parent = tempfile::tempdir().expect("a folder");
        let bytes = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
        let files = [("build/mask.wasm", "component"), ("plugin.toml", "[plugin]")];
        let files = files.map(|(path, text)| File { path: path.to_owned(), bytes: bytes(text) });
        let pulled = Pulled { digest: Digest::of(b"x"), files: files.to_vec(), signers: Vec::new() };
        let now = Receipt::new("ghcr.io/acme/mask".to_owned(), &pulled, "1.0.0");
        let check = |change: &dyn Fn(&Path), why: &str| {
            let folder = tempfile::tempdir_in(parent.path()).expect("a folder");
            fs::create_dir(folder.path().join("build")).expect("made");
            for file in &files {
                fs::write(folder.path().join(&file.path), &file.bytes).expect("written");
            }
            now.write(folder.path()).expect("written");
            change(folder.path());
            let refused = now.check(folder.path(), Said::Version).err().map(|error| error.to_string());
            assert!(
                refused.as_ref().map_or(why.is_empty(), |said| !why.is_empty() && said.contains(why)),
                "{refused:?}"
            );
            now.check(folder.path(), Said::Replace).expect("told");
        };
        check(&|_| {}, "");
        check(
            &|folder| fs::write(folder.join("plugin.toml"), "[plugin] # mine").expect("written"),
            "its plugin.toml was changed",
        );
        check(
            &|folder| fs::remove_file(folder.join("build/mask.wasm")).expect("removed"),
            "its build/mask.wasm was changed",
        );
        check(&|folder| fs::write(folder.join("build/notes"), "mine").expect("written"), "its build/notes was changed");
    }
}
