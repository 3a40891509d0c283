//! The calls of guests that reach stores.

use std::time::{Duration, Instant};

use super::{GrantedStore, Refusal};
use crate::bindings::outrigger::plugin::kv;
use crate::state::GuestState;

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
        let stores = match self.meter {
            Some(_) => &self.owner.stores,
            // A trial may be one of a plugin that is refused: it finds what the others keep, and leaves it as it is.
            None => self.scratch.get_or_insert_with(|| self.owner.stores.iter().map(GrantedStore::scratch).collect()),
        };
        let Some(store) = stores.iter().find(|store| store.grant.store == name) else {
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
