//! Why a plugin was not loaded, in words that say what to change.

use std::fmt;

use inference::Stage;

use crate::load::API;
use crate::manifest::Objection;

/// Why a plugin was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The operator's name for it cannot be used.
    #[error(
        "plugin name `{name}` cannot be used: it labels metrics and logs, so it has 1 to 63 lower-case letters, digits \
         and `-`, and begins with a letter"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Its configuration is not a JSON object.
    #[error("the configuration of plugin `{plugin}` is not a table: {reason}")]
    Config {
        /// The plugin.
        plugin: String,
        /// What it is instead.
        reason: String,
    },
    /// It would see credentials.
    #[error(
        "plugin `{plugin}` is granted the header `{header}`, which carries credentials; no plugin sees those, grant \
         another header"
    )]
    SecretHeader {
        /// The plugin.
        plugin: String,
        /// The header.
        header: String,
    },
    /// The file is larger than we compile.
    #[error(
        "plugin `{plugin}` ({origin}) has {size_bytes} bytes and its limit is {limit_bytes}; raise its limit `component_bytes`{asked}, \
         or build it smaller (`opt-level = \"s\"`, `strip = true`)"
    )]
    TooLarge {
        /// The plugin.
        plugin: String,
        /// Where it came from.
        origin: String,
        /// Its size.
        size_bytes: usize,
        /// The most we take.
        limit_bytes: usize,
        /// What its manifest asks for, for people; empty: it does not say.
        asked: String,
    },
    /// The pin is not a SHA-256.
    #[error(
        "the sha256 given for plugin `{plugin}` is `{given}`, which is not 64 hexadecimal digits; its digest is {actual}"
    )]
    PinMalformed {
        /// The plugin.
        plugin: String,
        /// What the operator wrote.
        given: String,
        /// What could be written.
        actual: String,
    },
    /// The bytes are not those that the operator pinned.
    #[error(
        "plugin `{plugin}` ({origin}) has sha256 {actual}, not the pinned {pinned}; if the new file is meant, pin its \
         digest"
    )]
    Digest {
        /// The plugin.
        plugin: String,
        /// Where it came from.
        origin: String,
        /// What was pinned.
        pinned: String,
        /// What it is.
        actual: String,
    },
    /// Native code, which would run outside the sandbox.
    #[error(
        "plugin `{plugin}` ({origin}) is precompiled native code (.cwasm), which no sandbox can hold; give the .wasm \
         component it was made from, compiled code is cached by itself"
    )]
    Precompiled {
        /// The plugin.
        plugin: String,
        /// Where it came from.
        origin: String,
    },
    /// A core module.
    #[error(
        "plugin `{plugin}` ({origin}) is a core WebAssembly module, not a component; build it with the linker \
         `wasm-component-ld`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule {
        /// The plugin.
        plugin: String,
        /// Where it came from.
        origin: String,
    },
    /// Something else.
    #[error("plugin `{plugin}` ({origin}) is not a WebAssembly component: it {looks_like}")]
    NotWasm {
        /// The plugin.
        plugin: String,
        /// Where it came from.
        origin: String,
        /// What is there instead.
        looks_like: String,
    },
    /// A component, but broken or with features that are closed here.
    #[error("plugin `{plugin}` ({origin}) is not a valid component: {reason}")]
    Malformed {
        /// The plugin.
        plugin: String,
        /// Where it came from.
        origin: String,
        /// The validator's words.
        reason: String,
    },
    /// It was built against another version of the contract.
    #[error("plugin `{plugin}` speaks `{name}`, and this host speaks {API}; rebuild it with a matching SDK")]
    ApiVersion {
        /// The plugin.
        plugin: String,
        /// The interface, with the version that it wants.
        name: String,
    },
    /// It has no `lifecycle`.
    #[error(
        "plugin `{plugin}` exports no `outrigger:plugin/lifecycle`, so it is not an Outrigger plugin; it exports {exports}"
    )]
    NoLifecycle {
        /// The plugin.
        plugin: String,
        /// What it does export.
        exports: String,
    },
    /// It has nothing to call.
    #[error(
        "plugin `{plugin}` exports `lifecycle` and no stage; a plugin exports at least one of policy, prompt, token-control, parse, postprocess, audit"
    )]
    NoStage {
        /// The plugin.
        plugin: String,
    },
    /// The operator wants none of its stages.
    #[error(
        "plugin `{plugin}` has an empty table `stages`, so it would do nothing; name some of {exports}, leave `stages` out \
         for all of them, or remove the plugin"
    )]
    NoStageUsed {
        /// The plugin.
        plugin: String,
        /// What it exports.
        exports: String,
    },
    /// Nothing but `token-control` is in use, and that is not granted.
    #[error(
        "plugin `{plugin}` is there for the stage `token-control` only and is not granted it, so it would do nothing; add \
         `token-control = true` to its `grants`, name other stages in `stages`, or remove the plugin"
    )]
    NothingLeft {
        /// The plugin.
        plugin: String,
    },
    /// The operator wants a stage that it does not have.
    #[error("plugin `{plugin}` is configured for the stage `{stage}` and exports no `{stage}`; it exports {exports}")]
    StageMissing {
        /// The plugin.
        plugin: String,
        /// The stage.
        stage: Stage,
        /// What it does export.
        exports: String,
    },
    /// The manifest names a stage that it does not have.
    #[error(
        "the manifest {manifest} of plugin `{plugin}` names the stage `{stage}`, and the component exports {exports}; they \
         belong to different versions, or the manifest is wrong"
    )]
    StagePromised {
        /// The plugin.
        plugin: String,
        /// Its manifest.
        manifest: String,
        /// The stage.
        stage: Stage,
        /// What it does export.
        exports: String,
    },
    /// The manifest is another component's.
    #[error(
        "plugin `{plugin}` ({origin}) has sha256 {actual}, and its manifest {manifest} belongs to {meant}; install the \
         component and the manifest of one version"
    )]
    OtherManifest {
        /// The plugin.
        plugin: String,
        /// Where it came from.
        origin: String,
        /// The manifest.
        manifest: String,
        /// The digest that the manifest names.
        meant: String,
        /// What it is.
        actual: String,
    },
    /// Its manifest asks for something that it cannot do without, and the operator did not grant it.
    #[error(
        "plugin `{plugin}` needs what it is not granted:\n{missing}\nif it may have that, its table has these lines:\n\n{toml}"
    )]
    Ungranted {
        /// The plugin.
        plugin: String,
        /// What is missing, one in a line.
        missing: String,
        /// The lines that grant it.
        toml: String,
    },
    /// Its configuration is not what its schema allows.
    #[error("the configuration of plugin `{plugin}` is not what the plugin takes: {objections}")]
    ConfigRefused {
        /// The plugin.
        plugin: String,
        /// What is wrong with it.
        objections: Objections,
    },
    /// It needs something that we do not have.
    #[error("plugin `{plugin}` imports `{import}`, which this host does not offer; it offers {offered}")]
    ImportUnknown {
        /// The plugin.
        plugin: String,
        /// What it needs.
        import: String,
        /// What there is.
        offered: String,
    },
    /// Its stores cannot be.
    #[error("the stores that plugin `{plugin}` is granted (`kv`) cannot be used: {reason}")]
    Stores {
        /// The plugin.
        plugin: String,
        /// Why.
        reason: String,
    },
    /// Its instruments cannot be.
    #[error("the instruments that plugin `{plugin}` is granted (`metrics`) cannot be used: {reason}")]
    Instruments {
        /// The plugin.
        plugin: String,
        /// Why.
        reason: String,
    },
    /// It needs WASI, and has none.
    #[error(
        "plugin `{plugin}` imports `{import}`, and WASI is not granted to it; build it for wasm32-unknown-unknown, or \
         write `wasi = \"quiet\"` in its [[plugin]] section (output goes to the log; no files, no network)"
    )]
    WasiNotGranted {
        /// The plugin.
        plugin: String,
        /// What it needs.
        import: String,
    },
    /// It needs a part of WASI that no plugin gets.
    #[error(
        "plugin `{plugin}` imports `{import}`, which `wasi = \"quiet\"` does not offer: plugins have no network, and \
         no WASI beyond {offered}"
    )]
    WasiClosed {
        /// The plugin.
        plugin: String,
        /// What it needs.
        import: String,
        /// What there is.
        offered: String,
    },
    /// A limit that the sandbox has no room for.
    #[error("plugin `{plugin}` is given {wanted} {what}, and the sandbox was set up for {limit}; {remedy}")]
    LimitTooHigh {
        /// The plugin.
        plugin: String,
        /// Of what.
        what: &'static str,
        /// How many.
        wanted: usize,
        /// The sandbox's own bound.
        limit: usize,
        /// What to do.
        remedy: &'static str,
    },
    /// Names match, types do not.
    #[error("plugin `{plugin}` does not fit the contract {API}: {reason}; rebuild it with the SDK of this host")]
    Link {
        /// The plugin.
        plugin: String,
        /// wasmtime's words.
        reason: String,
    },
    /// Its `init` failed, in the trial that every plugin must pass before it is used.
    #[error("plugin `{plugin}` failed to initialise ({kind}): {detail}")]
    Init {
        /// The plugin.
        plugin: String,
        /// How: a fault's kind, or `invalid` for a configuration that it refuses.
        kind: &'static str,
        /// What it said, or the sandbox.
        detail: String,
    },
    /// The thread for the trial could not be started.
    #[error("failed to start a thread to try plugin `{plugin}`")]
    Thread {
        /// The plugin.
        plugin: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What a schema does not allow in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objections(pub(crate) Vec<Objection>);

impl Objections {
    /// The ways to the values that are objected to, as keys and indices.
    pub fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.0.iter().map(|objection| objection.path.as_slice())
    }
}

impl fmt::Display for Objections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, objection) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            let key = objection.key();
            let place = if key.is_empty() { "[plugin.config]".to_owned() } else { format!("`config.{key}`") };
            write!(f, "{separator}{place}: {}", objection.reason)?;
        }
        Ok(())
    }
}
