//! Checks of single values, with the key in what they refuse.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Seconds that anything waits: a week. Beyond that lie typing errors, and then times that a clock cannot hold.
const SECONDS_MAX: u64 = 604_800;

pub(super) fn at_least_one(key: &str, value: Option<u32>, most: u32) -> anyhow::Result<Option<NonZeroU32>> {
    let Some(value) = value else { return Ok(None) };
    if value > most {
        bail!("`{key}` is {value}; {most} is the most that is accepted");
    }
    let value = NonZeroU32::new(value).with_context(|| format!("`{key}` is 0; it must be at least 1"))?;
    Ok(Some(value))
}

pub(super) fn at_most(key: &str, value: Option<u32>, most: u32) -> anyhow::Result<Option<usize>> {
    if let Some(value) = value.filter(|&value| value > most) {
        bail!("`{key}` is {value}; {most} is the most that is accepted");
    }
    Ok(value.map(|value| value as usize))
}

pub(super) fn seconds(key: &str, value: Option<u64>) -> anyhow::Result<Option<Duration>> {
    if let Some(value) = value.filter(|&value| value > SECONDS_MAX) {
        bail!("`{key}` is {value}; {SECONDS_MAX}, which is a week, is the most that is accepted");
    }
    Ok(value.map(Duration::from_secs))
}

pub(super) fn size(count: NonZeroU32) -> NonZeroUsize {
    NonZeroUsize::try_from(count).unwrap_or(NonZeroUsize::MAX)
}
