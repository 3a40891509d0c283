//! What a pull leaves in the folder that it wrote: from where, what, and whose. The name of a plugin is its author's choice, and
//! becomes that of a folder; only a folder of the same origin is replaced without being told so.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::artifact::json;
use crate::client::Pulled;
use crate::digest::Digest;
use crate::error::{RegistryError, shown};
use crate::limits::RECEIPT_BYTES_MAX;
use crate::signature::PublicKey;

/// No file of an artifact can have this name: theirs do not begin with a dot.
const NAME: &str = ".outrigger-pull.json";

/// The origin of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Registry and repository.
    from: String,
    /// Of the manifest.
    digest: Digest,
    /// The trusted keys that signed it.
    signers: Vec<String>,
}

impl Receipt {
    /// Of a plugin from this repository.
    #[must_use]
    pub fn new(from: String, pulled: &Pulled) -> Self {
        let signers = pulled.signers.iter().map(PublicKey::to_string).collect();
        Self { from, digest: pulled.digest.clone(), signers }
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
        let mut bytes = Vec::new();
        let file = fs::File::open(folder.join(NAME)).ok()?;
        file.take(RECEIPT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Says whether a folder may be replaced by the plugin of this receipt. `is_told`: the user said so.
    pub fn check(&self, folder: &Path, is_told: bool) -> Result<(), RegistryError> {
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
        if is_told {
            let is_plugin = found.is_some() || folder.join("plugin.toml").is_file();
            return if is_plugin {
                Ok(())
            } else {
                refused("it is no plugin's folder".to_owned(), "remove it yourself, or pull")
            };
        }
        let remedy = "say --replace if it may be removed, or pull";
        match found {
            None => refused("`plugin pull` did not make it".to_owned(), remedy),
            Some(found) if found.from != self.from => {
                refused(format!("it was pulled from {}, and this comes from {}", shown(&found.from), self.from), remedy)
            }
            // Signed by nobody that was trusted then: whoever signed this one is no less.
            Some(found) if found.signers.is_empty() || found.signers.iter().any(|key| self.signers.contains(key)) => {
                Ok(())
            }
            Some(found) => {
                refused(format!("none of its signers signed this one ({})", shown(&found.signers.join(", "))), remedy)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(from: &str, signers: &[&str]) -> Receipt {
        let signers = signers.iter().map(|&key| key.to_owned()).collect();
        Receipt { from: from.to_owned(), digest: Digest::of(b"x"), signers }
    }

    /// What is said of a folder that was pulled so, and is to be pulled so; empty: nothing.
    fn check(before: (&str, &[&str]), now: (&str, &[&str]), said: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        receipt(before.0, before.1).write(folder.path()).expect("written");
        let now = receipt(now.0, now.1);
        let refused = now.check(folder.path(), false).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(if said.is_empty() { refused.is_empty() } else { refused.contains(said) }, "{refused}");
        assert!(refused.is_empty() || refused.contains("--replace"), "{refused}");
        now.check(folder.path(), true).expect("told");
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
        now.check(&place, false).expect("nothing is there");
        fs::create_dir(&place).expect("made");
        fs::write(place.join("main.rs"), "").expect("written");
        for (is_told, said) in [(false, "did not make it"), (true, "no plugin's folder")] {
            let refused = now.check(&place, is_told).expect_err("refused").to_string();
            assert!(refused.contains(said), "{refused}");
        }
        fs::write(place.join("plugin.toml"), "").expect("written");
        assert!(now.check(&place, false).is_err());
        now.check(&place, true).expect("the author's own, and told");
        fs::write(place.join(NAME), "no receipt").expect("written");
        assert!(now.check(&place, false).is_err());
        // A link that leads nowhere is there, too.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).expect("made");
        assert!(now.check(&link, false).is_err() && now.check(&link, true).is_err());
    }
}
