//! What outlives a generation of a plugin: its stores and its instruments. A reload finds them again by name; the last
//! generation that uses one takes it along.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use telemetry::{Instrument, InstrumentSpec};

use crate::kv::{GrantedStore, KvGrant, Store};

/// By plugin and by its name there.
type Key = (String, String);

/// The stores and instruments of all plugins that are loaded.
#[derive(Default)]
pub(crate) struct Shared {
    /// Plugins are there for requests, which what is loaded now must not hold up.
    is_serving: AtomicBool,
    stores: Kept<Store>,
    instruments: Kept<Instrument>,
}

impl Shared {
    pub(crate) fn serves(&self) {
        self.is_serving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.is_serving.load(Ordering::Relaxed)
    }

    /// A plugin's store: the one that another generation of it uses, or a new one.
    pub(crate) fn store(&self, plugin: &str, grant: KvGrant) -> GrantedStore {
        let key = (plugin.to_owned(), grant.store.clone());
        let Ok(store) = self.stores.take(key, |_| true, || Ok::<_, Infallible>(Store::default()));
        GrantedStore { grant, store }
    }

    /// A plugin's instrument: the one that another generation of it uses, if it is declared alike, or a new one.
    pub(crate) fn instrument(&self, plugin: &str, spec: &InstrumentSpec) -> Result<Arc<Instrument>, String> {
        let key = (plugin.to_owned(), spec.name.clone());
        self.instruments.take(key, |old| old.spec() == spec, || Instrument::new(plugin, spec.clone()))
    }
}

/// Under one key there may be several: what runs, and what was made beside it to replace it, which may yet be refused.
struct Kept<T>(Mutex<HashMap<Key, Vec<Weak<T>>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    fn take<E>(
        &self,
        key: Key,
        is_same: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, all| {
            all.retain(|one| one.strong_count() > 0);
            !all.is_empty()
        });
        let old = kept.get(&key).and_then(|all| all.iter().filter_map(Weak::upgrade).find(|one| is_same(one)));
        if let Some(old) = old {
            return Ok(old);
        }
        let new = Arc::new(make()?);
        kept.entry(key).or_default().push(Arc::downgrade(&new));
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use telemetry::InstrumentKind;

    use super::*;

    fn counter(label: &str) -> InstrumentSpec {
        let (name, labels) = ("counted".to_owned(), vec![label.to_owned()]);
        InstrumentSpec { name, kind: InstrumentKind::Counter, labels, series_max: 3, buckets: Vec::new() }
    }

    #[test]
    fn what_is_declared_otherwise_and_refused_replaces_nothing() {
        let shared = Shared::default();
        let take = |label| shared.instrument("p", &counter(label)).expect("it is sound");
        let running = take("kind");
        let refused = take("sort");
        assert!(!Arc::ptr_eq(&running, &refused));
        assert!(Arc::ptr_eq(&running, &take("kind")), "while the other is there");
        drop(refused);
        assert!(Arc::ptr_eq(&running, &take("kind")), "the counts of what runs go on");
        let gone = Arc::downgrade(&running);
        drop(running);
        drop(take("kind"));
        assert!(gone.upgrade().is_none());
        assert!(shared.instruments.0.lock().expect("nobody panicked").values().flatten().count() <= 1);
    }
}
