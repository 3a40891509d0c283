//! What can be judged of a plugin without compiling or running anything: every check in order, cheapest first.

use std::fmt::Write as _;

use inference::{CONTROL_WAIT_MAX, Stage};
use sha2::{Digest, Sha256};

use crate::closed;
use crate::grants;
use crate::imports;
use crate::limits::{INSTRUMENTS_MAX, NAME_BYTES_MAX, STORES_MAX};
use crate::load_error::{LoadError, Objections};
use crate::manifest::is_plugin_name;
use crate::outline::{self, NoOutline, Outline};
use crate::report::{LoadReport, StageUse};
use crate::spec::{PluginSpec, Wasi, is_secret_header};
use crate::text::{cut, escape_into};
use crate::wasi;

/// All checks, and what each finds out.
pub(crate) fn inspect(spec: &PluginSpec, report: &mut LoadReport) -> Result<Inspected, LoadError> {
    check_name(spec)?;
    check_headers(spec)?;
    check_stores(spec)?;
    check_instruments(spec)?;
    let config = parse_config(spec)?;
    report.config_keys = config.as_object().into_iter().flatten().map(|(key, _)| shown(key)).collect();
    let sha256 = check_bytes(spec, report)?;
    let outline = read_outline(spec)?;
    report.imports = outline.imports.iter().map(|import| shown(import)).collect();
    let exported = check_exports(spec, &outline)?;
    report.api = outline.exports.iter().find_map(|name| Some(outline::api_name(name)?.version.to_owned()));
    let stages = choose_stages(spec, &exported)?;
    report.stages = stages.iter().map(|&(stage, order)| StageUse { stage, order }).collect();
    report.grants = grants::compare(spec, &exported);
    report.stages_unused = exported.into_iter().filter(|stage| stages.iter().all(|(used, _)| used != stage)).collect();
    let is_chosen = spec.stages.is_some() || spec.manifest.as_ref().is_some_and(|manifest| manifest.stages.is_some());
    if !is_chosen && report.stages_unused.contains(&Stage::TokenControl) {
        report.notes.push(UNUSED_CONTROL.to_owned());
    }
    let step_max = spec.limits.step_cpu_max;
    if stages.iter().any(|&(stage, _)| stage == Stage::TokenControl) && step_max > CONTROL_WAIT_MAX {
        let (step, wait) = (step_max.as_millis(), CONTROL_WAIT_MAX.as_millis());
        report
            .notes
            .push(format!("its limit `step_ms` is {step}, and no answer waits longer than {wait} ms for a step"));
    }
    // Before the imports: what a manifest says of an ask is more than what an import does.
    grants::check_needed(&spec.name, &report.grants)?;
    if stages.is_empty() {
        // Its only stage in use was one that it may do without, and is.
        return Err(LoadError::NothingLeft { plugin: spec.name.clone() });
    }
    check_config(spec, &config)?;
    check_imports(spec, &outline)?;
    Ok(Inspected { config, sha256, stages })
}

/// What is noted of a plugin that could control tokens.
const UNUSED_CONTROL: &str =
    "it could have a say in every token of an answer (`token-control`), and has none: that is not granted";

/// What the first half of loading found out for the second.
pub(crate) struct Inspected {
    pub(crate) config: serde_json::Value,
    pub(crate) sha256: String,
    pub(crate) stages: Vec<(Stage, i32)>,
}

/// A guest's text, where people see it.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    escape_into(&mut shown, text);
    shown
}

fn check_name(spec: &PluginSpec) -> Result<(), LoadError> {
    let name = &spec.name;
    if is_plugin_name(name) { Ok(()) } else { Err(LoadError::Name { name: name.clone() }) }
}

fn check_headers(spec: &PluginSpec) -> Result<(), LoadError> {
    match spec.headers.iter().find(|header| is_secret_header(header)) {
        Some(header) => Err(LoadError::SecretHeader { plugin: spec.name.clone(), header: header.to_ascii_lowercase() }),
        None => Ok(()),
    }
}

fn check_stores(spec: &PluginSpec) -> Result<(), LoadError> {
    let refuse = |reason| Err(LoadError::Stores { plugin: spec.name.clone(), reason });
    let names: Vec<&str> = spec.kv.iter().map(|grant| grant.store.as_str()).collect();
    if names.len() > STORES_MAX {
        return refuse(format!("there are {} and may be {STORES_MAX}", names.len()));
    }
    if names.iter().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
        return refuse(format!("a store's name has 1 to {NAME_BYTES_MAX} bytes"));
    }
    match (1..names.len()).find(|&place| names[..place].contains(&names[place])) {
        Some(place) => refuse(format!("`{}` is granted twice", names[place])),
        None => Ok(()),
    }
}

