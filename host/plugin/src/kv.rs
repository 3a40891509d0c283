//! What plugins keep between requests: bounded stores of bytes and numbers, shared by all instances of a plugin.

mod host;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::KV_EXPIRED_PER_CALL;

/// A store that a plugin may use, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvGrant {
    /// What the plugin calls it.
    pub store: String,
    /// Keys that it may hold.
    pub keys_max: usize,
    /// Bytes of one key.
    pub key_bytes_max: usize,
    /// Bytes of one value.
    pub value_bytes_max: usize,
    /// Bytes of all keys and values together.
    pub bytes_max: usize,
}

impl KvGrant {
    /// A store with the usual bounds: 10,000 keys of at most 256 bytes, values of at most 64 KiB, 1 MiB in all. A rate
    /// limit for each of 10,000 tenants fits.
    pub fn new(store: impl Into<String>) -> Self {
        Self {
            store: store.into(),
            keys_max: 10_000,
            key_bytes_max: 256,
            value_bytes_max: 64 << 10,
            bytes_max: 1 << 20,
        }
    }
}

/// A granted store: the entries, which outlive a reload, and what this generation of the plugin may do with them.
#[derive(Debug, Clone)]
pub(crate) struct GrantedStore {
    pub(crate) grant: KvGrant,
    pub(crate) store: Arc<Store>,
}

/// The entries of one store. One lock: a call holds it for some 100 ns and makes its copies outside where it can, and
/// at most a few threads run guests.
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<Entries>);

#[derive(Debug, Default, Clone)]
struct Entries {
    by_key: HashMap<Arc<[u8]>, Entry>,
    /// Of the entries that end, the next one first.
    ends: BTreeSet<(Instant, Arc<[u8]>)>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    value: Value,
    ends_at: Option<Instant>,
}

#[derive(Debug, Clone)]
enum Value {
    Bytes(Arc<[u8]>),
    Number(i64),
}

/// What a store answers instead of doing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Quota,
    Invalid,
}

impl GrantedStore {
    /// The same entries in a store of its own, which nobody else sees. What they hold is not copied.
    pub(crate) fn scratch(&self) -> Self {
        let entries = self.store.lock().clone();
        Self { grant: self.grant.clone(), store: Arc::new(Store(Mutex::new(entries))) }
    }

    pub(crate) fn get(&self, key: &[u8], now: Instant) -> Result<Option<Vec<u8>>, Refusal> {
        self.check_key(key)?;
        let mut entries = self.store.lock();
        entries.forget_some(now);
        let value = entries.live(key, now).map(|entry| entry.value.clone());
        drop(entries);
        Ok(value.map(|value| match value {
            Value::Bytes(bytes) => bytes.to_vec(),
            Value::Number(number) => number.to_le_bytes().to_vec(),
        }))
    }

    pub(crate) fn set(&self, key: &[u8], value: Vec<u8>, ttl: Option<Duration>, now: Instant) -> Result<(), Refusal> {
        self.check_key(key)?;
        if value.len() > self.grant.value_bytes_max {
            return Err(Refusal::Quota);
        }
        let value = Value::Bytes(value.into());
        self.put(&mut self.store.lock(), key, value, ttl.map(|ttl| now + ttl), now)
    }

    pub(crate) fn delete(&self, key: &[u8], now: Instant) -> Result<(), Refusal> {
        self.check_key(key)?;
        let mut entries = self.store.lock();
        entries.forget_some(now);
        entries.remove(key);
        Ok(())
    }

    pub(crate) fn add(&self, key: &[u8], delta: i64, ttl: Option<Duration>, now: Instant) -> Result<i64, Refusal> {
        self.check_key(key)?;
        let mut entries = self.store.lock();
        let (number, ends_at) = match entries.live(key, now) {
            Some(Entry { value: Value::Number(number), ends_at }) => (*number, *ends_at),
            Some(Entry { value: Value::Bytes(_), .. }) => return Err(Refusal::Invalid),
            None => (0, ttl.map(|ttl| now + ttl)),
        };
        let number = number.saturating_add(delta);
        self.put(&mut entries, key, Value::Number(number), ends_at, now)?;
        Ok(number)
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Refusal> {
        if (1..=self.grant.key_bytes_max).contains(&key.len()) { Ok(()) } else { Err(Refusal::Invalid) }
    }

    /// Stores an entry if the grant has room for it; otherwise everything stays as it was.
    fn put(
        &self,
        entries: &mut Entries,
        key: &[u8],
        value: Value,
        ends_at: Option<Instant>,
        now: Instant,
    ) -> Result<(), Refusal> {
        entries.forget_some(now);
        if ends_at.is_some_and(|end| end <= now) {
            entries.remove(key);
            return Ok(());
        }
        let more = key.len() + value.bytes();
        let grant = &self.grant;
        loop {
            let (keys, bytes) = match entries.by_key.get(key) {
                Some(old) => (entries.by_key.len() - 1, entries.bytes - key.len() - old.value.bytes()),
                None => (entries.by_key.len(), entries.bytes),
            };
            if keys < grant.keys_max && more <= grant.bytes_max.saturating_sub(bytes) {
                break;
            }
            // Room may be held by what has ended already.
            if !entries.forget_first(now) {
                return Err(Refusal::Quota);
            }
        }
        entries.remove(key);
        let key: Arc<[u8]> = key.into();
        if let Some(end) = ends_at {
            entries.ends.insert((end, Arc::clone(&key)));
        }
        entries.bytes += more;
        entries.by_key.insert(key, Entry { value, ends_at });
        Ok(())
    }
}

impl Store {
    /// Forgets everything.
    pub(crate) fn clear(&self) {
        *self.lock() = Entries::default();
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing that can panic half way runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn live(&self, key: &[u8], now: Instant) -> Option<&Entry> {
        self.by_key.get(key).filter(|entry| entry.ends_at.is_none_or(|end| end > now))
    }

    fn remove(&mut self, key: &[u8]) {
        let Some((key, entry)) = self.by_key.remove_entry(key) else { return };
        self.bytes -= key.len() + entry.value.bytes();
        if let Some(end) = entry.ends_at {
            self.ends.remove(&(end, key));
        }
    }

    /// Forgets what has ended, but not so much that others wait for it: each call adds one entry at most.
    fn forget_some(&mut self, now: Instant) {
        for _ in 0..KV_EXPIRED_PER_CALL {
            if !self.forget_first(now) {
                break;
            }
        }
    }

    /// Forgets the entry that ended first, if one has ended.
    fn forget_first(&mut self, now: Instant) -> bool {
        let Some((_, key)) = self.ends.first().filter(|(end, _)| *end <= now) else { return false };
        let key = Arc::clone(key);
        self.remove(&key);
        true
    }
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Number(_) => size_of::<i64>(),
        }
    }
}

#[cfg(test)]
mod tests;
