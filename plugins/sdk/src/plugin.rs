//! What every plugin is.

use crate::{Context, Result};

/// A plugin: made anew for each request, and dropped with it.
///
/// Beside this it has the traits of the stages that it takes part in. All stages of a request meet the same value, so
/// what [`Policy`](crate::Policy) learned is there in [`Postprocess`](crate::Postprocess).
pub trait Plugin: Sized + 'static {
    /// Reads the configuration and builds what the stages need.
    ///
    /// Once per request, so it must be cheap: compile a pattern only if it is configured. It is also run when the
    /// plugin is loaded; an `Err` then keeps the plugin from being used, and its text tells the operator why.
    fn new(cx: &Context) -> Result<Self>;
}
