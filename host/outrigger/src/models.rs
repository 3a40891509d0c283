//! The commands around the model store: pull, list, verify, remove, prune.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use hub::Hub;
use model::{Chosen, Commit, FileChoice, HubReference, ModelReference, RepositoryId, RepositoryPath, Revision};
use serde_json::{Value, json};
use store::{
    FileState, LocalModel, Outcome, Progress, Pruned, PullOptions, Removed, RemovedWhat, Store, StoreError,
    StoredRevision, Verdict, Verified,
};

use crate::Failure;
use crate::cli::{List, Prune, Pull, Remove, StoreArguments, Verify as VerifyArguments};
use crate::config::StoreSettings;
use crate::console::{Stderr, print, say};
use crate::progress::{self, size};

/// `outrigger pull`: what is printed on standard output is the path to serve or open, so that scripts can use it.
pub(crate) fn pull(arguments: Pull) -> Result<(), Failure> {
    let Pull { model, update, store } = arguments;
    let (settings, reference) = (begin(store)?, hub_reference(&model)?);
    let hub = Hub::new(settings.hub().map_err(Failure::usage)?).context("cannot ask the hub")?;
    let store = Store::open(&settings.models_dir()?).map_err(anyhow::Error::from)?;
    let progress = Arc::new(Progress::default());
    let options = PullOptions { update, hf_cache: settings.hf_cache.clone(), ..PullOptions::default() };
    let work = store.pull(&hub, &reference, options, &progress);
    let name = reference.to_string();
    let local = runtime()?.block_on(progress::show(&name, &progress, work)).map_err(anyhow::Error::from)?;

    let now = progress.snapshot();
    let fetched = match (now.bytes_received, now.bytes_resumed) {
        (0, _) => "nothing had to be downloaded".to_owned(),
        (received, 0) => format!("{} downloaded", size(received)),
        (received, resumed) => format!("{} downloaded, {} were there from before", size(received), size(resumed)),
    };
    let commit = local.commit.as_ref().map_or("an unknown commit", |commit| commit.as_str());
    say(format_args!("{reference} is at {commit}: {}; {fetched}", verified(local.verified)));
    for note in notes(&local) {
        say(format_args!("note: {note}"));
    }
    print(local.weights.iter().map(|path| path.display().to_string()))
}

/// What an operator should know of a model.
pub(crate) fn notes(local: &LocalModel) -> impl Iterator<Item = String> {
    // What nobody asked for by name may be another file once the repository has one that is preferred.
    let chosen = local.quant.as_ref().filter(|_| local.reason == Chosen::Preferred).map(|quant| {
        let reference = HubReference { choice: FileChoice::Quant(quant.clone()), ..local.reference.clone() };
        format!("no quantisation was named, and {quant} is the one that is preferred; write {reference} to be sure")
    });
    chosen.into_iter().chain(local.warnings.iter().map(ToString::to_string))
}

/// `outrigger list`.
pub(crate) fn list(arguments: List) -> Result<(), Failure> {
    let List { json, store } = arguments;
    let settings = begin(store)?;
    let Some(store) = existing(&settings)? else { return Ok(say_nothing_is_here(&settings)?) };
    let revisions = store.list().context("cannot list the models")?;
    if json {
        return print(revisions.iter().map(|revision| as_json(revision).to_string()));
    }
    if revisions.is_empty() {
        let models_dir = settings.models_dir()?;
        say(format_args!("no models in {}; fetch one with: outrigger pull org/model", models_dir.display()));
        return Ok(());
    }
    print(table(&revisions).into_iter())
}

/// `outrigger verify`: exit code 1 when anything is not what it should be.
pub(crate) fn verify(arguments: VerifyArguments) -> Result<(), Failure> {
    let VerifyArguments { model, store } = arguments;
    let settings = begin(store)?;
    let reference = model.as_deref().map(hub_reference).transpose()?;
    let named = reference.clone();
    let store = match (existing(&settings)?, &reference) {
        (Some(store), _) => store,
        (None, None) => return Ok(say_nothing_is_here(&settings)?),
        (None, Some(reference)) => {
            return Err(anyhow::Error::new(not_here(&settings, reference)?).context("cannot verify").into());
        }
    };
    let progress = Arc::new(Progress::default());
    let (what, watched) =
        (reference.as_ref().map_or("all models".to_owned(), ToString::to_string), Arc::clone(&progress));
    let verdicts = runtime()?.block_on(progress::show(&what, &watched, async move {
        tokio::task::spawn_blocking(move || store.verify(reference.as_ref(), &progress)).await
    }));
    let mut verdicts = verdicts.context("verifying panicked")?.context("cannot verify")?;
    if let Some(reference) = &named {
        keep_named(&mut verdicts, reference)?;
    }
    print(verdicts.iter().map(sentence))?;
    let wrong = verdicts.iter().filter(|verdict| !matches!(verdict.outcome, Outcome::Right | Outcome::Unknown)).count();
    if wrong > 0 {
        let all = verdicts.len();
        return Err(
            anyhow!("{wrong} of {all} files are not what they should be; `outrigger pull` fetches them anew").into()
        );
    }
    Ok(())
}

