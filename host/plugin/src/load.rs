//! From a file to a plugin that can be used: the checks of [`inspect`], then compiling, linking and the trial of a live instance.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use inference::Stage;
use telemetry::Instrument;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::background;
use crate::breaker::Breaker;
use crate::closed;
use crate::exports::StageIndices;
use crate::fault::Failure;
use crate::imports;
use crate::inspect::{Inspected, inspect};
use crate::instance::{Identity, Instance};
use crate::kv::GrantedStore;
use crate::limits::{THREAD_STACK_BYTES, WASM_MEMORY_BYTES_MAX};
use crate::load_error::LoadError;
use crate::report::{CodeOrigin, LoadReport, Trial};
use crate::reuse::Reuse;
use crate::sandbox::Inner;
use crate::spec::{ModelContext, Modify, OnFailure, PluginSpec, Wasi};
use crate::state::{GuestState, Owner};
use crate::tally::Tally;
use crate::wasi;

/// The contract that this host speaks, for messages.
pub(crate) const API: &str = "outrigger:plugin@0.1";

/// A plugin that has passed its trial. Cheap to clone.
#[derive(Clone)]
pub struct LoadedPlugin {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) report: Arc<LoadReport>,
}

impl LoadedPlugin {
    /// What loading it found out.
    #[must_use]
    pub fn report(&self) -> &LoadReport {
        &self.report
    }
}

/// Everything that a plugin's instances are made from and judged by.
pub(crate) struct Plugin {
    pub(crate) owner: Arc<Owner>,
    pub(crate) sandbox: Arc<Inner>,
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) indices: StageIndices,
    /// The stages in use, with their places in the chains.
    pub(crate) stages: Vec<(Stage, i32)>,
    pub(crate) headers: Vec<String>,
    pub(crate) modify: Vec<Modify>,
    pub(crate) breaker: Breaker,
    pub(crate) reuse: Option<Reuse>,
    pub(crate) policy_failure: OnFailure,
    pub(crate) parse_failure: OnFailure,
    pub(crate) postprocess_failure: OnFailure,
    pub(crate) tally: Tally,
}

pub(crate) fn load(
    sandbox: &Arc<Inner>,
    spec: PluginSpec,
    model: &ModelContext,
) -> (LoadReport, Result<LoadedPlugin, LoadError>) {
    let started = Instant::now();
    let mut report = LoadReport::of(&spec);
    let result = run(sandbox, spec, model, &mut report);
    report.elapsed = started.elapsed();
    let result = result.map(|plugin| LoadedPlugin { plugin, report: Arc::new(report.clone()) });
    (report, result)
}

/// All checks, and what each finds out.
fn run(
    sandbox: &Arc<Inner>,
    spec: PluginSpec,
    model: &ModelContext,
    report: &mut LoadReport,
) -> Result<Arc<Plugin>, LoadError> {
    let Inspected { config, sha256, stages } = inspect(&spec, report)?;
    check_limits(sandbox, &spec)?;
    let compiling = Instant::now();
    let (component, code) = compile(sandbox, &spec, &sha256)?;
    (report.code, report.compile_elapsed) = (Some(code), compiling.elapsed());
    let (pre, indices) = link(sandbox, &spec, &component, &stages)?;
    let (stores, instruments) = shared(sandbox, &spec)?;
    let owner = Owner {
        name: spec.name,
        limits: spec.limits,
        config_json: spec.config_json,
        config,
        model: model.clone(),
        stores,
        instruments,
    };
    let plugin = Arc::new(Plugin {
        owner: Arc::new(owner),
        sandbox: Arc::clone(sandbox),
        pre,
        indices,
        stages,
        headers: spec.headers,
        modify: spec.modify,
        breaker: Breaker::new(spec.breaker),
        reuse: spec.reuse,
        policy_failure: spec.policy_failure,
        parse_failure: spec.parse_failure,
        postprocess_failure: spec.postprocess_failure,
        tally: Tally::default(),
    });
    let (identity, trial) = try_out(&plugin)?;
    report.passed(identity, trial);
    Ok(plugin)
}

