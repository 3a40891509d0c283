//! What plugins keep between requests: bounded stores of bytes and numbers, shared by all instances of a plugin.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bindings::outrigger::plugin::kv;
use crate::limits::KV_EXPIRED_PER_CALL;
use crate::state::GuestState;

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

#[derive(Debug, Default)]
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

impl kv::Host for GuestState {
    fn get(&mut self, store: String, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, kv::Error>> {
        self.with_store(&store, |store, now| store.get(key.as_bytes(), now))
    }

    fn set(
        &mut self,
        store: String,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u32>,
    ) -> wasmtime::Result<Result<(), kv::Error>> {
        self.with_store(&store, |store, now| store.set(key.as_bytes(), value, ttl_ms.map(millis), now))
    }

    fn delete(&mut self, store: String, key: String) -> wasmtime::Result<Result<(), kv::Error>> {
        self.with_store(&store, |store, now| store.delete(key.as_bytes(), now))
    }

    fn add(
        &mut self,
        store: String,
        key: String,
        delta: i64,
        ttl_ms: Option<u32>,
    ) -> wasmtime::Result<Result<i64, kv::Error>> {
        self.with_store(&store, |store, now| store.add(key.as_bytes(), delta, ttl_ms.map(millis), now))
    }
}

impl GuestState {
    fn with_store<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&GrantedStore, Instant) -> Result<T, Refusal>,
    ) -> wasmtime::Result<Result<T, kv::Error>> {
        self.count_host_call()?;
        let Some(store) = self.owner.stores.iter().find(|store| store.grant.store == name) else {
            return Ok(Err(kv::Error::NoSuchStore));
        };
        Ok(work(store, Instant::now()).map_err(|refusal| match refusal {
            Refusal::Quota => kv::Error::Quota,
            Refusal::Invalid => kv::Error::Invalid,
        }))
    }
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn store() -> GrantedStore {
        let grant =
            KvGrant { keys_max: 3, key_bytes_max: 4, value_bytes_max: 8, bytes_max: 24, ..KvGrant::new("store") };
        GrantedStore { grant, store: Arc::default() }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_set_is_there_until_it_ends() {
        let (store, now) = (store(), Instant::now());
        store.set(b"a", b"1".to_vec(), None, now).expect("it fits");
        store.set(b"b", b"2".to_vec(), Some(10 * MS), now).expect("it fits");
        assert_eq!(store.get(b"b", now + 9 * MS), Ok(Some(b"2".to_vec())));
        assert_eq!(store.get(b"b", now + 10 * MS), Ok(None));
        assert_eq!(store.get(b"a", now + 1_000_000 * MS), Ok(Some(b"1".to_vec())));
        store.set(b"a", b"1".to_vec(), Some(Duration::ZERO), now).expect("it fits");
        assert_eq!(store.get(b"a", now), Ok(None), "it ended as it began");
        store.delete(b"a", now).expect("nothing is no error");
    }

    #[test]
    fn numbers_add_up_and_end_when_the_first_said() {
        let (store, now) = (store(), Instant::now());
        assert_eq!(store.add(b"n", 2, Some(10 * MS), now), Ok(2));
        assert_eq!(store.add(b"n", i64::MAX, Some(1_000 * MS), now + 5 * MS), Ok(i64::MAX));
        assert_eq!(store.add(b"n", -1, None, now + 9 * MS), Ok(i64::MAX - 1));
        assert_eq!(store.get(b"n", now), Ok(Some((i64::MAX - 1).to_le_bytes().to_vec())));
        assert_eq!(store.add(b"n", 1, None, now + 10 * MS), Ok(1), "a new number");
        store.set(b"n", b"text".to_vec(), None, now).expect("it fits");
        assert_eq!(store.add(b"n", 1, None, now), Err(Refusal::Invalid));
        assert_eq!(store.add(b"z", 5, Some(Duration::ZERO), now), Ok(5));
        assert_eq!(store.get(b"z", now), Ok(None));
    }

    #[test]
    fn every_bound_is_refused_as_a_value() {
        let (store, now) = (store(), Instant::now());
        assert_eq!(store.set(b"", b"1".to_vec(), None, now), Err(Refusal::Invalid));
        assert_eq!(store.get(&vec![b'k'; 1 << 20], now), Err(Refusal::Invalid));
        assert_eq!(store.set(b"k", vec![0; 9], None, now), Err(Refusal::Quota));
        for key in [b"a", b"b", b"c"] {
            store.set(key, vec![1; 7], Some(10 * MS), now).expect("24 bytes in all");
        }
        assert_eq!(store.set(b"d", Vec::new(), None, now), Err(Refusal::Quota), "three keys");
        assert_eq!(store.set(b"c", vec![1; 8], None, now), Err(Refusal::Quota), "25 bytes");
        assert_eq!(store.get(b"c", now), Ok(Some(vec![1; 7])), "what was there stays");
        store.set(b"c", Vec::new(), Some(10 * MS), now).expect("less than before");
        store.set(b"d", vec![1; 8], None, now + 10 * MS).expect("the others have ended");
    }

    #[test]
    fn adding_is_atomic() {
        let store = store();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).all(|_| store.add(b"n", 1, None, Instant::now()).is_ok()));
            }
        });
        assert_eq!(store.add(b"n", 0, None, Instant::now()), Ok(4_000));
    }

    #[derive(Debug, Clone)]
    enum Call {
        Get,
        Set(Vec<u8>, Option<u64>),
        Delete,
        Add(i64, Option<u64>),
    }

    fn calls() -> impl Strategy<Value = Vec<(u8, Call, u64)>> {
        let ttl = || proptest::option::of(0_u64..20);
        let call = prop_oneof![
            Just(Call::Get),
            (proptest::collection::vec(any::<u8>(), 0..10), ttl()).prop_map(|(value, ttl)| Call::Set(value, ttl)),
            Just(Call::Delete),
            (-3_i64..3, ttl()).prop_map(|(delta, ttl)| Call::Add(delta, ttl)),
        ];
        proptest::collection::vec((b'a'..b'f', call, 0_u64..8), 0..60)
    }

    proptest! {
        /// Against a map without bounds of its own: what was taken reads back, and the figures add up.
        #[test]
        fn a_store_is_a_map_with_bounds(calls in calls()) {
            let store = store();
            let mut model: HashMap<u8, (Vec<u8>, Option<Instant>, bool)> = HashMap::new();
            let mut now = Instant::now();
            for (key, call, wait) in calls {
                now += MS * u32::try_from(wait).expect("a few");
                model.retain(|_, (_, end, _)| end.is_none_or(|end| end > now));
                let name = [key];
                let end = |ttl: Option<u64>| ttl.map(|ttl| now + Duration::from_millis(ttl));
                match call {
                    Call::Get => {}
                    Call::Set(value, ttl) => {
                        if store.set(&name, value.clone(), ttl.map(Duration::from_millis), now).is_ok() {
                            model.insert(key, (value, end(ttl), false));
                        }
                    }
                    Call::Delete => {
                        store.delete(&name, now).expect("the key is sound");
                        model.remove(&key);
                    }
                    Call::Add(delta, ttl) => {
                        if let Ok(number) = store.add(&name, delta, ttl.map(Duration::from_millis), now) {
                            let old = model.get(&key).map(|(value, end, is_number)| {
                                prop_assert!(*is_number);
                                Ok((i64::from_le_bytes(value.as_slice().try_into().expect("eight bytes")), *end))
                            }).transpose()?;
                            let (old, end) = old.unwrap_or((0, end(ttl)));
                            prop_assert_eq!(number, old + delta);
                            model.insert(key, (number.to_le_bytes().to_vec(), end, true));
                        }
                    }
                }
                model.retain(|_, (_, end, _)| end.is_none_or(|end| end > now));
                for key in b'a'..b'f' {
                    prop_assert_eq!(store.get(&[key], now), Ok(model.get(&key).map(|(value, _, _)| value.clone())));
                }
                let entries = store.store.lock();
                prop_assert_eq!(entries.bytes, model.values().map(|(value, _, _)| 1 + value.len()).sum::<usize>());
                prop_assert!(entries.bytes <= 24 && entries.by_key.len() <= 3);
                prop_assert_eq!(entries.ends.len(), entries.by_key.values().filter(|e| e.ends_at.is_some()).count());
            }
        }
    }
}
