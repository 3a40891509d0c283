//! A pipeline of which everything is shown: the plugins' own, on the thread of who asks, telling what each stage is given and says.

use std::future::ready;
use std::sync::Arc;

use inference::{
    Annotations, Call, ChatRequest, ChosenToken, Finish, Output, Pipeline, PipelineError, PipelineRun, Prepared, Stage,
    Step, Token, TokenControl, Usage,
};
use plugin::probe::{Probe, Seen, Used};

use crate::answer::{Sent, finish_name};
use crate::judge::{request_json, segment_lines};
use crate::stand::Loaded;

/// Takes the lines that are told, as they come.
pub type Teller = Arc<dyn Fn(String) + Send + Sync>;

/// A loaded plugin, and all that is around it, told of as it works.
pub struct Watched {
    loaded: Loaded,
    tell: Teller,
}

struct WatchedRun {
    /// `None`: there is no room, or it has ended.
    probe: Option<Probe>,
    plugin: String,
    /// The plugin that controls tokens.
    controller: Option<String>,
    tell: Teller,
}

impl Watched {
    /// Tells what `loaded` does.
    #[must_use]
    pub fn new(loaded: Loaded, tell: Teller) -> Self {
        Self { loaded, tell }
    }
}

impl Pipeline for Watched {
    fn begin(&self, call: Call) -> Box<dyn PipelineRun> {
        let mut probe = Probe::begin(self.loaded.plugins(), call);
        probe.iter_mut().for_each(Probe::watch);
        let controller = self.loaded.plugins().controller().map(str::to_owned);
        Box::new(WatchedRun { probe, plugin: self.loaded.name().to_owned(), controller, tell: Arc::clone(&self.tell) })
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
        let probe = self.probe.as_mut().ok_or(PipelineError::Overloaded)?;
        let prepared = probe.prepare(request);
        self.tell_seen();
        let prepared = prepared.inspect_err(|error| self.tell_error(error))?;
        let left = request_json(&prepared.request);
        if left != asked {
            (self.tell)("request, as the policies left it".to_owned());
            self.tell_json(&left);
        }
        (self.tell)("prompt".to_owned());
        segment_lines(&prepared.prompt).for_each(|line| (self.tell)(format!("  {line}")));
        (self.tell)("answer".to_owned());
        Ok(prepared)
    }

    fn push_now(&mut self, text: String, last: bool) -> Result<Output, PipelineError> {
        let end = if last { ", and no more" } else { "" };
        if !text.is_empty() || last {
            (self.tell)(format!("  model        {text:?}{end}"));
        }
        let probe = self.probe.as_mut().ok_or(PipelineError::Overloaded)?;
        let output = probe.push(text, last);
        self.tell_seen();
        let output = output.inspect_err(|error| self.tell_error(error))?;
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
        let mut probe = self.probe.take().ok_or(PipelineError::Overloaded)?;
        let notes = probe.finish(finish, usage);
        let used = probe.end(finish, usage);
        (self.tell)("end".to_owned());
        (self.tell)(format!("  finish     {}", finish_name(finish)));
        let notes = notes.inspect_err(|error| self.tell_error(error))?;
        for (name, value) in &notes {
            (self.tell)(format!("  note       {name} = {value:?}"));
        }
        if let Some(Used { memory_bytes, held_bytes, host_calls, .. }) = used.iter().find(|it| it.plugin == self.plugin)
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
        (self.tell)(format!("failed\n  {}", crate::answer::described(error)));
    }

    fn tell_seen(&mut self) {
        for seen in self.probe.as_mut().map(Probe::take_seen).unwrap_or_default() {
            for line in lines(&seen) {
                (self.tell)(line);
            }
        }
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

    /// The one stage that is not shown: it is asked between the engine's steps, and here everything is done on one thread.
    fn control(&mut self, _prompt: &[Token]) -> Step<'_, Option<TokenControl>> {
        if let Some(plugin) = &self.controller {
            (self.tell)(format!(
                "token-control {plugin}\n  not asked here, so the answer is what the model makes of it alone; `outrigger plugin \
                 dev` serves it whole"
            ));
        }
        Box::pin(ready(Ok(None)))
    }

    fn used(&mut self, _usage: Usage) {}

    fn push(&mut self, text: String, _tokens: Vec<ChosenToken>, last: bool) -> Step<'_, Output> {
        Box::pin(ready(self.push_now(text, last)))
    }

    fn finish(&mut self, finish: Finish, usage: Usage) -> Step<'_, Annotations> {
        Box::pin(ready(self.finish_now(finish, usage)))
    }
}