fn check_instruments(spec: &PluginSpec) -> Result<(), LoadError> {
    let refuse = |reason| Err(LoadError::Instruments { plugin: spec.name.clone(), reason });
    let given = &spec.instruments;
    if given.len() > INSTRUMENTS_MAX {
        return refuse(format!("there are {} and may be {INSTRUMENTS_MAX}", given.len()));
    }
    if let Some(place) = (1..given.len()).find(|&place| given[..place].iter().any(|it| it.name == given[place].name)) {
        return refuse(format!("`{}` is granted twice", given[place].name));
    }
    match given.iter().find_map(|instrument| Some((instrument, instrument.check().err()?))) {
        Some((instrument, reason)) => refuse(format!("`{}` cannot be one: {reason}", instrument.name)),
        None => Ok(()),
    }
}

fn parse_config(spec: &PluginSpec) -> Result<serde_json::Value, LoadError> {
    let refuse = |reason: String| LoadError::Config { plugin: spec.name.clone(), reason };
    let value: serde_json::Value =
        serde_json::from_str(&spec.config_json).map_err(|error| refuse(error.to_string()))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(refuse(format!("it is `{}`", cut(value.to_string(), NAME_BYTES_MAX))))
    }
}

/// Size, digest and kind of the file; returns the digest.
fn check_bytes(spec: &PluginSpec, report: &mut LoadReport) -> Result<String, LoadError> {
    let (plugin, origin) = (|| spec.name.clone(), || spec.source.clone());
    let (size_bytes, limit_bytes) = (spec.component_bytes.max(spec.component.len()), spec.limits.component_bytes_max);
    if size_bytes > limit_bytes {
        let asked = spec.manifest.as_ref().and_then(|manifest| manifest.asks.limits.get("component_bytes"));
        let asked = asked.map(|ask| format!(" (its manifest asks for {})", ask.least)).unwrap_or_default();
        return Err(LoadError::TooLarge { plugin: plugin(), origin: origin(), size_bytes, limit_bytes, asked });
    }
    let actual = hexadecimal(&Sha256::digest(&spec.component));
    report.sha256 = Some(actual.clone());
    if let Some(pinned) = &spec.sha256 {
        let pin = pinned.to_ascii_lowercase();
        if pin.len() != actual.len() || !pin.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(LoadError::PinMalformed { plugin: plugin(), given: pinned.clone(), actual });
        }
        if pin != actual {
            return Err(LoadError::Digest { plugin: plugin(), origin: origin(), pinned: pin, actual });
        }
    }
    let manifest = spec.manifest.as_deref();
    if let Some(meant) =
        manifest.and_then(|manifest| manifest.about.sha256.as_ref()).filter(|it| !it.eq_ignore_ascii_case(&actual))
    {
        let manifest = manifest.map(|manifest| manifest.origin.clone()).unwrap_or_default();
        return Err(LoadError::OtherManifest {
            plugin: plugin(),
            origin: origin(),
            manifest,
            meant: meant.clone(),
            actual,
        });
    }
    if wasmtime::Engine::detect_precompiled(&spec.component).is_some() {
        return Err(LoadError::Precompiled { plugin: plugin(), origin: origin() });
    }
    Ok(actual)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn read_outline(spec: &PluginSpec) -> Result<Outline, LoadError> {
    Outline::read(&spec.component).map_err(|reason| {
        let (plugin, origin) = (spec.name.clone(), spec.source.clone());
        match reason {
            NoOutline::CoreModule => LoadError::CoreModule { plugin, origin },
            NoOutline::NotWasm => LoadError::NotWasm { plugin, origin, looks_like: beginning(&spec.component) },
            NoOutline::Malformed(reason) => LoadError::Malformed { plugin, origin, reason },
        }
    })
}

/// A file's first bytes, as a person would name them.
fn beginning(bytes: &[u8]) -> String {
    match &bytes[..bytes.len().min(8)] {
        [] => "is empty".to_owned(),
        first if first.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            format!("begins with the text {:?}", String::from_utf8_lossy(first))
        }
        first => format!("begins with the bytes {}", hexadecimal(first)),
    }
}

