//! Configuration in two passes: what was said (`said`), then what it means (`settings`).
//!
//! This is the only place that reads the environment.

mod plugins;
mod said;
mod settings;

pub(crate) use plugins::{PluginLimits, PluginTable};
pub(crate) use said::Said;
pub(crate) use settings::Settings;
