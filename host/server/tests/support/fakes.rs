//! An engine and a pipeline that follow a script and hold the server to the contract: a call out of order, a prompt that
//! does not fit or one generation too many is a panic, and with it a failed test.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inference::{
    Annotations, Call, ChatRequest, ChosenToken, Completion, Delta, Engine, EngineFault, Finish, Generation,
    GenerationEvent, GenerationRequest, ModelCard, Output, OutputFormat, Part, Pipeline, PipelineError, PipelineRun,
    Prepared, Progress, Prompt, Segment, SpecialTokens, Step, SubmitError, Timings, Token, TokenControl, TokenLogprob,
    TokenLogprobs, Usage, Vocabulary,
};
use tokio::sync::mpsc;

/// What a scripted generation does.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Piece(String),
    /// A piece of one token, with this log probability, and of two likeliest ones: itself and "other".
    Likely(String, f32),
    Wait(Duration),
    Fail(EngineFault),
    /// Goes on for ever without a word: a prefill without end.
    Hang,
    /// The engine dies without a last word.
    Vanish,
    End(Finish),
    /// The same, by the stop text at this place.
    EndAt(Finish, Option<usize>),
}

/// The pieces of an answer that ends by itself.
pub(crate) fn says(pieces: &[&str]) -> Vec<Act> {
    let pieces = pieces.iter().map(|piece| Act::Piece((*piece).to_owned()));
    pieces.chain([Act::End(Finish::Stop)]).collect()
}

pub(crate) struct FakeEngine {
    card: ModelCard,
    pub(crate) vocabulary: Arc<dyn Vocabulary>,
    script: Vec<Act>,
    max_concurrency: usize,
    live: Arc<AtomicUsize>,
    /// Every request that was taken, for tests to look at.
    pub(crate) taken: Mutex<Vec<GenerationRequest>>,
    /// How it says that it gets on.
    pub(crate) progress: Mutex<Progress>,
}

pub(crate) const CONTEXT_LENGTH: u32 = 512;

impl FakeEngine {
    pub(crate) fn new(max_concurrency: usize, script: Vec<Act>) -> Arc<Self> {
        Self::named("fake/model", max_concurrency, script)
    }

    pub(crate) fn named(id: &str, max_concurrency: usize, script: Vec<Act>) -> Arc<Self> {
        let card = ModelCard {
            id: id.to_owned(),
            revision: "0123abcd".to_owned(),
            architecture: "fake".to_owned(),
            context_length: CONTEXT_LENGTH,
            context_length_trained: 2048,
            chat_template: None,
            bos_text: String::new(),
            eos_text: String::new(),
            size_bytes: 1000,
            created: 1_700_000_000,
        };
        let live = Arc::new(AtomicUsize::new(0));
        let (vocabulary, taken) = (Arc::new(Bytes), Mutex::new(Vec::new()));
        let progress = Mutex::new(Progress::Idle);
        Arc::new(Self { card, vocabulary, script, max_concurrency, live, taken, progress })
    }

    /// Generations that were neither finished nor dropped.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }
}

impl Engine for FakeEngine {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn vocabulary(&self) -> &Arc<dyn Vocabulary> {
        &self.vocabulary
    }

