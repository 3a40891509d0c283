//! A pipeline of which everything is shown: the plugins' own, on the thread of who asks, telling what each stage is given and
//! says.

mod control;

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inference::{
    Annotations, Call, ChatRequest, ChosenToken, Finish, Output, Pipeline, PipelineError, PipelineRun, Prepared, Stage,
    Step, Token, TokenControl, Usage,
};
use plugin::probe::{Probe, Seen, Used};

use crate::answer::{Sent, finish_name};
use crate::judge::{request_json, segment_lines};
use crate::stand::Loaded;
use crate::writer::Writer;
use control::{Control, Steps};

/// Takes the lines that are told, as they come.
pub type Teller = Arc<dyn Fn(String) + Send + Sync>;

/// A loaded plugin, and all that is around it, told of as it works.
pub struct Watched {
    loaded: Arc<Loaded>,
    tell: Teller,
}

struct WatchedRun {
    request: Shared,
    /// Its place among the request's answers.
    place: usize,
    loaded: Arc<Loaded>,
    tell: Teller,
    /// What was sent so far.
    sent: Sent,
}

/// One request, which its answers share, and the steps of their tokens.
#[derive(Clone)]
struct Shared(Arc<Mutex<Request>>);

struct Request {
    /// `None`: there is no room, or it has ended.
    probe: Option<Probe>,
    answers: usize,
    /// How many of them have not ended.
    open: usize,
    /// The one that was told of last.
    told_of: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Request> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the plugins about the answer at `place`, and says which one it is where several take turns.
    fn ask<R>(
        &self,
        place: usize,
        tell: &Teller,
        ask: impl FnOnce(&mut Probe) -> Result<R, PipelineError>,
    ) -> Result<R, PipelineError> {
        let mut request = self.lock();
        if std::mem::replace(&mut request.told_of, place) != place {
            tell(format!("answer {place}"));
        }
        let probe = request.probe.as_mut().ok_or(PipelineError::Overloaded)?;
        probe.turn_to(place);
        ask(probe)
    }
}

impl Watched {
    /// Tells what `loaded` does.
    #[must_use]
    pub fn new(loaded: Loaded, tell: Teller) -> Self {
        Self { loaded: Arc::new(loaded), tell }
    }

    /// One request that is answered with this text, word by word; under control, with what is left of it then.
    pub fn play(&self, call: Call, request: ChatRequest, answer: &str) -> Result<(), PipelineError> {
        let mut run = self.run(call);
        let tokens_max = request.max_tokens;
        let Prepared { prompt, .. } = run.prepare_now(request)?;
        let vocabulary = self.loaded.model().vocabulary();
        let control = run.control_now(&prompt.tokenize(vocabulary))?;
        let mut writer = match &control {
            Some(_) => Writer::new(vocabulary, answer, tokens_max),
            None => Writer::done(vocabulary, answer),
        };
        let mut steps = control.map(Steps::new);
        let mut shown = 0;
        loop {
            let rest = &writer.text[shown..];
            let word = rest.find(' ').map_or(rest, |end| &rest[..=end]);
            let is_whole = word.ends_with(' ') || writer.finish.is_some();
            if !is_whole && let Some(steps) = &mut steps {
                writer.go_on(|appended| steps.step(appended))?;
                continue;
            }
            shown += word.len();
            let last = shown == writer.text.len() && writer.finish.is_some();
            let output = run.push_now(word.to_owned(), last)?;
            if last || output.stop.is_some() {
                let cut = writer.finish.filter(|finish| *finish == Finish::Length);
                run.sent.stop = run.sent.stop.or(cut);
                run.finish_now(run.sent.finish(), Usage::default())?;
                return Ok(());
            }
        }
    }

    fn run(&self, call: Call) -> WatchedRun {
        let mut probe = Probe::begin(self.loaded.plugins(), call);
        probe.iter_mut().for_each(Probe::watch);
        let request = Request { probe, answers: 1, open: 1, told_of: 0 };
        let (loaded, tell) = (Arc::clone(&self.loaded), Arc::clone(&self.tell));
        WatchedRun { request: Shared(Arc::new(Mutex::new(request))), place: 0, loaded, tell, sent: Sent::default() }
    }
}

