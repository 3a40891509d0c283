//! `<part>.json`: what of a part file is there, for whoever goes on after us.
//!
//! The validator is the object: its digest and its size. Where the bytes came from does not matter, as the digest is
//! checked at the end.

use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use crate::limits::RECORD_BYTES_MAX;

/// What is written beside a part file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The digest of the whole file.
    pub(super) object: String,
    /// Its bytes.
    pub(super) size: u64,
    /// The run of the kernel under which `landed` was written. Its page cache holds those bytes however the writer
    /// ended; after a crash of the machine only `durable` is certain.
    pub(super) boot: Option<String>,
    /// What was written.
    pub(super) landed: Ranges,
    /// What was flushed to the disk before it was recorded here.
    pub(super) durable: Ranges,
}

impl Record {
    /// The record under this name, if it is one.
    pub(super) fn read(dir: &Dir, name: &str) -> Option<Self> {
        let mut options = OpenOptions::new();
        // A fifo that somebody put there does not hold us up.
        let file = dir.open_with(name, options.read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK)).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = Vec::new();
        file.take(RECORD_BYTES_MAX as u64).read_to_end(&mut text).ok()?;
        let record: Self = serde_json::from_slice(&text).ok()?;
        let is_sound = record.landed.end() <= record.size && record.durable.end() <= record.size;
        is_sound.then_some(record)
    }

    /// Puts the record under this name, whole or not at all. It is not flushed: were it lost or torn with the power, the
    /// part would be fetched again.
    pub(super) fn write(&self, dir: &Dir, name: &str) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let temporary = format!("{name}.tmp");
        // Left by a writer that was killed: its part is ours now, and so is this name.
        let _ = dir.remove_file(&temporary);
        let mut options = OpenOptions::new();
        let written = dir.open_with(&temporary, options.write(true).create_new(true)).and_then(|mut file| {
            file.write_all(&text)?;
            dir.rename(&temporary, dir, name)
        });
        match written {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let _ = dir.remove_file(&temporary);
                overwrite(dir, name, text)
            }
            written => written,
        }
    }
}

/// Writes a record over the one before, in the block that it has already: on a full disk there is no other, and what
/// landed until then is worth keeping. A kill in between leaves no record, which costs no more than that.
fn overwrite(dir: &Dir, name: &str, mut text: Vec<u8>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = dir.open_with(name, options.write(true).custom_flags(O_NOFOLLOW | O_NONBLOCK))?.into_std();
    // Spaces behind a JSON text are part of it.
    let before = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    text.resize(text.len().max(before.min(RECORD_BYTES_MAX)), b' ');
    file.write_all_at(&text, 0)
}

/// Which run of which kernel this is, if it can be told.
pub(super) fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}
