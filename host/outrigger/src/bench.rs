//! `outrigger bench`: what this machine makes of a model, by the path that requests take: plugins, scheduler, llama.cpp.

mod report;

use std::io::IsTerminal as _;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use inference::{Call, ChatRequest, Message, RequestId, Role, Sampling, Timings, Usage};
use model::gguf;
use server::{AnswerEvent, Service};
use tokio::task::JoinSet;

use crate::Failure;
use crate::cli::Bench;
use crate::config::{ContextLength, ModelSettings, Settings};
use crate::console::{self, Stderr};
use crate::source::{Located, Source};
use crate::wiring;

use report::{PromptFigures, Report, StreamFigures};

/// Tokens that the chat template and our own words may add to a prompt of a wanted length.
const TOKENS_SPARE: u32 = 128;
/// Tokens of a prompt of no words: what a usual template writes around it, and our own sentence.
const TEMPLATE_TOKENS: u32 = 20;
/// Prompt tokens of streams that run side by side.
const STREAM_PROMPT_TOKENS: u32 = 32;
/// One token each in most vocabularies, with the space before it.
const WORDS: [&str; 16] = [
    "time", "people", "water", "house", "river", "light", "world", "story", "hand", "night", "music", "tree", "city",
    "road", "book", "stone",
];

pub(crate) fn bench(arguments: Bench) -> Result<(), Failure> {
    let Bench { prompt_tokens, streams, answer_tokens, rounds, json, mut settings } = arguments;
    // Nothing but the figures and what is wrong.
    settings.said.log.get_or_insert_with(|| "warn".to_owned());
    let settings = settings.resolve().map_err(Failure::usage)?;
    settings.only_model().map_err(Failure::usage)?;
    telemetry::logging::init(settings.log_format, &settings.log, Stderr::default)
        .map_err(|error| Failure::usage(error.into()))?;
    let plan = Plan { prompt_tokens, streams, answer_tokens, rounds };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let report = runtime.block_on(measure(&settings, plan))?;
    if json { console::print(std::iter::once(report.json().to_string())) } else { console::print(report.lines()) }
}

/// What is measured.
struct Plan {
    prompt_tokens: Vec<u32>,
    streams: Vec<u32>,
    answer_tokens: u32,
    rounds: u32,
}

/// A loaded model, and how many questions it was asked: no two begin alike, as what is computed already is not measured.
struct Subject {
    service: Arc<Service>,
    model_id: String,
    asked: u32,
}

/// What one answer was like for who reads it.
struct Measured {
    first_text: Duration,
    usage: Usage,
    timings: Timings,
    /// The longest silence after the first text.
    gap_max: Duration,
}

async fn measure(settings: &Settings, mut plan: Plan) -> anyhow::Result<Report> {
    let mut model = settings.only_model()?.clone();
    let located = Source::new(&model.reference, &settings.store)?.locate_shown().await?;
    let left_out = make_room(&mut model, &mut plan, &located)?;
    let metrics = wiring::metrics();
    let service = Service::new(wiring::service_config(settings, &model), metrics.clone());
    let started = Instant::now();
    let (serving, device) = wiring::load_chat(settings, &model, &located, &metrics)?;
    service.ready(serving);
    let loading = started.elapsed();
    let (card, _) = service.model().context("the model is loaded and not there")?;
    let mut subject = Subject { service: Arc::new(service), model_id: model.id.clone(), asked: 0 };

    let steps = (plan.prompt_tokens.len() + plan.streams.len()) as u64 * u64::from(plan.rounds);
    let bar = progress_bar(steps);
    subject.ask(STREAM_PROMPT_TOKENS, 8).await?;
    let mut prompts = Vec::new();
    for &tokens in &plan.prompt_tokens {
        let mut answers = Vec::new();
        for _ in 0..plan.rounds {
            bar.set_message(format!("prompt of {tokens} tokens"));
            answers.push(subject.ask(tokens, plan.answer_tokens).await?);
            bar.inc(1);
        }
        prompts.push(PromptFigures::of(&answers));
    }
    let mut streams = Vec::new();
    for &count in &plan.streams {
        let mut rounds = Vec::new();
        for _ in 0..plan.rounds {
            bar.set_message(format!("{count} streams"));
            rounds.push(subject.ask_together(count, plan.answer_tokens).await?);
            bar.inc(1);
        }
        streams.push(StreamFigures::of(count, &rounds));
    }
    bar.finish_and_clear();
    Ok(Report {
        card,
        device,
        loading,
        answer_tokens: plan.answer_tokens,
        rounds: plan.rounds,
        prompts,
        streams,
        left_out,
    })
}

