//! What runtimes import whether or not they use it: sockets, which those of Python do. It is linked so that such a guest loads, and
//! every function of it is a trap that says so: no code of ours, or of wasmtime's, stands behind it.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, IoError};

use crate::state::GuestState;

/// Packages that a `quiet` guest may import and may not call.
const CLOSED_PACKAGES: [&str; 1] = ["wasi:sockets"];

/// Whether an import such as `wasi:sockets/tcp@0.2.6` is of such a package.
pub(crate) fn is_closed(import: &str) -> bool {
    CLOSED_PACKAGES.iter().any(|package| import.strip_prefix(package).is_some_and(|rest| rest.starts_with('/')))
}

/// Stands for every resource of a closed package; none is ever made.
struct Closed;

/// What stands for a resource. Those of `wasi:io` are named here too, and are the same as there.
fn resource(name: &str) -> ResourceType {
    match name {
        "pollable" => ResourceType::host::<DynPollable>(),
        "input-stream" => ResourceType::host::<DynInputStream>(),
        "output-stream" => ResourceType::host::<DynOutputStream>(),
        "error" => ResourceType::host::<IoError>(),
        _ => ResourceType::host::<Closed>(),
    }
}

/// Links what this component imports of closed packages.
pub(crate) fn link(linker: &mut Linker<GuestState>, component: &Component) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    for (interface, import) in component.component_type().imports(&engine).filter(|(name, _)| is_closed(name)) {
        let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
        let mut closed = linker.instance(interface)?;
        for (name, export) in instance.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => {
                    let called = format!("{interface}#{name}");
                    closed.func_new(name, move |_, _, _, _| {
                        Err(wasmtime::Error::msg(format!(
                            "the guest called `{called}`; plugins have no network, and `wasi = \"quiet\"` offers none"
                        )))
                    })?;
                }
                ComponentItem::Resource(_) => closed.resource(name, resource(name), |_, _| Ok(()))?,
                _ => {}
            }
        }
    }
    Ok(())
}
