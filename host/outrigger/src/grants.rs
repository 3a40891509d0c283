//! What the grants of a `[[plugin]]` table mean to the sandbox.

use anyhow::Context as _;
use plugin::{InstrumentKind, InstrumentSpec, KvGrant};

use crate::config::{InstrumentGrant, StoreGrant};

/// A store; what is not said is as usual.
pub(crate) fn store(said: &StoreGrant) -> KvGrant {
    let mut grant = KvGrant::new(&said.store);
    let set = |said: Option<u64>, bound: &mut usize| {
        if let Some(said) = said {
            *bound = usize::try_from(said).unwrap_or(usize::MAX);
        }
    };
    set(said.keys, &mut grant.keys_max);
    set(said.key_bytes, &mut grant.key_bytes_max);
    set(said.value_bytes, &mut grant.value_bytes_max);
    set(said.bytes, &mut grant.bytes_max);
    grant
}

/// An instrument; what it may be called is checked where it is made.
pub(crate) fn instrument(said: &InstrumentGrant) -> anyhow::Result<InstrumentSpec> {
    let known = [InstrumentKind::Counter, InstrumentKind::Histogram];
    let kind = known.into_iter().find(|kind| kind.as_str() == said.kind).with_context(|| {
        format!("the instrument `{}` is a `{}`; `counter` and `histogram` are possible", said.name, said.kind)
    })?;
    let series = said.series.map(|series| usize::try_from(series).unwrap_or(usize::MAX));
    Ok(InstrumentSpec {
        name: said.name.clone(),
        kind,
        labels: said.labels.clone(),
        series_max: series.unwrap_or(InstrumentSpec::SERIES_DEFAULT),
        buckets: said.buckets.clone().unwrap_or_else(|| InstrumentSpec::BUCKETS_DEFAULT.to_vec()),
    })
}
