//! What a plugin is made from.

use serde::de::DeserializeOwned;

use crate::Result;
use crate::types::Error;

/// What [`Plugin::new`](crate::Plugin::new) is given.
#[derive(Debug, Clone)]
pub struct Context {
    config_json: String,
}

impl Context {
    /// A context with this configuration: a JSON object. For tests; in the host the SDK makes it.
    pub fn new(config_json: impl Into<String>) -> Self {
        Self { config_json: config_json.into() }
    }

    /// The operator's configuration of the plugin, read into a type of yours.
    ///
    /// Give that type `#[serde(default, deny_unknown_fields)]`: a plugin without configuration then works, and a key
    /// that is spelled wrong keeps it from being loaded.
    pub fn config<C: DeserializeOwned>(&self) -> Result<C> {
        serde_json::from_str(&self.config_json)
            .map_err(|error| Error::Internal(format!("the plugin's configuration is wrong: {error}")))
    }

    /// The configuration as the JSON object that the host gives.
    #[must_use]
    pub fn config_json(&self) -> &str {
        &self.config_json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Config {
        size: u32,
    }

    impl Default for Config {
        fn default() -> Self {
            Self { size: 7 }
        }
    }

    #[test]
    fn an_empty_table_means_the_defaults() {
        assert_eq!(Context::new("{}").config::<Config>().unwrap(), Config { size: 7 });
    }

    #[test]
    fn an_unknown_key_is_named() {
        let Err(Error::Internal(message)) = Context::new(r#"{"sise": 8}"#).config::<Config>() else {
            panic!("accepted")
        };
        assert!(message.contains("`sise`"), "{message}");
    }
}
