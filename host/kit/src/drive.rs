//! One request through the plugins, with a text for what the model answers.

use inference::{
    Call, ChatRequest, Finish, PipelineError, Prepared, Prompt, RequestId, Steer, Token, Usage, Vocabulary,
};
use plugin::FaultStatus;
use plugin::probe::{self, Probe, Used};

use crate::answer::Sent;
use crate::judge::{request_json, segment_lines};
use crate::stand::Loaded;
use crate::writer::Writer;

/// What becomes of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// What the policies made of it, and the prompt; `None` where it came to neither.
    pub(crate) prepared: Option<(ChatRequest, Prompt)>,
    /// What the model wrote.
    pub(crate) written: String,
    /// What the plugin that controls its tokens said of it; `None`: there is none.
    pub(crate) steps: Option<Vec<Steer>>,
    /// What was sent.
    pub(crate) sent: Sent,
    /// A fault behind the answer, in an audit: nobody but the log is told.
    pub(crate) late_fault: Option<FaultStatus>,
    /// What the plugin in question used; `None` where it broke its contract.
    pub(crate) used: Option<Used>,
}

/// What is sent, and what the model would like to answer.
pub(crate) struct Script<'a> {
    pub(crate) request: &'a ChatRequest,
    pub(crate) headers: &'a [(String, String)],
    /// The request is sent so often; all but the last answered in one piece.
    pub(crate) times: u32,
    /// `None`: it is not asked.
    pub(crate) answer: Option<&'a str>,
}

/// How an answer comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut<'a> {
    /// In one piece.
    Whole,
    /// In these.
    Pieces(&'a [&'a str]),
    /// In these, which are its beginning: it ends before its time.
    Short(&'a [&'a str]),
    /// In these, and in turns with another answer to the same request that is written likewise.
    Beside(&'a [&'a str]),
}

impl Run {
    /// Where two differ that must not, and how the two are there. Whether they were asked to stream may differ.
    pub(crate) fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        if let Some(part) = self.sent.difference(&other.sent) {
            return Some((part, self.sent.part(part), other.sent.part(part)));
        }
        if self.sent.error.is_some() {
            return None;
        }
        let (Some((request, prompt)), Some((other_request, other_prompt))) = (&self.prepared, &other.prepared) else {
            return None;
        };
        let request_of = |request: &ChatRequest| ChatRequest { streaming: false, ..request.clone() };
        if request_of(request) != request_of(other_request) {
            let shown = |request| serde_json::to_string_pretty(&request_json(&request_of(request))).unwrap_or_default();
            return Some(("request", shown(request), shown(other_request)));
        }
        if prompt != other_prompt {
            let shown = |prompt| segment_lines(prompt).map(|line| line + "\n").collect();
            return Some(("prompt", shown(prompt), shown(other_prompt)));
        }
        // One that was ended by a filter was not written to its end.
        let (one, two) = (&self.written, &other.written);
        let is_one = one.starts_with(two) || two.starts_with(one);
        (!is_one).then(|| ("what the model wrote under control", one.clone(), two.clone()))
    }
}

impl Script<'_> {
    /// Sends the request, the stores being empty at first.
    pub(crate) fn run(&self, loaded: &Loaded, cut: Cut<'_>) -> Run {
        probe::clear_stores(loaded.plugins());
        for _ in 1..self.times {
            drop(self.send(loaded, Cut::Whole));
        }
        self.send(loaded, cut)
    }

    fn send(&self, loaded: &Loaded, cut: Cut<'_>) -> Run {
        let mut run = Run::default();
        let call = Call {
            request_id: RequestId::new("test"),
            traceparent: None,
            model: self.request.model.clone(),
            headers: self.headers.to_vec(),
            choice: 0,
        };
        let Some(mut probe) = Probe::begin(loaded.plugins(), call) else {
            run.sent.error = Some(PipelineError::Overloaded);
            return run;
        };
        let faults = loaded.faults();
        let mut usage = Usage::default();
        if let Err(error) = self.answer(loaded, &mut probe, cut, &mut run, &mut usage) {
            run.sent.error = Some(error);
        }
        run.sent.notes = probe.notes();
        let used = probe.end(run.sent.finish(), usage);
        run.used = used.into_iter().find(|used| used.plugin == loaded.name());
        run.late_fault = if run.sent.error.is_none() { loaded.fault_since(faults) } else { None };
        run
    }

    /// As `server` does it: the request, the pieces, the end.
    fn answer(
        &self,
        loaded: &Loaded,
        probe: &mut Probe,
        cut: Cut<'_>,
        run: &mut Run,
        usage: &mut Usage,
    ) -> Result<(), PipelineError> {
        let Prepared { request, prompt, .. } = probe.prepare(self.request.clone())?;
        let vocabulary = loaded.model().vocabulary();
        let tokens_max = request.max_tokens;
        let prompt_tokens = prompt.tokenize(vocabulary);
        run.prepared = Some((request, prompt));
        // Without an answer there is none that ends.
        let Some(answer) = self.answer else { return Ok(()) };
        usage.prompt_tokens = count(prompt_tokens.len());
        let mut other = match cut {
            Cut::Beside(_) => Some(Beside::open(probe, &prompt_tokens, vocabulary, answer, tokens_max)?),
            _ => None,
        };
        let is_controlled = probe.control(&prompt_tokens)?;
        let mut writer = writer(vocabulary, answer, tokens_max, is_controlled);
        let written = write(&mut writer, probe, cut, other.as_mut(), &mut run.sent);
        // Nobody counts the pieces, and a byte is a token of the stand-in: so it is the same however the answer comes.
        usage.completion_tokens = count(match cut {
            Cut::Whole => writer.text.len(),
            Cut::Pieces(pieces) | Cut::Short(pieces) | Cut::Beside(pieces) => {
                pieces.iter().map(|piece| piece.len()).sum()
            }
        });
        run.written = writer.text;
        run.steps = is_controlled.then_some(writer.steps);
        written?;
        probe.finish(run.sent.finish(), *usage)?;
        Ok(())
    }
}

