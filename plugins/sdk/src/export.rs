//! From a plugin's type to the component's exports.

use std::any::Any;
use std::cell::RefCell;

use crate::types::Error;
use crate::{Context, Plugin, Result, config, log};

/// What `export!` says of a plugin; the stages' glue is written for every type that has it.
pub trait Component: 'static {
    /// The plugin.
    type Plugin: Plugin;
    /// The crate's name.
    const NAME: &'static str;
    /// The crate's version.
    const VERSION: &'static str;
}

thread_local! {
    // One instance serves one request, on one thread. `Any`, as a static cannot be generic.
    static INSTANCE: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

fn begin() -> Context {
    // With `panic = "abort"` and no standard error a panic would otherwise leave nothing but an anonymous trap.
    std::panic::set_hook(Box::new(|panic| log::log(log::Level::Error, &panic.to_string(), &[])));
    Context::new(config::all())
}

/// Makes the plugin: the first call of every instance.
pub(crate) fn make<C: Component>() -> Result<()> {
    let plugin = C::Plugin::new(&begin())?;
    INSTANCE.with_borrow_mut(|instance| match instance.replace(Box::new(plugin)) {
        None => Ok(()),
        Some(_) => Err("`init` was called twice".into()),
    })
}

/// Does `work` with the plugin that [`make`] made.
pub(crate) fn with_plugin<P: Plugin, T>(work: impl FnOnce(&mut P) -> Result<T>) -> Result<T> {
    INSTANCE.with_borrow_mut(|instance| match instance.as_mut().and_then(|instance| instance.downcast_mut()) {
        Some(plugin) => work(plugin),
        None => Err(Error::Internal("a stage was called before `init`".to_owned())),
    })
}

/// Makes a component of a plugin: names its type and the stages that the host is to find.
///
/// ```
/// use outrigger_plugin::prelude::*;
///
/// struct Closed;
///
/// impl Plugin for Closed {
///     fn new(_cx: &Context) -> Result<Self> {
///         Ok(Self)
///     }
/// }
///
/// impl Policy for Closed {
///     fn inspect(&mut self, _request: Request, _call: &Call) -> Result<Decision> {
///         Ok(Decision::reject(403, "closed", "We are closed."))
///     }
/// }
///
/// outrigger_plugin::export!(Closed: Policy);
/// # fn main() {}
/// ```
///
/// The stages are [`Policy`](crate::Policy), [`Prompt`](crate::Prompt), [`TokenControl`](crate::TokenControl),
/// [`Parse`](crate::Parse), [`Postprocess`](crate::Postprocess) and [`Audit`](crate::Audit). Once per crate. For other targets than Wasm it only
/// checks that the traits are there.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($stage:ident),+ $(,)?) => {
        const _: () = {
            struct Component;

            impl $crate::glue::Component for Component {
                type Plugin = $plugin;
                const NAME: &'static str = ::core::env!("CARGO_PKG_NAME");
                const VERSION: &'static str = ::core::env!("CARGO_PKG_VERSION");
            }

            $(const _: fn() = || {
                fn has<P: $crate::$stage>() {}
                has::<$plugin>();
            };)+

            #[cfg(target_arch = "wasm32")]
            const _: () = {
                $crate::__export_stage!(Lifecycle Component);
                $($crate::__export_stage!($stage Component);)+
            };
        };
    };
}

/// One arm per stage: the interface's own macro, made by wit-bindgen.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_stage {
    (Lifecycle $component:ident) => {
        $crate::glue::lifecycle::export_lifecycle!($component with_types_in $crate::glue::lifecycle);
    };
    (Policy $component:ident) => {
        $crate::glue::policy::export_policy!($component with_types_in $crate::glue::policy);
    };
    (Prompt $component:ident) => {
        $crate::glue::prompt::export_prompt!($component with_types_in $crate::glue::prompt);
    };
    (TokenControl $component:ident) => {
        $crate::glue::token_control::export_token_control!($component with_types_in $crate::glue::token_control);
    };
    (Parse $component:ident) => {
        $crate::glue::parse::export_parse!($component with_types_in $crate::glue::parse);
    };
    (Postprocess $component:ident) => {
        $crate::glue::postprocess::export_postprocess!($component with_types_in $crate::glue::postprocess);
    };
    (Audit $component:ident) => {
        $crate::glue::audit::export_audit!($component with_types_in $crate::glue::audit);
    };
}
