//! What wasmtime generates from `wit/plugin.wit`, and nothing else. `convert` is the only place that takes these
//! types apart; everybody else speaks in the types of `inference`.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "full-plugin",
    imports: { default: trappable },
});