/// The stages that the component exports.
fn check_exports(spec: &PluginSpec, outline: &Outline) -> Result<Vec<Stage>, LoadError> {
    let plugin = || spec.name.clone();
    let names: Vec<_> = outline.exports.iter().filter_map(|name| Some((name, outline::api_name(name)?))).collect();
    if let Some((name, _)) = names.iter().find(|(_, api)| !api.is_supported) {
        return Err(LoadError::ApiVersion { plugin: plugin(), name: (*name).clone() });
    }
    if !names.iter().any(|(_, api)| api.interface == "lifecycle") {
        return Err(LoadError::NoLifecycle { plugin: plugin(), exports: list(&outline.exports) });
    }
    let exported: Vec<Stage> = outline::STAGES
        .into_iter()
        .filter(|stage| names.iter().any(|(_, api)| outline::stage_of(api.interface) == Some(*stage)))
        .collect();
    if exported.is_empty() { Err(LoadError::NoStage { plugin: plugin() }) } else { Ok(exported) }
}

/// The stages to use: what the operator asks for, or else what the author suggests, or else everything.
fn choose_stages(spec: &PluginSpec, exported: &[Stage]) -> Result<Vec<(Stage, i32)>, LoadError> {
    let missing =
        |stages: &[(Stage, i32)]| stages.iter().map(|&(stage, _)| stage).find(|stage| !exported.contains(stage));
    let (plugin, exports) = (|| spec.name.clone(), || list(exported));
    let suggested = spec.manifest.as_ref().and_then(|manifest| Some((manifest, manifest.stages.as_ref()?)));
    if let Some((manifest, stages)) = suggested
        && let Some(stage) = missing(stages)
    {
        let manifest = manifest.origin.clone();
        return Err(LoadError::StagePromised { plugin: plugin(), manifest, stage, exports: exports() });
    }
    let mut stages = match (&spec.stages, suggested) {
        (Some(asked), _) if asked.is_empty() => {
            return Err(LoadError::NoStageUsed { plugin: plugin(), exports: exports() });
        }
        (Some(asked), _) => match missing(asked) {
            Some(stage) => return Err(LoadError::StageMissing { plugin: plugin(), stage, exports: exports() }),
            None => asked.clone(),
        },
        // A pin says which component it is to be. The file beside it, which nobody pinned, may say in what order its stages
        // come, but not that a guard does nothing.
        (None, Some((_, stages))) if spec.sha256.is_some() => {
            let order = |stage| stages.iter().find(|(used, _)| *used == stage).map_or(0, |&(_, order)| order);
            exported.iter().map(|&stage| (stage, order(stage))).collect()
        }
        (None, Some((_, stages))) => stages.clone(),
        (None, None) => exported.iter().map(|&stage| (stage, 0)).collect(),
    };
    // Where it cannot be done without, the comparison of grants says so.
    stages.retain(|&(stage, _)| stage != Stage::TokenControl || spec.token_control);
    Ok(stages)
}

/// The operator's configuration, judged by the author's schema.
fn check_config(spec: &PluginSpec, config: &serde_json::Value) -> Result<(), LoadError> {
    let schema = spec.manifest.as_ref().and_then(|manifest| manifest.config_schema.as_ref());
    let objections = schema.map(|schema| schema.objections(config)).unwrap_or_default();
    if objections.is_empty() {
        Ok(())
    } else {
        Err(LoadError::ConfigRefused { plugin: spec.name.clone(), objections: Objections(objections) })
    }
}

fn check_imports(spec: &PluginSpec, outline: &Outline) -> Result<(), LoadError> {
    outline.imports.iter().try_for_each(|import| check_import(spec, import))
}

fn check_import(spec: &PluginSpec, import: &str) -> Result<(), LoadError> {
    let (plugin, name) = (spec.name.clone(), import.to_owned());
    match outline::api_name(import) {
        Some(api) if !api.is_supported => Err(LoadError::ApiVersion { plugin, name }),
        // `kv` and `metrics` too, whatever was granted: what was not answers so, and a plugin that cannot do without says
        // at `init` which of them its configuration needs.
        Some(api) if imports::OFFERED.contains(&api.interface) => Ok(()),
        None if import.starts_with("wasi:") => match spec.wasi {
            Wasi::None => Err(LoadError::WasiNotGranted { plugin, import: name }),
            Wasi::Quiet if wasi::is_offered(import) || closed::is_closed(import) => Ok(()),
            Wasi::Quiet => Err(LoadError::WasiClosed { plugin, import: name, offered: list(&wasi::OFFERED_PACKAGES) }),
        },
        _ => Err(LoadError::ImportUnknown { plugin, import: name, offered: list(&imports::OFFERED) }),
    }
}

fn list<T: ToString>(names: &[T]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.iter().map(|name| format!("`{}`", name.to_string())).collect::<Vec<_>>().join(", ")
}
