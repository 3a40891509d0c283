//! Configuration in two passes: what was said (`said`), then what it means (`settings`).
//!
//! This is the only place that reads the environment.

mod changes;
mod checks;
mod compute;
mod grants;
mod lines;
mod listen;
mod model;
mod model_settings;
mod plugins;
mod running;
mod said;
mod secret;
mod settings;
mod store;

pub(crate) use compute::ContextLength;
pub(crate) use grants::{InstrumentGrant, StoreGrant};
pub(crate) use lines::ConfigLines;
pub(crate) use listen::{ListenPlace, ListenSettings};
pub(crate) use model::{Load, ModelTable, ModelsSaid};
pub(crate) use model_settings::ModelSettings;
pub(crate) use plugins::{PluginLimits, PluginTable};
pub(crate) use running::{BreakerTable, InstanceTable};
pub(crate) use said::{Said, log_format};
pub(crate) use secret::SecretText;
pub(crate) use settings::{Settings, choose_plugins, default_cache_dir};
pub(crate) use store::StoreSettings;

use settings::at_home;
