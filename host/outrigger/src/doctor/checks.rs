//! The checks, each by itself: one that fails keeps none of the others from being made.

use std::path::PathBuf;

use hub::TokenSource;
use llama::Backends;
use model::ModelReference;
use model::gguf;
use store::{Presence, Store};

use super::Finding;
use crate::config::{Load, ModelSettings, Settings};
use crate::doors::Credentials;
use crate::placement::{Held, Plan, beside};
use crate::progress::size;

/// Free space below which a download of a usual model (7B at 4 bits is 4 GB) is not to be counted on.
const DISK_WANTED_BYTES: u64 = 10_000_000_000;

/// All findings, in the order in which `serve` would come upon them.
pub(super) fn all(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![token(settings)];
    let mut held = Vec::new();
    for model in &settings.models {
        findings.extend(named(settings, model, of_model(settings, model, &mut held)));
    }
    findings.push(disk(settings));
    for model in &settings.models {
        findings.extend(named(settings, model, vec![concurrency(model), threads(model)]));
    }
    findings.push(listening(settings));
    findings.push(metrics(settings));
    findings
}

/// What is to be said of one model, which is loaded beside those of `held`. Added to them is what it will hold.
fn of_model(settings: &Settings, model: &ModelSettings, held: &mut Vec<Held>) -> Vec<Finding> {
    let (mut findings, path) = self::model(settings, model);
    match llama::backends(&model.backends) {
        Ok(backends) => findings.extend(device_and_memory(model, backends, path, held)),
        Err(error) => {
            findings.push(Finding::fail("device", error.to_string()));
            findings.push(Finding::note("memory", "cannot be checked without a device"));
        }
    }
    findings
}

/// Findings about a model; of several with its name.
fn named(settings: &Settings, model: &ModelSettings, mut findings: Vec<Finding>) -> Vec<Finding> {
    if settings.models.len() > 1 {
        for finding in &mut findings {
            finding.says = format!("{}: {}", model.id, finding.says);
        }
    }
    findings
}

/// R3, R5: where the token comes from, never what it is.
fn token(settings: &Settings) -> Finding {
    const CHECK: &str = "token";
    if settings.models.iter().all(|model| matches!(model.reference, ModelReference::File(_))) {
        return Finding::ok(CHECK, "none is needed for a file of this machine");
    }
    match settings.store.hub().map(|hub| hub.tokens.read()) {
        Err(error) => Finding::fail(CHECK, format!("{error:#}")),
        Ok(Err(error)) => Finding::fail(CHECK, error.to_string()),
        Ok(Ok(None)) => Finding::ok(CHECK, "none; enough for public models"),
        Ok(Ok(Some((_, TokenSource::Config(place))))) if settings.store.is_token_literal() => Finding::note(
            CHECK,
            format!("{place} holds the token itself; write hf_token = \"${{file:/run/secrets/hf_token}}\" instead"),
        ),
        Ok(Ok(Some((_, source @ TokenSource::Config(_))))) => Finding::ok(CHECK, format!("explicit: {source}")),
        Ok(Ok(Some((_, source)))) => Finding::note(
            CHECK,
            format!(
                "found in {source}; name it in the configuration (hf_token = \"${{env:HF_TOKEN}}\"), and set \
                     `require_explicit_token` so that no other is ever taken"
            ),
        ),
    }
}

/// R13, R15, R29: the revision and the cache. With them the file to look at, where it is here.
fn model(settings: &Settings, model: &ModelSettings) -> (Vec<Finding>, Option<PathBuf>) {
    let reference = match &model.reference {
        ModelReference::File(path) if path.is_file() => {
            let found = Finding::ok("cache", format!("{} is a file of this machine", path.display()));
            return (vec![Finding::ok("revision", "a file has none"), found], Some(path.clone()));
        }
        ModelReference::File(path) => {
            let missing = Finding::fail("cache", format!("there is no file {}", path.display()));
            return (vec![missing], None);
        }
        ModelReference::Hub(reference) => reference,
    };
    let found = settings.store.models_dir().and_then(|dir| Ok(Store::open_existing(&dir)?));
    let presence = match found.and_then(|store| store.map(|store| Ok(store.find(reference)?)).transpose()) {
        Ok(presence) => presence,
        Err(error) => return (vec![Finding::fail("cache", format!("{error:#}"))], None),
    };
    let (cache, path, commit) = match presence {
        Some(Presence::Complete(local)) => {
            let commit = local.commit.as_ref().map(|commit| commit.as_str().to_owned());
            let says = format!("complete and verified in {}", local.directory.display());
            (Finding::ok("cache", says), local.weights.first().cloned(), commit)
        }
        Some(Presence::Unverified { .. }) => {
            (Finding::note("cache", format!("here and not verified yet; run: outrigger pull {reference}")), None, None)
        }
        missing => {
            let why = match missing {
                Some(Presence::Missing { why }) => why,
                _ => "there is no folder of models".to_owned(),
            };
            let offline = settings.store.hub().ok().and_then(|hub| hub.offline);
            let finding = match offline {
                Some(offline) => Finding::fail("cache", format!("{why}, and {offline}: nothing can be downloaded")),
                None if model.load == Some(Load::Start) => {
                    Finding::note("cache", format!("{why}; it is downloaded before the server is ready"))
                }
                None => Finding::note(
                    "cache",
                    format!("{why}; the first request waits for the download. Run: outrigger pull {reference}"),
                ),
            };
            (finding, None, None)
        }
    };
    let revision = match (reference.revision.commit(), commit) {
        (Some(commit), _) => Finding::ok("revision", format!("pinned to {}", commit.as_str())),
        (None, Some(commit)) => {
            let mut pinned = reference.clone();
            pinned.revision = model::Revision::parse(&commit).unwrap_or(pinned.revision);
            Finding::note("revision", format!("`{}` may move; pin what is here: {pinned}", reference.revision))
        }
        (None, None) => Finding::note(
            "revision",
            format!("`{}` may move; pin a commit: org/model@COMMIT (40 hexadecimal digits)", reference.revision),
        ),
    };
    (vec![revision, cache], path)
}