/// As many slots as streams, a context that is not longer than what is asked, and no memory of earlier prompts. Returns the
/// lengths of prompts that the model's context does not hold.
fn make_room(settings: &mut ModelSettings, plan: &mut Plan, located: &Located) -> anyhow::Result<Vec<u32>> {
    let header = gguf::Model::open(&located.path)
        .with_context(|| format!("cannot use the model {}", located.path.display()))?
        .header;
    let slots = plan.streams.iter().copied().max().unwrap_or(1);
    settings.max_concurrency = NonZeroUsize::new(slots as usize).unwrap_or(NonZeroUsize::MIN);
    settings.prefix_cache_bytes = Some(0);
    settings.warm_prompts.clear();
    let room = plan.answer_tokens.saturating_add(TOKENS_SPARE);
    let wanted = plan.prompt_tokens.iter().copied().max().unwrap_or(0).max(STREAM_PROMPT_TOKENS).saturating_add(room);
    let trained = header.context_length().and_then(|length| u32::try_from(length).ok()).unwrap_or(u32::MAX);
    let context_length = match settings.context_length {
        Some(ContextLength::Tokens(tokens)) => tokens,
        Some(ContextLength::Auto) | None => wanted.min(trained),
    };
    settings.context_length = Some(ContextLength::Tokens(context_length));
    ensure!(
        STREAM_PROMPT_TOKENS.saturating_add(room) <= context_length,
        "an answer of {} tokens does not fit a context of {context_length}; ask for fewer (--answer-tokens)",
        plan.answer_tokens
    );
    let does_fit = |tokens: &u32| tokens.saturating_add(room) <= context_length;
    let (fits, left_out) = plan.prompt_tokens.iter().partition(|tokens| does_fit(tokens));
    plan.prompt_tokens = fits;
    Ok(left_out)
}

impl Subject {
    /// Asks for a long answer to a prompt of about so many tokens.
    fn ask(
        &mut self,
        prompt_tokens: u32,
        answer_tokens: u32,
    ) -> impl Future<Output = anyhow::Result<Measured>> + Send + 'static {
        self.asked += 1;
        let number = self.asked;
        let words = (0..prompt_tokens.saturating_sub(TEMPLATE_TOKENS)).map(|place| WORDS[(place as usize * 7) % 16]);
        let text = format!("{number} {}. Tell a very long story.", words.collect::<Vec<_>>().join(" "));
        let request = ChatRequest {
            max_tokens: Some(answer_tokens),
            ignore_end: true,
            streaming: true,
            sampling: Sampling { seed: Some(number.into()), ..Sampling::default() },
            ..ChatRequest::new(self.model_id.clone(), vec![Message::text(Role::User, text)])
        };
        let call = Call {
            request_id: RequestId::new(format!("bench-{number}")),
            traceparent: None,
            model: self.model_id.clone(),
            headers: Vec::new(),
            choice: 0,
        };
        answered(Arc::clone(&self.service), request, call)
    }

    /// Asks for several answers at once; they, and how long it took until the last was whole.
    async fn ask_together(&mut self, count: u32, answer_tokens: u32) -> anyhow::Result<(Vec<Measured>, Duration)> {
        let started = Instant::now();
        let mut asked = JoinSet::new();
        for _ in 0..count {
            asked.spawn(self.ask(STREAM_PROMPT_TOKENS, answer_tokens));
        }
        let answers = asked.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;
        Ok((answers, started.elapsed()))
    }
}

async fn answered(service: Arc<Service>, request: ChatRequest, call: Call) -> anyhow::Result<Measured> {
    let started = Instant::now();
    let mut answer = service.chat(request, call, telemetry::Endpoint::Run, NonZeroU32::MIN).await?;
    let (mut first_text, mut last, mut gap_max) = (None, started, Duration::ZERO);
    while let Some(event) = answer.next().await {
        let now = Instant::now();
        match event.context("the answer broke off")? {
            AnswerEvent::Delta { .. } if first_text.is_none() => first_text = Some(now - started),
            AnswerEvent::Delta { .. } => gap_max = gap_max.max(now - last),
            AnswerEvent::Finished(finished) => {
                return Ok(Measured {
                    first_text: first_text.context("the model answered nothing")?,
                    usage: finished.usage.unwrap_or_default(),
                    timings: finished.timings.context("a plugin ended the answer; leave it out (--plugin=)")?,
                    gap_max,
                });
            }
        }
        last = now;
    }
    anyhow::bail!("the answer ended without a last word")
}

fn progress_bar(steps: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:16} {pos}/{len}  {wide_msg}");
    let bar = console::bars().add(ProgressBar::new(steps));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
