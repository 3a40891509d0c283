//! What a plugin in a folder costs, whatever it was written in.

use std::path::Path;
use std::sync::Arc;

use inference::Stage;
use plugin::{Limits, Modify, Package, PluginSpec, Sandbox, SandboxConfig, Wasi};

use crate::fixture::{PUSHES, chat, load, plain, together};
use crate::table::Table;
use crate::{prepares, pushed};

/// A plugin with a policy or a filter, with all that a guest of any language may have.
pub(crate) fn measure(folder: &str) {
    let cache = tempfile::tempdir().expect("a folder");
    let config = SandboxConfig { cache_dir: Some(cache.path().to_owned()), ..SandboxConfig::default() };
    let sandbox = Sandbox::new(config).expect("a sandbox");
    let package = Package::read(Path::new(folder), 64 << 20).expect("a plugin's folder");
    let spec = || PluginSpec {
        manifest: package.manifest.clone(),
        wasi: Wasi::Quiet,
        modify: [Modify::Messages].into(),
        limits: Limits { component_bytes_max: 64 << 20, ..Limits::default() },
        ..PluginSpec::new("one", folder, Arc::clone(&package.component))
    };
    let [compiled, plugin] = [(); 2].map(|()| load(&sandbox, spec()));
    let trial = plugin.report().trial.as_ref().expect("it was tried");
    let table = Table::default();
    let (size, memory) = (package.component.len() / 1_000, trial.memory_bytes / 1_000);
    Table::head(&format!("{folder}: {size} KB, {memory} KB of memory"));
    table.show("load: compile it", 1, &[compiled.report().compile_elapsed]);
    table.show("load: from the cache", 1, &[plugin.report().compile_elapsed]);
    let start = crate::measure(500, || assert!(plugin::probe::instantiate(&plugin).is_some()));
    table.show("instantiate, init and drop", 1, &start);
    let plugins = vec![load(&sandbox, plain("plain", &[Stage::Prompt])), plugin];
    let plugins = together(&sandbox, plugins);
    let what = "policies and a plain prompt, two short messages, fresh instance";
    table.show(what, 1, &prepares(300, &plugins, &chat(2, 40)));
    table.show("push", PUSHES, &pushed(&plugins));
}
