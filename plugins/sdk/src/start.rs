//! The first thing a new instance does.

use serde::de::DeserializeOwned;

use crate::types::Error;
use crate::{config, log};

/// Reports panics to the host's log from now on and reads the plugin's configuration.
///
/// For the first line of `lifecycle.init`: with `panic = "abort"` and no standard error, a panic would otherwise
/// leave nothing but an anonymous trap.
pub fn start<C: DeserializeOwned>() -> Result<C, Error> {
    std::panic::set_hook(Box::new(|panic| log::log(log::Level::Error, &panic.to_string(), &[])));
    parse_config(&config::all())
}

/// Reads a configuration from the JSON object that the host gives.
pub fn parse_config<C: DeserializeOwned>(json: &str) -> Result<C, Error> {
    serde_json::from_str(json).map_err(|error| Error::Internal(format!("the plugin's configuration is wrong: {error}")))
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
        assert_eq!(parse_config::<Config>("{}").unwrap(), Config { size: 7 });
    }

    #[test]
    fn an_unknown_key_is_named() {
        let Err(Error::Internal(message)) = parse_config::<Config>(r#"{"sise": 8}"#) else { panic!("accepted") };
        assert!(message.contains("`sise`"), "{message}");
    }
}
