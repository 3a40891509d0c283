//! What a plugin is granted beyond its stages: parts of requests, headers, stores, instruments, and a say in every token.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// What the operator grants.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Grants {
    /// Members of a request that `replace` may change.
    pub(crate) modify: Vec<String>,
    /// Request headers that it sees.
    pub(crate) headers: Vec<String>,
    /// Stores that it may use: names, or tables with bounds.
    pub(crate) kv: Vec<StoreGrant>,
    /// Instruments of its own.
    pub(crate) metrics: Vec<InstrumentGrant>,
    /// A say in every token of an answer.
    #[serde(rename = "token-control")]
    pub(crate) token_control: bool,
}

/// One store, by name alone or with bounds that differ from the usual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreGrant {
    pub(crate) store: String,
    pub(crate) keys: Option<u64>,
    pub(crate) key_bytes: Option<u64>,
    pub(crate) value_bytes: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreTable {
    store: String,
    keys: Option<u64>,
    key_bytes: Option<u64>,
    value_bytes: Option<u64>,
    bytes: Option<u64>,
}

/// One instrument.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstrumentGrant {
    pub(crate) name: String,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) labels: Vec<String>,
    pub(crate) series: Option<u64>,
    pub(crate) buckets: Option<Vec<f64>>,
}

impl<'de> Deserialize<'de> for StoreGrant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = StoreGrant;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a store's name, or a table like { store = \"NAME\", bytes = 65536 }")
            }

            fn visit_str<E: de::Error>(self, store: &str) -> Result<StoreGrant, E> {
                let store = store.to_owned();
                Ok(StoreGrant { store, keys: None, key_bytes: None, value_bytes: None, bytes: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StoreGrant, A::Error> {
                let StoreTable { store, keys, key_bytes, value_bytes, bytes } =
                    StoreTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(StoreGrant { store, keys, key_bytes, value_bytes, bytes })
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(toml: &str) -> Result<Vec<StoreGrant>, String> {
        toml::from_str::<Grants>(toml).map(|grants| grants.kv).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_store_is_a_name_or_a_table() {
        let seen = StoreGrant { store: "seen".to_owned(), keys: None, key_bytes: None, value_bytes: None, bytes: None };
        assert_eq!(
            stores(r#"kv = ["seen", { store = "rates", keys = 10 }]"#),
            Ok(vec![seen.clone(), StoreGrant { store: "rates".to_owned(), keys: Some(10), ..seen }])
        );
        assert!(stores("kv = [1]").expect_err("a number is neither").contains("a store's name, or a table"));
        assert!(stores(r#"kv = [{ store = "a", byte = 1 }]"#).expect_err("no such key").contains("`byte`"));
    }
}