fn check_limits(sandbox: &Inner, spec: &PluginSpec) -> Result<(), LoadError> {
    let check = |what, wanted: usize, limit: usize, remedy| {
        if wanted <= limit {
            return Ok(());
        }
        Err(LoadError::LimitTooHigh { plugin: spec.name.clone(), what, wanted, limit, remedy })
    };
    check("bytes of memory", spec.limits.memory_bytes_max, WASM_MEMORY_BYTES_MAX, "lower the plugin's limit")?;
    let remedy = "lower the plugin's limit or raise the sandbox's";
    check("bytes of memory", spec.limits.memory_bytes_max, sandbox.memory_bytes_max, remedy)?;
    check("table elements", spec.limits.table_elements_max, sandbox.table_elements_max, "lower the plugin's limit")
}

/// What this generation of the plugin shares with the ones before and after.
fn shared(sandbox: &Inner, spec: &PluginSpec) -> Result<(Vec<GrantedStore>, Vec<Arc<Instrument>>), LoadError> {
    let stores = spec.kv.iter().map(|grant| sandbox.shared.store(&spec.name, grant.clone())).collect();
    let instruments = spec.instruments.iter().map(|it| sandbox.shared.instrument(&spec.name, it));
    let instruments = instruments.collect::<Result<_, _>>();
    Ok((stores, instruments.map_err(|reason| LoadError::Instruments { plugin: spec.name.clone(), reason })?))
}

fn compile(sandbox: &Inner, spec: &PluginSpec, sha256: &str) -> Result<(Component, CodeOrigin), LoadError> {
    if let Some(cache) = &sandbox.cache
        && let Some(component) = cache.load(&sandbox.engine, sha256)
    {
        return Ok((component, CodeOrigin::Cached));
    }
    let compile = || Component::from_binary(&sandbox.engine, &spec.component);
    let compiled = if sandbox.shared.is_serving() { background::run(compile) } else { compile() };
    let component = compiled.map_err(|error| LoadError::Malformed {
        plugin: spec.name.clone(),
        origin: spec.source.clone(),
        reason: format!("{error:#}"),
    })?;
    if let Some(cache) = &sandbox.cache {
        cache.store(sha256, &component);
    }
    Ok((component, CodeOrigin::Compiled))
}

/// Gives the component what it may have, and nothing else.
fn link(
    sandbox: &Inner,
    spec: &PluginSpec,
    component: &Component,
    stages: &[(Stage, i32)],
) -> Result<(InstancePre<GuestState>, StageIndices), LoadError> {
    let linked = || {
        let mut linker = Linker::new(&sandbox.engine);
        imports::link(&mut linker)?;
        if spec.wasi == Wasi::Quiet {
            wasi::link(&mut linker)?;
            closed::link(&mut linker, component)?;
        }
        let pre = linker.instantiate_pre(component)?;
        let indices = StageIndices::of(&pre, stages)?;
        Ok((pre, indices))
    };
    linked()
        .map_err(|error: wasmtime::Error| LoadError::Link { plugin: spec.name.clone(), reason: format!("{error:#}") })
}

/// Makes an instance and initialises it, on a thread like those that will run it. Some mistakes show only here: a
/// record that differs from ours, a configuration that the plugin refuses.
fn try_out(plugin: &Arc<Plugin>) -> Result<(Identity, Trial), LoadError> {
    let name = || plugin.owner.name.clone();
    let failed = |kind, detail| LoadError::Init { plugin: name(), kind, detail };
    let trial = thread::Builder::new().name("plugin-trial".to_owned()).stack_size(THREAD_STACK_BYTES).spawn({
        let plugin = Arc::clone(plugin);
        move || {
            let started = Instant::now();
            let (instance, identity) = Instance::start(&plugin, Arc::default(), None)?;
            Ok((identity, Trial { memory_bytes: instance.memory_bytes(), elapsed: started.elapsed() }))
        }
    });
    let trial = trial.map_err(|source| LoadError::Thread { plugin: name(), source })?;
    match trial.join() {
        Ok(Ok(passed)) => Ok(passed),
        Ok(Err(Failure::Invalid(text))) => Err(failed("invalid", text)),
        Ok(Err(Failure::Fault(fault))) => Err(failed(fault.kind.as_str(), fault.detail)),
        Err(_) => Err(failed("trap", "the host panicked; this is a bug of Outrigger, please report it".to_owned())),
    }
}