/// Of a revision's files those that the reference names. One that names none of them was verified by nobody.
fn keep_named(verdicts: &mut Vec<Verdict>, reference: &HubReference) -> anyhow::Result<()> {
    if reference.choice == FileChoice::Preferred {
        return Ok(());
    }
    let chosen = model::select(verdicts.iter().map(|verdict| &verdict.path), &reference.choice)
        .with_context(|| format!("cannot verify {reference}"))?;
    verdicts.retain(|verdict| chosen.files.contains(&verdict.path));
    Ok(())
}

/// `outrigger remove`.
pub(crate) fn remove(arguments: Remove) -> Result<(), Failure> {
    let Remove { model, force, store } = arguments;
    let settings = begin(store)?;
    let reference = hub_reference(&model)?;
    let removed = match existing(&settings)? {
        Some(store) => store.remove(&reference, force),
        None => Err(not_here(&settings, &reference)?),
    };
    let removed = removed.with_context(|| format!("cannot remove {reference}"))?;
    report(&removed);
    Ok(())
}

/// `outrigger prune`.
pub(crate) fn prune(arguments: Prune) -> Result<(), Failure> {
    let Prune { max_size, store } = arguments;
    let settings = begin(store)?;
    let Some(store) = existing(&settings)? else { return Ok(say_nothing_is_here(&settings)?) };
    let Pruned { removed, failures } = store.prune(max_size.as_u64()).context("cannot prune")?;
    removed.iter().for_each(report);
    let left = store.list().context("cannot list the models")?;
    let left_bytes =
        left.iter().fold(0, |sum: u64, it| sum.saturating_add(it.size_bytes.saturating_sub(it.shared_bytes)));
    if left_bytes > max_size.as_u64() {
        let in_use = left.iter().filter(|it| it.is_in_use).map(|it| name(&it.repository, &it.revision));
        let in_use = in_use.collect::<Vec<_>>().join(", ");
        let in_use = if in_use.is_empty() { in_use } else { format!("; in use, and kept: {in_use}") };
        say(format_args!("{} are left, more than {}{in_use}", size(left_bytes), size(max_size.as_u64())));
    } else if removed.is_empty() && failures.is_empty() {
        say(format_args!("the models fit {} already", size(max_size.as_u64())));
    }
    if failures.is_empty() {
        return Ok(());
    }
    let failures = failures.into_iter().map(|error| format!("\n  {:#}", anyhow::Error::from(error)));
    Err(anyhow!("not all that was to go could be removed:{}", failures.collect::<String>()).into())
}

/// The settings, with the log started.
pub(crate) fn begin(arguments: StoreArguments) -> Result<StoreSettings, Failure> {
    let settings = arguments.resolve().map_err(Failure::usage)?;
    telemetry::logging::init(settings.log_format, &settings.log, Stderr::default)
        .map_err(|error| Failure::usage(error.into()))?;
    settings.log_warnings();
    Ok(settings)
}

/// The store of a command that fetches nothing. A folder that is missing, perhaps mistyped, is not made.
pub(crate) fn existing(settings: &StoreSettings) -> anyhow::Result<Option<Store>> {
    Ok(Store::open_existing(&settings.models_dir()?)?)
}

fn say_nothing_is_here(settings: &StoreSettings) -> anyhow::Result<()> {
    let models_dir = settings.models_dir()?;
    say(format_args!(
        "there is no folder {}, and so no model; `outrigger pull` makes it, --models-dir names another",
        models_dir.display()
    ));
    Ok(())
}

fn not_here(settings: &StoreSettings, reference: &HubReference) -> anyhow::Result<StoreError> {
    Ok(StoreError::NotHere { reference: Box::new(reference.clone()), models_dir: settings.models_dir()? })
}

