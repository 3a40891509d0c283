//! What loading a plugin found out, step by step, also where it was refused: for the log, for `plugin check` and for `/admin`.

use std::fmt;
use std::time::{Duration, Instant};

use inference::Stage;
use serde::{Serialize, Serializer};

use crate::grants::{Grant, GrantState, toml_to_write};
use crate::inspect::inspect;
use crate::instance::Identity;
use crate::limits::LimitKey;
use crate::load_error::LoadError;
use crate::manifest::About;
use crate::reuse::Reuse;
use crate::spec::{OnFailure, PluginSpec, Wasi};
use crate::text::escape_into;

/// What is known of a plugin after it was loaded, or up to where it was refused. Holds no value of its configuration: that may be
/// a secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadReport {
    /// The operator's name for it.
    pub name: String,
    /// Where the component came from.
    pub source: String,
    /// Where the manifest came from, and what the author says in it.
    pub manifest: Option<ManifestFacts>,
    /// What it calls itself.
    pub identity: Option<Identity>,
    /// SHA-256 of the component in hexadecimal: what to pin.
    pub sha256: Option<String>,
    /// Whether the operator pinned it.
    pub is_pinned: bool,
    /// Size of the component.
    pub size_bytes: usize,
    /// The version of the contract that it was built for.
    pub api: Option<String>,
    /// The stages in use.
    pub stages: Vec<StageUse>,
    /// Stages that it exports and that are not in use.
    #[serde(serialize_with = "stage_names")]
    pub stages_unused: Vec<Stage>,
    /// What it imports.
    pub imports: Vec<String>,
    /// Which WASI it may import.
    pub wasi: Wasi,
    /// What it was asked for and granted.
    pub grants: Vec<Grant>,
    /// What it may use.
    pub limits: Vec<LimitValue>,
    /// What happens when its policy fails.
    pub policy_failure: OnFailure,
    /// What happens when its parser fails.
    pub parse_failure: OnFailure,
    /// What happens when its filter fails.
    pub postprocess_failure: OnFailure,
    /// How its instances are reused; `None`: one serves one request.
    pub reuse: Option<Reuse>,
    /// The keys of its configuration.
    pub config_keys: Vec<String>,
    /// Whether the configuration was judged by a schema.
    pub has_config_schema: bool,
    /// Whether it was compiled now or taken from the cache.
    pub code: Option<CodeOrigin>,
    /// What its trial instance used.
    pub trial: Option<Trial>,
    /// What was found odd and is no reason to refuse it.
    pub notes: Vec<String>,
    /// How long compiling took, or reading the compiled code.
    #[serde(rename = "compile_seconds", serialize_with = "seconds")]
    pub compile_elapsed: Duration,
    /// How long all of it took.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
}

/// What a manifest says of its plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestFacts {
    /// Where it was read.
    pub origin: String,
    /// The plugin's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it does.
    pub description: String,
    /// Its licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

/// A stage in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StageUse {
    /// Which.
    #[serde(serialize_with = "stage_name")]
    pub stage: Stage,
    /// Its place in the chain, lowest first.
    pub order: i32,
}

/// A limit's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LimitValue {
    /// Its name in the configuration, which ends in its unit.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// Whether it is the default.
    pub is_default: bool,
}

/// What a trial instance used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// Linear memory after `init`.
    pub memory_bytes: usize,
    /// Time to instantiate and initialise it.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
}

/// Where a plugin's native code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CodeOrigin {
    /// Compiled now.
    Compiled,
    /// Compiled at an earlier start.
    Cached,
}

impl LoadReport {
    pub(crate) fn of(spec: &PluginSpec) -> Self {
        let defaults = crate::Limits::default();
        let limit = |key: LimitKey| {
            let value = key.of(&spec.limits);
            LimitValue { name: key.as_str(), value, is_default: value == key.of(&defaults) }
        };
        let manifest = spec.manifest.as_ref().map(|manifest| {
            let About { name, version, description, license, .. } = manifest.about.clone();
            ManifestFacts { origin: manifest.origin.clone(), name, version, description, license }
        });
        Self {
            name: spec.name.clone(),
            source: spec.source.clone(),
            manifest,
            identity: None,
            sha256: None,
            is_pinned: spec.sha256.is_some(),
            size_bytes: spec.component.len(),
            api: None,
            stages: Vec::new(),
            stages_unused: Vec::new(),
            imports: Vec::new(),
            wasi: spec.wasi,
            grants: Vec::new(),
            limits: LimitKey::ALL.into_iter().map(limit).collect(),
            policy_failure: spec.policy_failure,
            parse_failure: spec.parse_failure,
            postprocess_failure: spec.postprocess_failure,
            reuse: spec.reuse,
            config_keys: Vec::new(),
            has_config_schema: spec.manifest.as_ref().is_some_and(|manifest| manifest.config_schema.is_some()),
            code: None,
            trial: None,
            notes: Vec::new(),
            compile_elapsed: Duration::ZERO,
            elapsed: Duration::ZERO,
        }
    }

