//! Is there room on the disk? Asked before anything is fetched, so that a download of hours does not end in an error
//! that could have been known at its start (R24).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::StoreError;
use crate::layout::Place;
use crate::limits::{DISK_MARGIN_BYTES, WALK_DEPTH_MAX};
use crate::verify::Content;

/// Refuses a pull that writes `missing_bytes` where there is no room for it and a margin.
pub(crate) fn check(place: &Place, missing_bytes: u64) -> Result<(), StoreError> {
    if missing_bytes == 0 {
        return Ok(());
    }
    // A file system that does not say is one that may have room.
    let Some(available_bytes) = available(&place.path) else { return Ok(()) };
    let needed_bytes = missing_bytes.saturating_add(DISK_MARGIN_BYTES);
    if needed_bytes <= available_bytes {
        return Ok(());
    }
    let rejected_bytes = bytes_below(&place.path.join(".cache/outrigger/rejected"), 0);
    let directory = place.path.clone();
    Err(StoreError::DiskTooSmall { directory, needed_bytes, missing_bytes, available_bytes, rejected_bytes })
}

/// Bytes that this user may still write to the file system of `path`.
#[must_use]
pub fn available(path: &Path) -> Option<u64> {
    let facts = statvfs(path).ok()?;
    Some(facts.blocks_available().saturating_mul(facts.fragment_size()))
}

/// Bytes that part files of this content hold on the disk already, reserved ones included.
pub(crate) fn held_by_parts(parts: &Path, content: Content) -> u64 {
    let prefix = format!("{content}.");
    let Ok(entries) = std::fs::read_dir(parts) else { return 0 };
    let of_it = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    of_it
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.blocks().saturating_mul(512))
        .max()
        .unwrap_or(0)
}

/// Bytes of all files below a folder, links not followed.
pub(crate) fn bytes_below(folder: &Path, depth: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() && depth < WALK_DEPTH_MAX => bytes_below(&entry.path(), depth + 1),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    });
    bytes.sum()
}
