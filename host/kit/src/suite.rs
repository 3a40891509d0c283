//! A plugin's cases, in the host's own sandbox and under its limits; for each case, every way to cut the answer.

use inference::{ChatRequest, PipelineError};
use plugin::PluginSpec;
use plugin::probe::Used;
use serde::Serialize;

use crate::case::{Case, CaseFile};
use crate::chunking::{self, Chunking};
use crate::drive::{Cut, Run, Script};
use crate::ended_early;
use crate::judge::{difference, objections};
use crate::limits::{PIECES_BESIDE_MAX, RANDOM_CHUNKINGS};
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
    /// Whether its end comes alone, with no text.
    pub ends_empty: bool,
    /// The command line that tries the same cases, for failures to name.
    pub command: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            seed: 1,
            random: RANDOM_CHUNKINGS,
            cuts: None,
            ends_empty: false,
            command: "outrigger plugin test".to_owned(),
        }
    }
}

impl Options {
    /// The one way to cut answers that is tried, where one is named.
    fn chosen(&self) -> Option<Chunking> {
        let is_named = self.cuts.is_some() || self.ends_empty;
        is_named.then(|| Chunking::at(self.cuts.as_deref().unwrap_or_default(), self.ends_empty))
    }

    /// Whether a case is tried; the name of one means that one alone, and otherwise all whose names contain it.
    fn wants(&self, case: &Case, among: &[Case]) -> bool {
        let Some(name) = &self.name else { return true };
        if among.iter().any(|case| case.name == *name) { case.name == *name } else { case.name.contains(name.as_str()) }
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

impl UseLimits {
    pub(crate) fn of(spec: &PluginSpec) -> Self {
        Self {
            memory_bytes: spec.limits.memory_bytes_max,
            held_bytes: spec.limits.holdback_bytes_max,
            host_calls: spec.limits.host_calls_max,
        }
    }
}

/// Runs the cases of a file that are wanted, and says of each how it went as soon as it has ended. `spec` says what the plugin is
/// granted; its configuration is the case's.
pub fn run(stand: &Stand, spec: &PluginSpec, file: &CaseFile, options: &Options, mut report: impl FnMut(Outcome)) {
    let with_template = file.chat_template.as_ref().map(|template| stand.with_template(template));
    let stand = with_template.as_ref().unwrap_or(stand);
    // Cases of one configuration mostly stand together.
    let mut loaded: Option<(String, Result<Loaded, LoadFailed>)> = None;
    for case in file.cases.iter().filter(|case| options.wants(case, &file.cases)) {
        if loaded.as_ref().is_none_or(|(config, _)| *config != case.config_json) {
            let spec = PluginSpec { config_json: case.config_json.clone(), ..spec.clone() };
            loaded = Some((case.config_json.clone(), stand.load(spec)));
        }
        if let Some((_, loaded)) = &loaded {
            report(outcome(loaded, spec, case, options));
        }
    }
}

pub(crate) fn outcome(
    loaded: &Result<Loaded, LoadFailed>,
    spec: &PluginSpec,
    case: &Case,
    options: &Options,
) -> Outcome {
    let limits = UseLimits::of(spec);
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
    let trial = Trial { loaded, case, repeat: &options.command };
    let whole = trial.run();
    outcome.used.clone_from(&whole.used);
    outcome.failures = objections(&case.expect, &whole, loaded.model().vocabulary());
    let again = trial.run();
    if let Some((part, one, other)) = whole.difference(&again) {
        // Whatever else is tried would differ too, and would be blamed on what was tried.
        let differs = difference(part, &one, &other);
        outcome.failures.push(format!("two runs of the same are not equal, so something is left to chance: {differs}"));
        return;
    }
    if again.used != whole.used {
        outcome
            .warnings
            .push("a second run of the same took other resources: something in it is left to chance".to_owned());
    }
    let request = ChatRequest { streaming: !case.request.streaming, ..case.request.clone() };
    let streamed = trial.run_as(&request, Cut::Whole);
    if let Some((part, one, other)) = whole.difference(&streamed) {
        outcome.failures.push(format!("streamed and buffered are not equal: {}", difference(part, &one, &other)));
    }
    let was_answered = whole.prepared.is_some() && case.answer.is_some();
    // One failure is enough to look for, and what it is in one piece comes first.
    if !was_answered || !outcome.failures.is_empty() {
        return;
    }
    cut_in_every_way(&trial, &whole, options, outcome);
    if outcome.failures.is_empty() && options.chosen().is_none() {
        outcome.failures.extend(ended_early::objection(&trial, &whole));
        write_beside_another(&trial, &whole, outcome);
    }
}

/// A request may have several answers, and one instance serves them all.
fn write_beside_another(trial: &Trial<'_>, whole: &Run, outcome: &mut Outcome) {
    let answer = whole.written.as_str();
    let cuts: Vec<usize> = answer.char_indices().map(|(place, _)| place).skip(1).take(PIECES_BESIDE_MAX).collect();
    let run = trial.run_as(&trial.case.request, Cut::Beside(&Chunking::at(&cuts, false).pieces(answer)));
    // What is noted may be a count of all of them.
    if let Some((part, one, other)) = whole.difference(&run).filter(|(part, ..)| *part != "notes") {
        let error = match &run.sent.error {
            Some(error @ PipelineError::Fault { .. }) => format!("\n  {}", crate::answer::described(error)),
            _ => String::new(),
        };
        outcome.failures.push(format!(
            "another answer where a second one to the same request (`n`) is written beside it: what is of one answer belongs into its \
             filter, parser or controller, and not into the plugin\n  {}{error}",
            difference(part, &one, &other).replace('\n', "\n  "),
        ));
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

fn cut_in_every_way(trial: &Trial<'_>, whole: &Run, options: &Options, outcome: &mut Outcome) {
    let answer = whole.written.as_str();
    let chosen = options.chosen();
    if let Some(cut) = chosen.iter().flat_map(|chunking| &chunking.cuts).find(|cut| !answer.is_char_boundary(**cut)) {
        outcome.failures.push(format!("the answer of {} bytes cannot be cut at {cut}", answer.len()));
        return;
    }
    let all = chosen.is_none().then(|| chunking::all(answer, options.seed, options.random));
    for chunking in chosen.into_iter().chain(all.into_iter().flatten()) {
        let run = trial.run_cut(&chunking, answer);
        outcome.chunkings += 1;
        if whole.difference(&run).is_some() {
            let seed = chunking.seed;
            let chunking = chunking.shrunk(|fewer| whole.difference(&trial.run_cut(fewer, answer)).is_some());
            outcome.failures.extend(trial.other_answer(&chunking, seed, whole));
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

/// One case with one plugin.
pub(crate) struct Trial<'a> {
    loaded: &'a Loaded,
    pub(crate) case: &'a Case,
    /// The command that was run.
    repeat: &'a str,
}

impl Trial<'_> {
    /// With the answer in one piece.
    fn run(&self) -> Run {
        self.run_as(&self.case.request, Cut::Whole)
    }

    /// With `answer`, which is what was written the first time, in pieces.
    fn run_cut(&self, chunking: &Chunking, answer: &str) -> Run {
        self.run_as(&self.case.request, Cut::Pieces(&chunking.pieces(answer)))
    }

    pub(crate) fn run_as(&self, request: &ChatRequest, cut: Cut<'_>) -> Run {
        let Case { headers, times, answer, .. } = self.case;
        Script { request, headers, times: *times, answer: answer.as_deref() }.run(self.loaded, cut)
    }

    /// What to say of a chunking at which the answer is another one.
    fn other_answer(&self, chunking: &Chunking, seed: Option<u64>, whole: &Run) -> Option<String> {
        let run = self.run_cut(chunking, &whole.written);
        let (part, one, other) = whole.difference(&run)?;
        let cuts: Vec<String> = chunking.cuts.iter().map(ToString::to_string).collect();
        let end = if chunking.ends_empty { ", and the end with no text" } else { "" };
        let found = seed.map(|seed| format!(" Found with --seed {seed}.")).unwrap_or_default();
        let cuts = if cuts.is_empty() { String::new() } else { format!(" --cuts {}", cuts.join(",")) };
        let ends_empty = if chunking.ends_empty { " --ends-empty" } else { "" };
        let detail = match &run.sent.error {
            Some(error @ PipelineError::Fault { .. }) => format!("\n  {}", crate::answer::described(error)),
            _ => String::new(),
        };
        Some(format!(
            "another answer when it comes as {:?}{end}\n  {}{detail}\n  Repeat it with: {} --case {:?}{cuts}{ends_empty}.{found}",
            chunking.pieces(&whole.written),
            difference(part, &one, &other).replace('\n', "\n  "),
            self.repeat,
            self.case.name,
        ))
    }
}