    fn submit(&self, request: GenerationRequest) -> Result<Generation, SubmitError> {
        if request.prompt.is_empty() {
            return Err(SubmitError::PromptEmpty);
        }
        let prompt_tokens = u32::try_from(request.prompt.len()).expect("tests are small");
        assert!(request.max_tokens >= 1, "a completion has at least one token");
        assert!(prompt_tokens + request.max_tokens <= CONTEXT_LENGTH, "prompt and completion fit the context");
        let live = self.live.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(live <= self.max_concurrency, "{live} generations at once, {} allowed", self.max_concurrency);
        self.taken.lock().expect("no test panicked").push(request);

        let (sender, events) = mpsc::channel(8);
        let (script, live) = (self.script.clone(), Arc::clone(&self.live));
        tokio::spawn(async move {
            play(script, prompt_tokens, &sender).await;
            live.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Generation::new(events))
    }

    fn progress(&self) -> Progress {
        *self.progress.lock().expect("no test panicked")
    }
}

async fn play(script: Vec<Act>, prompt_tokens: u32, events: &mpsc::Sender<GenerationEvent>) {
    let mut completion_tokens = 0;
    for act in script {
        let event = match act {
            Act::Piece(text) => {
                completion_tokens += 1;
                GenerationEvent::Piece { text, completion_tokens, logprobs: Vec::new() }
            }
            Act::Likely(text, logprob) => {
                completion_tokens += 1;
                let sampled = TokenLogprob { bytes: text.clone().into_bytes(), logprob };
                let other = TokenLogprob { bytes: b"other".to_vec(), logprob: logprob - 1.0 };
                let logprobs = vec![TokenLogprobs { token: Token(7), top: vec![sampled.clone(), other], sampled }];
                GenerationEvent::Piece { text, completion_tokens, logprobs }
            }
            Act::Wait(time) => {
                tokio::select! {
                    () = tokio::time::sleep(time) => continue,
                    () = events.closed() => return,
                }
            }
            Act::Hang => return events.closed().await,
            Act::Vanish => return,
            Act::Fail(fault) => GenerationEvent::Failed(fault),
            Act::End(finish) => end(finish, None, prompt_tokens, completion_tokens),
            Act::EndAt(finish, stop_text) => end(finish, stop_text, prompt_tokens, completion_tokens),
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

fn end(finish: Finish, stop_text: Option<usize>, prompt_tokens: u32, completion_tokens: u32) -> GenerationEvent {
    GenerationEvent::Finished(Completion {
        finish,
        stop_text,
        // The token that ended it was sampled too.
        usage: Usage { prompt_tokens, completion_tokens: completion_tokens + 1, cached_tokens: 0 },
        timings: Timings {
            queued: Duration::from_millis(1),
            prefill: Duration::from_millis(2),
            decode: Duration::from_millis(3),
        },
    })
}

/// One token per byte.
pub(crate) struct Bytes;

impl Vocabulary for Bytes {
    fn size(&self) -> u32 {
        256
    }
    fn tokenize(&self, text: &str, _special: SpecialTokens) -> Vec<Token> {
        text.bytes().map(|byte| Token(u32::from(byte))).collect()
    }
    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        bytes.extend(u8::try_from(token.0));
    }
    fn find_control_token(&self, _text: &str) -> Option<(Range<usize>, Token)> {
        None
    }
    fn prompt_start(&self) -> Option<Token> {
        None
    }
    fn beginning_of_sequence(&self) -> Option<Token> {
        None
    }
    fn ends_generation(&self, _token: Token) -> bool {
        false
    }
}

/// What a scripted pipeline does to requests and answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakePipeline {
    /// The model that it is there for, where that is not the usual one.
    pub(crate) model: Option<&'static str>,
    /// Every request that came to `prepare`, for tests to look at.
    pub(crate) asked: Arc<Mutex<Vec<ChatRequest>>>,
    /// The prompt, whatever is asked.
    pub(crate) renders: Option<Vec<Segment>>,
    /// `prepare` fails like this.
    pub(crate) refuses: Option<PipelineError>,
    /// The push that completes this text fails like this.
    pub(crate) breaks_at: Option<(String, PipelineError)>,
    /// The text before this is the end of the answer.
    pub(crate) stops_at: Option<(String, Finish)>,
    /// Every occurrence is replaced, across pieces; what may become one is held back.
    pub(crate) replaces: Option<(String, String)>,
    /// Text up to this is reasoning.
    pub(crate) thinks_until: Option<String>,
    /// Emits a tool call when the answer ends.
    pub(crate) calls_tool: bool,
    /// With these arguments, in two pieces.
    pub(crate) arguments: Option<[&'static str; 2]>,
    /// Comes behind everything else, as it is.
    pub(crate) at_end: Vec<Delta>,
    /// The answer ends inside that call.
    pub(crate) cuts_call: bool,
    pub(crate) annotations: Annotations,
    /// The plugin that says it changes the text.
    pub(crate) changes_text: Option<&'static str>,
    /// Whether a filter wants to see tokens, and those that it was shown.
    pub(crate) wants_tokens: bool,
    /// See `wants_tokens`.
    pub(crate) tokens: Arc<Mutex<Vec<ChosenToken>>>,
    /// The form that the prompt asks for.
    pub(crate) format: Option<OutputFormat>,
    /// What the plugins were last told that a request has used.
    pub(crate) used: Arc<Mutex<Usage>>,
    /// What the plugins were told at the end of each run.
    pub(crate) ends: Arc<Mutex<Vec<(Finish, Usage)>>>,
}

impl Pipeline for FakePipeline {
    fn begin(&self, call: Call) -> Box<dyn PipelineRun> {
        assert_eq!(call.model, self.model.unwrap_or("fake/model"), "the service says which model answers");
        Box::new(FakeRun::new(self.clone(), Stage::Begun))
    }

    fn changes_text(&self) -> Option<(&str, inference::Stage)> {
        self.changes_text.map(|plugin| (plugin, inference::Stage::Postprocess))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begun,
    /// Another choice of a request that somebody else prepares.
    Beside,
    Prepared,
    Ended,
    Finished,
}

struct FakeRun {
    pipeline: FakePipeline,
    stage: Stage,
    held: String,
    is_thinking: bool,
}

impl FakeRun {
    fn new(pipeline: FakePipeline, stage: Stage) -> Self {
        Self { pipeline, stage, held: String::new(), is_thinking: true }
    }
}

impl PipelineRun for FakeRun {
    fn another(&mut self) -> Box<dyn PipelineRun> {
        assert_eq!(self.stage, Stage::Begun, "the others are made before the request is prepared");
        Box::new(Self::new(self.pipeline.clone(), Stage::Beside))
    }

    fn open(&mut self) -> Step<'_, bool> {
        Box::pin(async move {
            assert_eq!(self.stage, Stage::Beside, "open stands for prepare, once");
            self.stage = Stage::Prepared;
            Ok(self.pipeline.wants_tokens)
        })
    }

    fn prepare(&mut self, request: ChatRequest) -> Step<'_, Prepared> {
        Box::pin(async move {
            assert_eq!(self.stage, Stage::Begun, "prepare comes first, once");
            self.stage = Stage::Prepared;
            tokio::task::yield_now().await;
            self.pipeline.asked.lock().expect("no test panicked").push(request.clone());
            if let Some(error) = self.pipeline.refuses.clone() {
                self.stage = Stage::Finished;
                return Err(error);
            }
            let segments = request.messages.iter().flat_map(|message| &message.parts).map(|part| match part {
                Part::Text(text) => Segment::Content(text.clone()),
                Part::ToolCall(call) => Segment::Content(call.arguments_json.clone()),
                Part::ToolResult(result) => Segment::Content(result.content.clone()),
            });
            let prompt = Prompt {
                segments: self.pipeline.renders.clone().unwrap_or_else(|| segments.collect()),
                stop: vec!["<template stop>".to_owned()],
                prefix: String::new(),
                format: self.pipeline.format.clone(),
                marks: Vec::new(),
            };
            Ok(Prepared { request, prompt, wants_tokens: self.pipeline.wants_tokens })
        })
    }

    fn control(&mut self, prompt: &[Token]) -> Step<'_, Option<TokenControl>> {
        assert_eq!(self.stage, Stage::Prepared, "control comes after prepare");
        assert!(!prompt.is_empty(), "there is a prompt by then");
        Box::pin(async { Ok(None) })
    }

    fn push(&mut self, text: String, tokens: Vec<ChosenToken>, last: bool) -> Step<'_, Output> {
        Box::pin(async move {
            assert!(self.pipeline.wants_tokens || tokens.is_empty(), "tokens are told to those who want them");
            self.pipeline.tokens.lock().expect("no test panicked").extend(tokens);
            assert_eq!(self.stage, Stage::Prepared, "pushes come between prepare and finish, the last one last");
            assert!(last || !text.is_empty(), "only the last push may be empty");
            tokio::task::yield_now().await;
            self.held.push_str(&text);
            if last {
                self.stage = Stage::Ended;
            }
            if let Some((at, error)) = self.pipeline.breaks_at.clone()
                && self.held.contains(&at)
            {
                self.stage = Stage::Finished;
                return Err(error);
            }
            if let Some((at, finish)) = self.pipeline.stops_at.clone()
                && let Some(place) = self.held.find(&at)
            {
                self.stage = Stage::Ended;
                self.held.truncate(place);
                let text = std::mem::take(&mut self.held);
                return Ok(Output { deltas: self.deltas(&text), stop: Some(finish), ..Output::default() });
            }
            let text = self.take_final(last);
            let mut deltas = self.deltas(&text);
            if last && self.pipeline.calls_tool {
                let (id, name) = ("call_1".to_owned(), "weather".to_owned());
                deltas.push(Delta::ToolCallStart { index: 0, id, name, overtakes_text: false });
                for text in self.pipeline.arguments.unwrap_or(["{\"city\":", "\"Bonn\"}"]) {
                    deltas.push(Delta::ToolArguments { index: 0, text: text.to_owned() });
                }
                if !self.pipeline.cuts_call {
                    deltas.push(Delta::ToolCallEnd { index: 0 });
                }
            }
            if last {
                deltas.extend(self.pipeline.at_end.clone());
            }
            Ok(Output { deltas, cuts_call: last && self.pipeline.cuts_call, ..Output::default() })
        })
    }

