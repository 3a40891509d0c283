//! Configuration in two passes: what was said (`said`), then what it means (`settings`).
//!
//! This is the only place that reads the environment.

mod compute;
mod grants;
mod plugins;
mod said;
mod secret;
mod settings;
mod store;

pub(crate) use compute::ContextLength;
pub(crate) use grants::{InstrumentGrant, StoreGrant};
pub(crate) use plugins::{PluginLimits, PluginTable};
pub(crate) use said::{Said, log_format};
pub(crate) use secret::SecretText;
pub(crate) use settings::Settings;
pub(crate) use store::StoreSettings;