/// R16, R17, R19, R26, R27.
fn device_and_memory(
    settings: &ModelSettings,
    backends: &Backends,
    path: Option<PathBuf>,
    held: &mut Vec<Held>,
) -> Vec<Finding> {
    let Some(path) = path else {
        let device = format!("{} (cpu variant {})", backends.backend, backends.cpu_variant);
        let skipped = backends.skipped.iter().map(|it| Finding::ok("device", format!("not {}: {it}", it.backend)));
        let mut findings = vec![Finding::ok("device", device)];
        findings.extend(skipped);
        findings.push(Finding::note("memory", "cannot be checked before the model is here"));
        return findings;
    };
    let opened = gguf::Model::open(&path).map_err(anyhow::Error::from);
    let plan = match opened.and_then(|facts| Plan::of(settings, &facts.header, backends, held)) {
        Ok(plan) => plan,
        Err(error) => {
            let device = Finding::ok("device", format!("{} (cpu variant {})", backends.backend, backends.cpu_variant));
            let beside = beside(held).map(|beside| format!("{beside}: ")).unwrap_or_default();
            return vec![device, Finding::fail("memory", format!("{beside}{error:#}"))];
        }
    };
    let mut findings = vec![Finding::ok(
        "device",
        format!(
            "{}: {} computes {} of {} layers (cpu variant {}, modules in {})",
            plan.backend,
            plan.device_names(),
            if plan.gpu_layers == 0 { plan.placement.layers_total } else { plan.gpu_layers },
            plan.placement.layers_total,
            backends.cpu_variant,
            backends.directory.display()
        ),
    )];
    findings.extend(plan.skipped().iter().map(|it| Finding::ok("device", format!("not {}: {it}", it.backend))));
    let warnings = plan.warnings(settings, &llama::visible_gpus());
    findings.extend(warnings.into_iter().map(|warning| Finding::note("device", warning)));
    findings.push(Finding::ok("memory", plan.memory_sentence(settings)));
    held.push(Held::planned(&settings.id, &plan));
    findings
}

/// R24: a download of unknown size is asked about once the hub has said how large it is; this is what there is.
fn disk(settings: &Settings) -> Finding {
    const CHECK: &str = "disk";
    let dir = match settings.store.models_dir() {
        Ok(dir) => dir,
        Err(error) => return Finding::note(CHECK, format!("{error:#}")),
    };
    // Of a folder that is still to be made, the one that it will be in.
    let Some(existing) = dir.ancestors().find(|folder| folder.is_dir()) else {
        return Finding::note(CHECK, format!("{} cannot be made", dir.display()));
    };
    match store::free_bytes(existing) {
        None => Finding::note(CHECK, format!("the file system of {} does not say what it has free", dir.display())),
        Some(bytes) if bytes < DISK_WANTED_BYTES => {
            Finding::note(CHECK, format!("{} free for {}: little for another model", size(bytes), dir.display()))
        }
        Some(bytes) => Finding::ok(CHECK, format!("{} free for {}", size(bytes), dir.display())),
    }
}

/// R20.
fn concurrency(settings: &ModelSettings) -> Finding {
    Finding::ok(
        "concurrency",
        format!(
            "{} at once, {} more wait for up to {} s",
            settings.max_concurrency,
            settings.queue_max,
            settings.queue_wait.as_secs()
        ),
    )
}

/// More threads than processors wait for each other at every layer.
fn threads(settings: &ModelSettings) -> Finding {
    const CHECK: &str = "threads";
    let available = llama::threads_available(settings.cpus.as_ref()).unsigned_abs();
    match settings.threads {
        Some(asked) if asked > available => Finding::note(
            CHECK,
            format!("{asked}, and the affinity mask and the cgroup's quota grant {available}; leave `threads` out"),
        ),
        Some(asked) => Finding::ok(CHECK, format!("{asked} of the {available} that are granted")),
        None => Finding::ok(CHECK, format!("{available}, as the affinity mask and the cgroup's quota grant")),
    }
}

