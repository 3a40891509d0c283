//! A plugin's cases, in the host's own sandbox and under its limits; for each case, every way to cut the answer.

use inference::{ChatRequest, PipelineError};
use plugin::PluginSpec;
use plugin::probe::Used;
use serde::Serialize;

use crate::case::{Case, CaseFile};
use crate::chunking::{self, Chunking};
use crate::drive::{Run, Script};
use crate::judge::{difference, objections};
use crate::limits::{PREFIXES_MAX, RANDOM_CHUNKINGS};
use crate::stand::{LoadFailed, Loaded, Stand};

/// What to try.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only cases whose names contain this.
    pub name: Option<String>,
    /// Where chance begins: the same seed, the same chunkings.
    pub seed: u64,
    /// How many chunkings by chance.
    pub random: u32,
    /// Only this one, instead of all.
    pub cuts: Option<Vec<usize>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { name: None, seed: 1, random: RANDOM_CHUNKINGS, cuts: None }
    }
}

/// How a case went.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The case.
    pub name: String,
    /// What was not as it has to be; empty: it passed.
    pub failures: Vec<String>,
    /// What is odd and no failure.
    pub warnings: Vec<String>,
    /// Ways in which the answer was cut.
    pub chunkings: usize,
    /// What the plugin used with the answer in one piece; of what it held back, the most of all chunkings.
    pub used: Option<Used>,
    /// Instructions of `init` alone.
    pub init_instructions: Option<u64>,
    /// What it may use.
    pub limits: UseLimits,
}

/// What a plugin may use, of what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UseLimits {
    /// Linear memory.
    pub memory_bytes: usize,
    /// Text of a channel that it may hold back.
    pub held_bytes: usize,
    /// Calls of the host.
    pub host_calls: u32,
}

/// Runs the cases of a file that are wanted, and says of each how it went as soon as it has ended. `spec` says what the plugin is
/// granted; its configuration is the case's.
pub fn run(stand: &Stand, spec: &PluginSpec, file: &CaseFile, options: &Options, mut report: impl FnMut(Outcome)) {
    let with_template = file.chat_template.as_ref().map(|template| stand.with_template(template));
    let stand = with_template.as_ref().unwrap_or(stand);
    // Cases of one configuration mostly stand together.
    let mut loaded: Option<(String, Result<Loaded, LoadFailed>)> = None;
    let is_wanted = |case: &&Case| options.name.as_ref().is_none_or(|name| case.name.contains(name.as_str()));
    for case in file.cases.iter().filter(is_wanted) {
        if loaded.as_ref().is_none_or(|(config, _)| *config != case.config_json) {
            let spec = PluginSpec { config_json: case.config_json.clone(), ..spec.clone() };
            loaded = Some((case.config_json.clone(), stand.load(spec)));
        }
        if let Some((_, loaded)) = &loaded {
            report(outcome(loaded, spec, case, options));
        }
    }
}

fn outcome(loaded: &Result<Loaded, LoadFailed>, spec: &PluginSpec, case: &Case, options: &Options) -> Outcome {
    let limits = UseLimits {
        memory_bytes: spec.limits.memory_bytes_max,
        held_bytes: spec.limits.holdback_bytes_max,
        host_calls: spec.limits.host_calls_max,
    };
    let mut outcome = Outcome {
        name: case.name.clone(),
        failures: Vec::new(),
        warnings: Vec::new(),
        chunkings: 0,
        used: None,
        init_instructions: None,
        limits,
    };
    match (loaded, &case.expect.refused) {
        (Err(error), Some(expected)) if error.0.contains(expected.as_str()) => {}
        (Err(error), Some(expected)) => {
            outcome.failures.push(format!("the plugin was refused for another reason than {expected:?}: {error}"));
        }
        (Err(error), None) => outcome.failures.push(error.to_string()),
        (Ok(_), Some(expected)) => {
            outcome.failures.push(format!("the plugin was to be refused with {expected:?}, and it loads"));
        }
        (Ok(loaded), None) => try_case(loaded, case, options, &mut outcome),
    }
    outcome
}

fn try_case(loaded: &Loaded, case: &Case, options: &Options, outcome: &mut Outcome) {
    look_at_init(loaded, outcome);
    let trial = Trial { loaded, case };
    let whole = trial.run(&Chunking::default());
    outcome.used.clone_from(&whole.used);
    outcome.failures = objections(&case.expect, &whole);
    if let Some(fault) = loaded.last_fault().filter(|_| whole.sent.error.is_none()) {
        // The audit's faults reach nobody but the log.
        outcome.failures.push(fault);
    }
    let again = trial.run(&Chunking::default());
    if again.used != whole.used && again.sent.difference(&whole.sent).is_none() {
        outcome
            .warnings
            .push("a second run of the same took other resources: something in it is left to chance".to_owned());
    }
    let streamed = trial.run_as(&ChatRequest { streaming: !case.request.streaming, ..case.request.clone() });
    if let Some(part) = streamed.sent.difference(&whole.sent) {
        let (one, other) = (whole.sent.part(part), streamed.sent.part(part));
        outcome.failures.push(format!("streamed and buffered are not equal: {}", difference(part, &one, &other)));
    }
    let Some(answer) = case.answer.as_deref() else { return };
    let was_answered = whole.prepared.is_some();
    // One failure is enough to look for, and what it is in one piece comes first.
    if !was_answered || !outcome.failures.is_empty() {
        return;
    }
    cut_in_every_way(&trial, answer, &whole, options, outcome);
    if outcome.failures.is_empty() && options.cuts.is_none() {
        cut_short(&trial, answer, &whole, outcome);
    }
}