/// Another answer to the same request, which nobody looks at: what it leaves behind in the plugin shows in the one beside it.
struct Beside<'a> {
    writer: Writer<'a>,
    is_over: bool,
}

impl<'a> Beside<'a> {
    fn open(
        probe: &mut Probe,
        prompt: &[Token],
        vocabulary: &'a dyn Vocabulary,
        answer: &'a str,
        tokens_max: Option<u32>,
    ) -> Result<Self, PipelineError> {
        probe.turn_to(1);
        probe.open()?;
        let is_controlled = probe.control(prompt)?;
        probe.turn_to(0);
        Ok(Self { writer: writer(vocabulary, answer, tokens_max, is_controlled), is_over: false })
    }

    /// Writes as far as `end`, and shows it the piece that ends there.
    fn write(&mut self, probe: &mut Probe, start: usize, end: usize, last: bool) -> Result<(), PipelineError> {
        if self.is_over {
            return Ok(());
        }
        probe.turn_to(1);
        while self.writer.finish.is_none() && (self.writer.text.len() < end || last) {
            self.writer.go_on(|appended| probe.step(appended))?;
        }
        let end = if last { self.writer.text.len() } else { end };
        let piece = self.writer.text.get(start..end).unwrap_or_default().to_owned();
        let output = probe.push(piece, last)?;
        self.is_over = last || output.stop.is_some();
        if self.is_over {
            probe.finish(output.stop.unwrap_or(Finish::Stop), Usage::default())?;
        }
        probe.turn_to(0);
        Ok(())
    }
}

fn writer<'a>(
    vocabulary: &'a dyn Vocabulary,
    answer: &'a str,
    tokens_max: Option<u32>,
    is_controlled: bool,
) -> Writer<'a> {
    if is_controlled { Writer::new(vocabulary, answer, tokens_max) } else { Writer::done(vocabulary, answer) }
}

/// Writes the answer and shows it to the plugins, piece by piece; each piece as soon as it is written.
fn write(
    writer: &mut Writer<'_>,
    probe: &mut Probe,
    cut: Cut<'_>,
    mut other: Option<&mut Beside<'_>>,
    sent: &mut Sent,
) -> Result<(), PipelineError> {
    let (pieces, is_short) = match cut {
        Cut::Whole => (None, false),
        Cut::Pieces(pieces) | Cut::Beside(pieces) => (Some(pieces), false),
        Cut::Short(pieces) => (Some(pieces), true),
    };
    let mut shown = 0;
    for number in 0..pieces.map_or(1, <[&str]>::len) {
        let piece = pieces.map(|pieces| pieces[number]);
        let last = pieces.is_none_or(|pieces| number + 1 == pieces.len());
        let end = piece.map_or(usize::MAX, |piece| shown + piece.len());
        while writer.finish.is_none() && (writer.text.len() < end || (last && !is_short)) {
            writer.go_on(|appended| probe.step(appended))?;
        }
        let piece = piece.unwrap_or(&writer.text).to_owned();
        if let Some(other) = &mut other {
            other.write(probe, shown, shown + piece.len(), last)?;
        }
        shown += piece.len();
        sent.take(probe.push(piece, last)?);
        if sent.stop.is_some() {
            return Ok(());
        }
    }
    if writer.finish == Some(Finish::Length) && !is_short {
        sent.stop = writer.finish;
    }
    Ok(())
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use inference::Segment;

    use super::*;

    #[test]
    fn runs_differ_in_what_the_model_is_shown_too() {
        let request = crate::case::request_of("Hello!").expect("a request");
        let prompt = Prompt { segments: vec![Segment::Content("Hello!".to_owned())], ..Prompt::default() };
        let run = Run { prepared: Some((request.clone(), prompt.clone())), written: "ab".to_owned(), ..Run::default() };
        let part = |other: &Run| run.difference(other).map(|(part, ..)| part);
        let with = |request: ChatRequest, prompt: Prompt| Run { prepared: Some((request, prompt)), ..run.clone() };

        assert_eq!(part(&run), None);
        assert_eq!(part(&with(ChatRequest { streaming: true, ..request.clone() }, prompt.clone())), None);
        assert_eq!(part(&with(ChatRequest { max_tokens: Some(1), ..request.clone() }, prompt)), Some("request"));
        assert_eq!(part(&with(request, Prompt::default())), Some("prompt"));
        let written = |text: &str| Run { written: text.to_owned(), ..run.clone() };
        assert_eq!(part(&written("a")), None, "a filter ended it");
        assert_eq!(part(&written("ac")), Some("what the model wrote under control"));
        let sent = Sent { content: "a".to_owned(), ..Sent::default() };
        assert_eq!(part(&Run { sent, ..run.clone() }), Some("output"));
    }
}