fn listening(settings: &Settings) -> Finding {
    const CHECK: &str = "listen";
    let listen = &settings.listen;
    if let Err(error) = Credentials::read(listen) {
        return Finding::fail(CHECK, format!("{}: {error:#}", listen.describe()));
    }
    let is_reached = listen.addresses().any(|address| !address.ip().to_canonical().is_loopback());
    let keys = if listen.keys_file.is_some() { "with keys" } else { "without keys" };
    let tls = match &listen.tls {
        None => "without TLS",
        Some(tls) if tls.client_authorities.is_some() => "with TLS and certificates of clients",
        Some(_) => "with TLS",
    };
    if !is_reached {
        Finding::ok(CHECK, format!("{}, which no other machine reaches, {keys} and {tls}", listen.describe()))
    } else if listen.is_guarded() {
        Finding::ok(CHECK, format!("{}: other machines reach it, {keys} and {tls}", listen.describe()))
    } else {
        Finding::note(CHECK, format!("{}: other machines reach it, {keys} and {tls}", listen.describe()))
    }
}

fn metrics(settings: &Settings) -> Finding {
    let listen = &settings.listen;
    let scheme = if listen.tls.is_some() { "https" } else { "http" };
    let url = match (listen.probes, listen.addresses().next()) {
        (Some(probes), _) => format!("http://{probes}/metrics"),
        (None, Some(address)) => format!("{scheme}://{address}/metrics"),
        (None, None) => format!("/metrics on {}", listen.describe()),
    };
    Finding::ok("metrics", format!("{url}, Prometheus text or OpenMetrics"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Said;
    use crate::doctor::State;

    fn settings(said: Said) -> Settings {
        Settings::from_said(said).expect("settings")
    }

    fn check(said: Said) -> (Vec<Finding>, Option<PathBuf>) {
        let settings = settings(said);
        model(&settings, &settings.models[0])
    }

    fn state(findings: &[Finding], check: &str) -> State {
        findings.iter().find(|finding| finding.check == check).expect(check).state
    }

    // X3
    #[test]
    fn a_model_that_is_not_there_is_noted_and_offline_a_failure() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = || Said {
            model: Some("org/model".to_owned()),
            models_dir: Some(folder.path().join("none")),
            offline: Some(false),
            ..Said::default()
        };
        let (findings, path) = check(said());
        assert_eq!((state(&findings, "cache"), state(&findings, "revision")), (State::Note, State::Note));
        assert_eq!(path, None);
        let (findings, _) = check(Said { offline: Some(true), ..said() });
        assert_eq!(state(&findings, "cache"), State::Fail);
        let pinned = format!("org/model@{}", "0123456789".repeat(4));
        let (findings, _) = check(Said { model: Some(pinned), ..said() });
        assert_eq!(state(&findings, "revision"), State::Ok);
    }

    #[test]
    fn a_file_is_there_or_not() {
        let (missing, _) = check(Said { model: Some("file:/nonexistent/a.gguf".to_owned()), ..Said::default() });
        assert_eq!(state(&missing, "cache"), State::Fail);
    }

    #[test]
    fn who_is_let_in_is_looked_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        let with = |listen: &str| Said {
            model: Some("file:/a.gguf".to_owned()),
            listen: Some(vec![listen.to_owned()]),
            listen_insecure: Some(true),
            api_keys_file: Some(keys.clone()),
            ..Said::default()
        };
        assert_eq!(listening(&settings(with("127.0.0.1:1"))).state, State::Fail, "there is no such file");
        std::fs::write(&keys, "0123456789abcdef").expect("written");
        assert_eq!(listening(&settings(with("127.0.0.1:1"))).state, State::Ok);
        let open = listening(&settings(with("0.0.0.0:1")));
        assert_eq!(
            (open.state, open.says.as_str()),
            (State::Note, "0.0.0.0:1: other machines reach it, with keys and without TLS")
        );
        let probes = Said { probe_listen: Some("0.0.0.0:2".to_owned()), ..with("unix:/s") };
        assert!(metrics(&settings(probes)).says.starts_with("http://0.0.0.0:2/metrics"));
    }

    #[test]
    fn more_threads_than_are_granted_are_noted() {
        let with = |threads| Said { model: Some("file:/a.gguf".to_owned()), threads, ..Said::default() };
        assert_eq!(threads(&settings(with(None)).models[0]).state, State::Ok);
        assert_eq!(threads(&settings(with(Some(1))).models[0]).state, State::Ok);
        assert_eq!(threads(&settings(with(Some(1024))).models[0]).state, State::Note);
    }
}