/// `init` in two instances does the same, or figures mean little.
fn look_at_init(loaded: &Loaded, outcome: &mut Outcome) {
    let (Some(one), Some(other)) = (loaded.instantiate(), loaded.instantiate()) else { return };
    outcome.init_instructions = one.instructions;
    if one != other {
        outcome.warnings.push(format!(
            "`init` is not the same in every instance: {} {} with {} instructions and {} bytes, then {} {} with {} and {}",
            one.identity.name,
            one.identity.version,
            one.instructions.unwrap_or(0),
            one.memory_bytes,
            other.identity.name,
            other.identity.version,
            other.instructions.unwrap_or(0),
            other.memory_bytes
        ));
    }
}

fn cut_in_every_way(trial: &Trial<'_>, answer: &str, whole: &Run, options: &Options, outcome: &mut Outcome) {
    let chosen = options.cuts.as_ref().map(|cuts| Chunking { cuts: cuts.clone(), ..Chunking::default() });
    if let Some(cut) = chosen.iter().flat_map(|chunking| &chunking.cuts).find(|cut| !answer.is_char_boundary(**cut)) {
        outcome.failures.push(format!("the answer of {} bytes cannot be cut at {cut}", answer.len()));
        return;
    }
    let all = chosen.is_none().then(|| chunking::all(answer, options.seed, options.random));
    for chunking in chosen.into_iter().chain(all.into_iter().flatten()) {
        let run = trial.run(&chunking);
        outcome.chunkings += 1;
        if run.sent.difference(&whole.sent).is_some() {
            let seed = chunking.seed;
            let chunking = chunking.shrunk(|fewer| trial.run(fewer).sent.difference(&whole.sent).is_some());
            outcome.failures.push(trial.other_answer(&chunking, seed, whole));
            return;
        }
        if let (Some(used), Some(most)) = (&run.used, &mut outcome.used) {
            most.held_bytes = most.held_bytes.max(used.held_bytes);
        }
    }
    let held = outcome.used.as_ref().map_or(0, |used| used.held_bytes as u64);
    if let Some(limit) = trial.case.expect.at_most.held_bytes.filter(|limit| held > *limit) {
        outcome.failures.push(format!("held_bytes is {held}, and {limit} is the most that the case allows"));
    }
}

/// An answer that a plugin leaves as it is, is left as it is wherever it ends: what was held back at that moment comes out.
fn cut_short(trial: &Trial<'_>, answer: &str, whole: &Run, outcome: &mut Outcome) {
    let is_changed = whole.sent.content != answer || whole.sent.stop.is_some() || whole.sent.error.is_some();
    if is_changed {
        return;
    }
    for beginning in chunking::beginnings(answer, PREFIXES_MAX) {
        let run = trial.run_pieces(&trial.case.request, &[beginning, ""]);
        let sent = &run.sent;
        // What is changed or ended there has a reason of its own; what is missing at the end has none.
        let is_lost = sent.error.is_none()
            && sent.stop.is_none()
            && sent.content.len() < beginning.len()
            && beginning.starts_with(&sent.content);
        if is_lost {
            outcome.failures.push(format!(
                "text is lost where the answer ends early (max_tokens): {}",
                difference("output", beginning, &sent.content)
            ));
            return;
        }
    }
}

struct Trial<'a> {
    loaded: &'a Loaded,
    case: &'a Case,
}

impl Trial<'_> {
    fn run(&self, chunking: &Chunking) -> Run {
        let pieces = self.case.answer.as_deref().map(|answer| chunking.pieces(answer)).unwrap_or_default();
        self.run_pieces(&self.case.request, &pieces)
    }

    fn run_as(&self, request: &ChatRequest) -> Run {
        let pieces: Vec<&str> = self.case.answer.as_deref().into_iter().collect();
        self.run_pieces(request, &pieces)
    }

    fn run_pieces(&self, request: &ChatRequest, pieces: &[&str]) -> Run {
        let script = Script { request, headers: &self.case.headers, times: self.case.times };
        script.run(self.loaded, pieces)
    }

    /// What to say of a chunking at which the answer is another one.
    fn other_answer(&self, chunking: &Chunking, seed: Option<u64>, whole: &Run) -> String {
        let run = self.run(chunking);
        let part = run.sent.difference(&whole.sent).unwrap_or("output");
        let answer = self.case.answer.as_deref().unwrap_or_default();
        let cuts: Vec<String> = chunking.cuts.iter().map(ToString::to_string).collect();
        let end = if chunking.ends_empty { ", and the end with no text" } else { "" };
        let found = seed.map(|seed| format!(" Found with --seed {seed}.")).unwrap_or_default();
        let repeat = if cuts.is_empty() { String::new() } else { format!(" --cuts {}", cuts.join(",")) };
        let detail = match &run.sent.error {
            Some(error @ PipelineError::Fault { .. }) => format!("\n  {}", crate::answer::described(error)),
            _ => String::new(),
        };
        format!(
            "another answer when it comes as {:?}{end}\n  {}{detail}\n  Repeat it with: outrigger plugin test --case {:?}{repeat}.{found}",
            chunking.pieces(answer),
            difference(part, &whole.sent.part(part), &run.sent.part(part)).replace('\n', "\n  "),
            self.case.name,
        )
    }
}
