//! Requests and tokens counted in the host's store, in windows of fixed length that begin at round times: what is left
//! of a window is when to come again.

use std::time::Duration;

use outrigger_plugin::kv;
use outrigger_plugin::prelude::*;

use crate::config::{Quota, Rate};
use crate::limits::TENANT_BYTES_MAX;

/// A tenant's counters.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    pub(crate) store: &'a str,
    pub(crate) tenant: &'a str,
}

/// The budget is spent; there is a new one after this.
#[derive(Debug)]
pub(crate) struct Spent(pub(crate) Duration);

impl Budget<'_> {
    /// Says whether there is a store to count in.
    pub(crate) fn check(&self) -> Result<()> {
        kv::get(self.store, "store").map_err(|error| self.refused(error))?;
        Ok(())
    }

    /// Counts a request, or says that there have been too many.
    pub(crate) fn request(&self, rate: Rate) -> Result<Option<Spent>> {
        let window = self.window("rate", rate.seconds);
        let count = kv::add(self.store, &window.key, 1, Some(window.length)).map_err(|error| self.refused(error))?;
        Ok((count > i64::from(rate.requests)).then_some(Spent(window.left)))
    }

    /// Says whether all tokens are used.
    pub(crate) fn tokens_left(&self, quota: Quota) -> Result<Option<Spent>> {
        let window = self.window("quota", quota.seconds);
        let used = kv::add(self.store, &window.key, 0, Some(window.length)).map_err(|error| self.refused(error))?;
        Ok((used >= i64::from(quota.tokens)).then_some(Spent(window.left)))
    }

    /// Counts the tokens of a request that has ended.
    pub(crate) fn used(&self, quota: Quota, usage: Usage) -> Result<()> {
        let window = self.window("quota", quota.seconds);
        let tokens = i64::from(usage.prompt_tokens) + i64::from(usage.completion_tokens);
        kv::add(self.store, &window.key, tokens, Some(window.length)).map_err(|error| self.refused(error))?;
        Ok(())
    }

    fn window(&self, what: &str, seconds: u32) -> Window {
        let (now, seconds) = (clock::unix_seconds(), u64::from(seconds));
        let tenant = &self.tenant[..self.tenant.floor_char_boundary(TENANT_BYTES_MAX)];
        Window {
            key: format!("{what}/{seconds}/{}/{tenant}", now / seconds),
            length: Duration::from_secs(seconds),
            left: Duration::from_secs(seconds - now % seconds),
        }
    }

    fn refused(&self, error: kv::Error) -> Error {
        let store = self.store;
        Error::Unavailable(match error {
            kv::Error::NoSuchStore => format!(
                "`rate` and `quota` count in the store `{store}`, which is not granted; grant it under `kv` in the \
                 plugin's `grants`, or name another with `store`"
            ),
            kv::Error::Quota => format!("the store `{store}` is full; grant it more, or use longer `seconds`"),
            kv::Error::Invalid => format!("the store `{store}` has something else under the plugin's keys"),
        })
    }
}

struct Window {
    key: String,
    length: Duration,
    left: Duration,
}