    /// What can be told of a plugin without compiling or running it, and why it would be refused for that.
    #[must_use]
    pub fn inspect(spec: &PluginSpec) -> (Self, Option<LoadError>) {
        let started = Instant::now();
        let mut report = Self::of(spec);
        let refused = inspect(spec, &mut report).err();
        report.elapsed = started.elapsed();
        (report, refused)
    }

    /// The trial was passed.
    pub(crate) fn passed(&mut self, identity: Identity, trial: Trial) {
        if let Some(manifest) = &self.manifest
            && (manifest.name != identity.name || manifest.version != identity.version)
        {
            let mut note =
                format!("the manifest is of {} {}, and the component calls itself ", manifest.name, manifest.version);
            escape_into(&mut note, &format!("{} {}", identity.name, identity.version));
            self.notes.push(note);
        }
        (self.identity, self.trial) = (Some(identity), Some(trial));
    }

    /// What it asked for and does without.
    pub fn declined(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(|grant| grant.state == GrantState::Declined)
    }

    /// The lines of the configuration that would grant what it does without.
    #[must_use]
    pub fn toml_for_declined(&self) -> String {
        toml_to_write(&self.name, &self.grants, &[GrantState::Declined])
    }

    /// Its own version, or the manifest's where it was not asked.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        let own = self.identity.as_ref().map(|identity| identity.version.as_str());
        own.or(self.manifest.as_ref().map(|manifest| manifest.version.as_str()))
    }
}

impl fmt::Display for LoadReport {
    /// For people, a fact in a line; what is not known is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {}", self.name, self.source)?;
        if let Some(manifest) = &self.manifest {
            writeln!(f, "  manifest   {} {}: {}", manifest.name, manifest.version, manifest.description)?;
        } else {
            writeln!(f, "  manifest   none, so it asks for nothing")?;
        }
        if let Some(Identity { name, version }) = &self.identity {
            writeln!(f, "  calls itself {name} {version}")?;
        }
        let pinned = if self.is_pinned { ", pinned" } else { "" };
        if let Some(sha256) = &self.sha256 {
            writeln!(f, "  sha256     {sha256} ({} bytes{pinned})", self.size_bytes)?;
        }
        if let Some(api) = &self.api {
            writeln!(f, "  contract   outrigger:plugin@{api}")?;
        }
        if !self.stages.is_empty() {
            let stages: Vec<_> = self.stages.iter().map(|used| format!("{} at {}", used.stage, used.order)).collect();
            writeln!(f, "  stages     {}", stages.join(", "))?;
        }
        if !self.stages_unused.is_empty() {
            let unused: Vec<_> = self.stages_unused.iter().map(|stage| stage.as_str()).collect();
            writeln!(f, "  not used   {}", unused.join(", "))?;
        }
        for import in &self.imports {
            writeln!(f, "  imports    {import}")?;
        }
        for grant in &self.grants {
            let state = match grant.state {
                GrantState::Granted => "granted",
                GrantState::Unasked => "granted, not asked for",
                GrantState::Declined => "not granted",
                GrantState::Missing => "MISSING",
            };
            let reason = grant.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            writeln!(f, "  {state:10} {}{reason}", grant.describe())?;
        }
        let raised: Vec<_> = self.limits.iter().filter(|limit| !limit.is_default).collect();
        for limit in raised {
            writeln!(f, "  limit      {} = {}", limit.name, limit.value)?;
        }
        let failures = [
            (Stage::Policy, self.policy_failure),
            (Stage::Parse, self.parse_failure),
            (Stage::Postprocess, self.postprocess_failure),
        ];
        let open = failures.into_iter().filter(|(_, then)| *then == OnFailure::Open);
        let open: Vec<&str> = open.map(|(stage, _)| stage.as_str()).collect();
        if !open.is_empty() {
            writeln!(f, "  open       requests go on where it fails in {}", open.join(", "))?;
        }
        if let Some(Reuse { idle_max, requests_max, .. }) = self.reuse {
            writeln!(f, "  reused     an instance serves up to {requests_max} requests; {idle_max} may wait for one")?;
        }
        if !self.config_keys.is_empty() {
            let judged = if self.has_config_schema { "" } else { " (no schema to judge them by)" };
            writeln!(f, "  config     {}{judged}", self.config_keys.join(", "))?;
        }
        if let Some(code) = self.code {
            let how = match code {
                CodeOrigin::Compiled => "compiled",
                CodeOrigin::Cached => "from the cache",
            };
            writeln!(f, "  code       {how} in {:.1} ms", milliseconds(self.compile_elapsed))?;
        }
        if let Some(trial) = &self.trial {
            let elapsed = milliseconds(trial.elapsed);
            writeln!(f, "  trial      passed in {elapsed:.1} ms with {} bytes of memory", trial.memory_bytes)?;
        }
        for note in &self.notes {
            writeln!(f, "  note       {note}")?;
        }
        Ok(())
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn stage_name<S: Serializer>(stage: &Stage, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(stage.as_str())
}

fn stage_names<S: Serializer>(stages: &[Stage], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(stages.iter().map(|stage| stage.as_str()))
}