impl Pipeline for Watched {
    fn begin(&self, call: Call) -> Box<dyn PipelineRun> {
        Box::new(self.run(call))
    }

    fn changes_text(&self) -> Option<(&str, Stage)> {
        self.loaded.plugins().changes_text()
    }
}

impl WatchedRun {
    fn prepare_now(&mut self, request: ChatRequest) -> Result<Prepared, PipelineError> {
        let asked = request_json(&request);
        (self.tell)("request".to_owned());
        self.tell_json(&asked);
        let prepared = self.with_probe(|probe| probe.prepare(request));
        let prepared = prepared.inspect_err(|error| self.tell_error(error))?;
        let left = request_json(&prepared.request);
        if left != asked {
            (self.tell)("request, as the policies left it".to_owned());
            self.tell_json(&left);
        }
        (self.tell)("prompt".to_owned());
        segment_lines(&prepared.prompt).for_each(|line| (self.tell)(format!("  {line}")));
        (self.tell)(if self.request.lock().answers > 1 { "answer 0" } else { "answer" }.to_owned());
        Ok(prepared)
    }

    fn another_now(&self) -> Self {
        let mut request = self.request.lock();
        let place = request.answers;
        request.answers += 1;
        request.open += 1;
        let (loaded, tell) = (Arc::clone(&self.loaded), Arc::clone(&self.tell));
        Self { request: self.request.clone(), place, loaded, tell, sent: Sent::default() }
    }

    fn open_now(&mut self) -> Result<bool, PipelineError> {
        self.with_probe(Probe::open).inspect_err(|error| self.tell_error(error))
    }

    fn push_now(&mut self, text: String, last: bool) -> Result<Output, PipelineError> {
        let end = if last { ", and no more" } else { "" };
        if !text.is_empty() || last {
            (self.tell)(format!("  model        {text:?}{end}"));
        }
        let output = self.with_probe(|probe| probe.push(text, last));
        let output = output.inspect_err(|error| self.tell_error(error))?;
        self.sent.take(output.clone());
        let mut sent = Sent::default();
        sent.take(output.clone());
        for (what, text) in [("reasoning", &sent.reasoning), ("sent", &sent.content)] {
            if !text.is_empty() {
                (self.tell)(format!("    {what:<11}{text:?}"));
            }
        }
        for call in sent.calls {
            (self.tell)(format!("    call       {}({})", call.name, call.arguments));
        }
        Ok(output)
    }

    fn finish_now(&mut self, finish: Finish, usage: Usage) -> Result<Annotations, PipelineError> {
        let faults = self.loaded.faults();
        let notes = self.request.ask(self.place, &self.tell, |probe| probe.finish(finish, usage));
        let mut request = self.request.lock();
        request.open -= 1;
        let ended = if request.open == 0 || notes.is_err() { request.probe.take() } else { None };
        drop(request);
        let used = ended.map(|probe| probe.end(finish, usage)).unwrap_or_default();
        (self.tell)("end".to_owned());
        (self.tell)(format!("  finish     {}", finish_name(finish)));
        let notes = notes.inspect_err(|error| self.tell_error(error))?;
        if let Some(fault) = self.loaded.fault_since(faults) {
            (self.tell)(format!(
                "  audit      failed, and nobody but the log is told ({}): {}",
                fault.kind, fault.detail
            ));
        }
        for (name, value) in &notes {
            (self.tell)(format!("  note       {name} = {value:?}"));
        }
        if let Some(Used { memory_bytes, held_bytes, host_calls, .. }) =
            used.iter().find(|it| it.plugin == self.loaded.name())
        {
            (self.tell)(format!(
                "  used       {memory_bytes} bytes of memory, held back {held_bytes} bytes, {host_calls} calls of the host"
            ));
        }
        Ok(notes)
    }

    fn tell_json(&self, value: &serde_json::Value) {
        let is_said = |value: &serde_json::Value| match value {
            serde_json::Value::Null => false,
            serde_json::Value::Array(list) => !list.is_empty(),
            serde_json::Value::Object(members) => !members.is_empty(),
            _ => true,
        };
        let members = value.as_object().into_iter().flatten().filter(|(_, value)| is_said(value));
        let said: serde_json::Map<_, _> = members.map(|(name, value)| (name.clone(), value.clone())).collect();
        let text = serde_json::to_string_pretty(&said).unwrap_or_default();
        text.lines().for_each(|line| (self.tell)(format!("  {line}")));
    }

