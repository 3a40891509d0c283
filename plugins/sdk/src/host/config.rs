//! The plugin's `[config]` table; plugins read it through [`Context`](crate::Context).

/// All of it: a JSON object.
#[must_use]
pub fn all() -> String {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::outrigger::plugin::config::all();
    #[cfg(not(target_arch = "wasm32"))]
    "{}".to_owned()
}