fn hub_reference(given: &str) -> Result<HubReference, Failure> {
    match ModelReference::parse(given).map_err(|error| Failure::usage(error.into()))? {
        ModelReference::Hub(reference) => Ok(reference),
        ModelReference::File(_) => {
            Err(Failure::usage(anyhow!("`{given}` is a file of this machine, not a model of the store")))
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// `org/model[@revision]`, as it is written to name it.
fn name(repository: &RepositoryId, revision: &Revision) -> String {
    if *revision == Revision::main() { repository.to_string() } else { format!("{repository}@{revision}") }
}

fn table(revisions: &[StoredRevision]) -> Vec<String> {
    let head = ["MODEL", "SIZE", "COMMIT", "VERIFIED", "IN USE"].map(str::to_owned);
    let row = |it: &StoredRevision| {
        let commit = it.commit.as_ref().map_or("unknown", |commit| commit.as_str());
        let verified = it.verified_at.map_or("no".to_owned(), |at| time(at).to_string());
        let damage: Vec<_> = it.damage().map(|file| format!("{} is {}", file.path, word(file.state))).collect();
        let verified = if damage.is_empty() { verified } else { damage.join(", ") };
        let in_use = if it.is_in_use { "yes" } else { "no" };
        [
            name(&it.repository, &it.revision),
            size(it.size_bytes),
            commit.chars().take(12).collect(),
            verified,
            in_use.to_owned(),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(revisions.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn as_json(revision: &StoredRevision) -> Value {
    let last_used = revision.last_used.map(|at| humantime::format_rfc3339_seconds(at).to_string());
    json!({
        "repository": revision.repository.to_string(),
        "revision": revision.revision.as_str(),
        "directory": revision.directory.to_string_lossy(),
        "commit": revision.commit.as_ref().map(Commit::as_str),
        "size_bytes": revision.size_bytes,
        "shared_bytes": revision.shared_bytes,
        "verified_at": revision.verified_at.map(|at| time(at).to_string()),
        "in_use": revision.is_in_use,
        "last_used": last_used,
        "files": revision.files.iter().map(|file| json!({
            "path": file.path.as_str(), "size_bytes": file.size_bytes, "state": word(file.state),
        })).collect::<Vec<_>>(),
    })
}

fn word(state: FileState) -> &'static str {
    match state {
        FileState::Verified => "verified",
        FileState::Unverified => "unverified",
        FileState::Changed => "changed",
        FileState::Damaged => "damaged",
        FileState::Missing => "missing",
    }
}

/// What became of one file, in a line.
fn sentence(verdict: &Verdict) -> String {
    let file = format!("{}/{}", name(&verdict.repository, &verdict.revision), verdict.path);
    match &verdict.outcome {
        Outcome::Right => format!("good     {file}"),
        Outcome::Unknown => format!("unknown  {file}: nothing says what it should be; `outrigger pull` asks the hub"),
        Outcome::Missing => format!("missing  {file}"),
        Outcome::Wrong { expected, found } => format!("wrong    {file}: it is {found} and should be {expected}"),
        Outcome::WrongSize { expected, found } => {
            format!("wrong    {file}: it has {found} bytes and should have {expected}")
        }
        Outcome::Unreadable { why } => format!("wrong    {file}: it cannot be read: {why}"),
    }
}

fn report(removed: &Removed) {
    let name = name(&removed.repository, &removed.revision);
    let what = match &removed.what {
        RemovedWhat::Directory => name,
        RemovedWhat::Files(files) => {
            let files: Vec<_> = files.iter().map(RepositoryPath::as_str).collect();
            format!("{} of {name}", files.join(", "))
        }
        RemovedWhat::Orphans => format!("unfinished downloads of {name}"),
    };
    say(format_args!("removed {what}: {} freed", size(removed.freed_bytes)));
}

pub(crate) fn verified(how: Verified) -> String {
    match how {
        Verified::Digest { at } => format!("verified at {}", time(at)),
        Verified::HeaderOnly => "its header is sound, its bytes were not verified".to_owned(),
    }
}

/// A time that is recorded in seconds since 1970, in RFC 3339.
fn time(at: u64) -> humantime::Rfc3339Timestamp {
    // What lies beyond the year 9999 was recorded wrongly, and is not worth a panic.
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(at.min(253_402_300_799)))
}