    fn tell_error(&self, error: &PipelineError) {
        let heading = match error {
            PipelineError::Rejected { .. } => "rejected",
            PipelineError::Invalid { .. } => "invalid",
            _ => "failed",
        };
        (self.tell)(format!("{heading}\n  {}", crate::answer::described(error)));
    }

    /// Asks the plugins, and tells what they said.
    fn with_probe<R>(&self, ask: impl FnOnce(&mut Probe) -> Result<R, PipelineError>) -> Result<R, PipelineError> {
        let mut seen = Vec::new();
        let answer = self.request.ask(self.place, &self.tell, |probe| {
            let answer = ask(probe);
            seen = probe.take_seen();
            answer
        });
        seen.iter().flat_map(lines).for_each(|line| (self.tell)(line));
        answer
    }

    fn control_now(&mut self, prompt: &[Token]) -> Result<Option<Control>, PipelineError> {
        let is_controlled = self.with_probe(|probe| probe.control(prompt));
        let is_controlled = is_controlled.inspect_err(|error| self.tell_error(error))?;
        let (request, loaded, tell) = (self.request.clone(), Arc::clone(&self.loaded), Arc::clone(&self.tell));
        Ok(is_controlled.then_some(Control { request, place: self.place, loaded, tell }))
    }
}

/// What a stage said, for people. Every text of a guest is escaped.
fn lines(seen: &Seen) -> Vec<String> {
    let noted = |notes: &Annotations| {
        notes.iter().map(|(name, value)| format!(", notes {name} = {value:?}")).collect::<String>()
    };
    match seen {
        Seen::Judged { plugin, verdict, notes } => vec![format!("policy {plugin}\n  {verdict}{}", noted(notes))],
        Seen::Parsed { events, .. } if events.is_empty() => Vec::new(),
        Seen::Parsed { plugin, events, .. } => vec![format!("    parse {plugin}: {}", events.join(", "))],
        Seen::Filtered { plugin, channel, window, new_from, last, consumed, instead, stop, notes } => {
            let (old, new) = window.split_at(*new_from.min(&window.len()));
            let shown = if old.is_empty() { format!("{new:?}") } else { format!("{old:?} + {new:?}") };
            let held = window.len().saturating_sub(*consumed);
            let what = match instead {
                Some(text) => format!("puts {text:?} in place of {consumed} bytes"),
                None if held == 0 => "passes it".to_owned(),
                None => format!("passes {consumed} bytes"),
            };
            let held = if held > 0 && !last { format!(", holds back {held}") } else { String::new() };
            let stop = stop.map(|stop| format!(", ends the answer ({})", finish_name(stop))).unwrap_or_default();
            let channel = if *channel == "content" { String::new() } else { format!(" [{channel}]") };
            vec![format!("    {plugin}{channel}: {shown} → {what}{held}{stop}{}", noted(notes))]
        }
    }
}

impl PipelineRun for WatchedRun {
    fn prepare(&mut self, request: ChatRequest) -> Step<'_, Prepared> {
        Box::pin(ready(self.prepare_now(request)))
    }

    fn another(&mut self) -> Box<dyn PipelineRun> {
        Box::new(self.another_now())
    }

    fn open(&mut self) -> Step<'_, bool> {
        Box::pin(ready(self.open_now()))
    }

    fn control(&mut self, prompt: &[Token]) -> Step<'_, Option<TokenControl>> {
        Box::pin(ready(self.control_now(prompt).map(|control| control.map(TokenControl::new))))
    }

    fn used(&mut self, _usage: Usage) {}

    fn push(&mut self, text: String, _tokens: Vec<ChosenToken>, last: bool) -> Step<'_, Output> {
        Box::pin(ready(self.push_now(text, last)))
    }

    fn finish(&mut self, finish: Finish, usage: Usage) -> Step<'_, Annotations> {
        Box::pin(ready(self.finish_now(finish, usage)))
    }
}
