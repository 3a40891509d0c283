//! `outrigger run`: one answer on the terminal, by the same path that a request over HTTP takes.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::num::NonZeroU32;
use std::time::Instant;

use anyhow::Context as _;
use inference::{Call, ChatRequest, Delta, Message, Part, RequestId, Role, Sampling};
use server::{AnswerEvent, Finished, Service};

use crate::Failure;
use crate::cli::Run;
use crate::config::{ModelSettings, Settings};
use crate::console::{self, Stderr};
use crate::source::Source;
use crate::wiring;

/// Bytes of a prompt from standard input: what a request body may hold.
const PROMPT_BYTES_MAX: usize = server::limits::BODY_BYTES_MAX_DEFAULT;

pub(crate) fn run(arguments: Run) -> Result<(), Failure> {
    let Run { prompt, system, max_tokens, temperature, seed, mut settings } = arguments;
    // The answer and the log share a terminal: only what is wrong is worth a line there.
    settings.said.log.get_or_insert_with(|| "warn".to_owned());
    let settings = settings.resolve().map_err(Failure::usage)?;
    telemetry::logging::init(settings.log_format, &settings.log, Stderr::default)
        .map_err(|error| Failure::usage(error.into()))?;

    let model = settings.only_model().map_err(Failure::usage)?;
    let request = ChatRequest {
        operation: inference::Operation::Chat,
        model: model.id.clone(),
        messages: messages(system, read_prompt(prompt)?),
        tools: Vec::new(),
        tool_choice: inference::ToolChoice::Auto,
        parallel_tool_calls: true,
        sampling: Sampling { temperature: checked(temperature)?, seed, ..Sampling::default() },
        max_tokens,
        stop: Vec::new(),
        streaming: true,
        stop_tokens: Vec::new(),
        ignore_end: false,
        logprobs: None,
        format: None,
        template_arguments: "{}".to_owned(),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    Ok(runtime.block_on(answer(&settings, model, request))?)
}

async fn answer(settings: &Settings, model: &ModelSettings, request: ChatRequest) -> anyhow::Result<()> {
    let metrics = wiring::metrics();
    let service = Service::new(wiring::service_config(settings, model), metrics.clone());
    let located = Source::new(&model.reference, &settings.store)?.locate_shown().await?;
    let (serving, device) = wiring::load_chat(settings, model, &located, &metrics)?;
    service.computes_with(device);
    service.ready(serving);

    let call = Call {
        request_id: RequestId::new("run"),
        traceparent: None,
        model: model.id.clone(),
        headers: Vec::new(),
        choice: 0,
    };
    let started = Instant::now();
    let mut answer = service.chat(request, call, telemetry::Endpoint::Run, NonZeroU32::MIN).await?;
    while let Some(event) = answer.next().await {
        match event {
            Ok(AnswerEvent::Delta { delta: Delta::Content(text), .. }) => {
                // A reader that has seen enough wants no more of it; going away cancels the rest.
                if !console::write(&text)? {
                    return Ok(());
                }
            }
            // What the model thought is not its answer: shown to people, kept out of pipes.
            Ok(AnswerEvent::Delta { delta: Delta::Reasoning(text), .. }) => Stderr.write_all(text.as_bytes())?,
            Ok(AnswerEvent::Delta {
                delta: Delta::ToolCallStart { .. } | Delta::ToolArguments { .. } | Delta::ToolCallEnd { .. },
                ..
            }) => {}
            Ok(AnswerEvent::Finished(finished)) => {
                console::write("\n")?;
                report(&finished, started);
            }
            Err(error) => {
                console::write("\n")?;
                return Err(error).context("the answer broke off");
            }
        }
    }
    Ok(())
}

/// How fast it was, for people.
fn report(finished: &Finished, started: Instant) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let Finished { finish, timings, .. } = finished;
    let usage = finished.usage.unwrap_or_default();
    let rate = timings
        .filter(|timings| !timings.decode.is_zero() && usage.completion_tokens > 1)
        .map(|timings| f64::from(usage.completion_tokens - 1) / timings.decode.as_secs_f64());
    let _ = writeln!(
        Stderr,
        "\x1b[2m{} + {} tokens, {}{:.1} s, finished by {finish:?}\x1b[0m",
        usage.prompt_tokens,
        usage.completion_tokens,
        rate.map(|rate| format!("{rate:.0} tokens/s, ")).unwrap_or_default(),
        started.elapsed().as_secs_f64(),
    );
}

fn messages(system: Option<String>, prompt: String) -> Vec<Message> {
    let message = |role, text| Message { role, name: None, parts: vec![Part::Text(text)] };
    system.map(|text| message(Role::System, text)).into_iter().chain([message(Role::User, prompt)]).collect()
}

fn read_prompt(prompt: String) -> Result<String, Failure> {
    if prompt != "-" {
        return Ok(prompt);
    }
    let mut text = String::new();
    let limit = PROMPT_BYTES_MAX as u64 + 1;
    std::io::stdin().take(limit).read_to_string(&mut text).context("cannot read the prompt from standard input")?;
    if text.len() > PROMPT_BYTES_MAX {
        return Err(Failure::usage(anyhow::anyhow!("the prompt is longer than {PROMPT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn checked(temperature: Option<f32>) -> Result<f32, Failure> {
    let temperature = temperature.unwrap_or(Sampling::default().temperature);
    if (0.0..=2.0).contains(&temperature) {
        Ok(temperature)
    } else {
        Err(Failure::usage(anyhow::anyhow!("--temperature is {temperature}; 0 to 2 is possible")))
    }
}