    fn used(&mut self, usage: Usage) {
        *self.pipeline.used.lock().expect("no test panicked") = usage;
    }

    fn finish(&mut self, finish: Finish, usage: Usage) -> Step<'_, Annotations> {
        Box::pin(async move {
            assert_ne!(self.stage, Stage::Finished, "finish comes once, and not after an error");
            self.stage = Stage::Finished;
            tokio::task::yield_now().await;
            self.pipeline.ends.lock().expect("no test panicked").push((finish, usage));
            Ok(self.pipeline.annotations.clone())
        })
    }
}

impl FakeRun {
    /// What of the held text is final: all of it at the end, else all but what a pattern may still begin in.
    fn take_final(&mut self, last: bool) -> String {
        if let Some((from, to)) = &self.pipeline.replaces {
            self.held = self.held.replace(from, to);
        }
        let patterns = [
            self.pipeline.replaces.as_ref().map(|(from, _)| from),
            self.pipeline.stops_at.as_ref().map(|(at, _)| at),
            self.pipeline.thinks_until.as_ref(),
        ];
        let longest = |pattern: &String| {
            (1..pattern.len())
                .rev()
                .find(|&length| pattern.get(..length).is_some_and(|start| self.held.ends_with(start)))
                .unwrap_or(0)
        };
        let kept = if last { 0 } else { patterns.into_iter().flatten().map(longest).max().unwrap_or(0) };
        let rest = self.held.split_off(self.held.len() - kept);
        std::mem::replace(&mut self.held, rest)
    }

    fn deltas(&mut self, text: &str) -> Vec<Delta> {
        let mut deltas = Vec::new();
        let mut add = |is_reasoning: bool, text: &str| {
            if !text.is_empty() {
                let text = text.to_owned();
                deltas.push(if is_reasoning { Delta::Reasoning(text) } else { Delta::Content(text) });
            }
        };
        match &self.pipeline.thinks_until {
            Some(end) if self.is_thinking => match text.split_once(end) {
                Some((thought, said)) => {
                    self.is_thinking = false;
                    add(true, thought);
                    add(false, said);
                }
                None => add(true, text),
            },
            _ => add(false, text),
        }
        deltas
    }
}
