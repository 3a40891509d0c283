//! What the admin routes ask of whoever holds the plugins: this room knows them only as a pipeline.

use std::fmt::Debug;
use std::pin::Pin;

use serde_json::Value;

/// The plugins, to look at and to replace.
pub trait PluginAdmin: Debug + Send + Sync {
    /// What runs, as `GET /admin/plugins` answers it; `None` while there is nothing.
    fn plugins(&self) -> Option<Value>;

    /// Loads the plugins anew and publishes them if all of them load. Goes on where the future is dropped.
    fn reload(&self) -> AdminFuture<'_>;
}

/// What runs after a reload, or why it is still the old.
pub type AdminFuture<'a> = Pin<Box<dyn Future<Output = Result<Value, ReloadRefused>> + Send + 'a>>;

/// Why the plugins were not replaced.
#[derive(Debug, Clone, PartialEq)]
pub enum ReloadRefused {
    /// There is nothing to replace: the model is on its way, or does not answer chats.
    NotLoaded,
    /// The new ones did not load.
    Plugins {
        /// Why.
        message: String,
        /// What was found out of each, for programs.
        report: Value,
    },
}
