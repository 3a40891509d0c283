//! The exports: where the contract's calls reach the plain Rust of this crate.
#![expect(unsafe_code, reason = "generated: the canonical ABI is made of raw pointers")]
#![expect(clippy::same_length_and_capacity, reason = "generated: how the canonical ABI hands over lists")]

use std::cell::{OnceCell, RefCell};

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package outrigger:chat-template;
        world plugin {
            import outrigger:plugin/model@0.1.0;
            import outrigger:plugin/log@0.1.0;
            import outrigger:plugin/config@0.1.0;
            import outrigger:plugin/clock@0.1.0;
            export outrigger:plugin/lifecycle@0.1.0;
            export outrigger:plugin/prompt@0.1.0;
            export outrigger:plugin/parse@0.1.0;
        }
    ",
    with: {
        "outrigger:plugin/types@0.1.0": outrigger_plugin::types,
        "outrigger:plugin/model@0.1.0": outrigger_plugin::model,
        "outrigger:plugin/log@0.1.0": outrigger_plugin::log,
        "outrigger:plugin/config@0.1.0": outrigger_plugin::config,
        "outrigger:plugin/clock@0.1.0": outrigger_plugin::clock,
    },
});

use exports::outrigger::plugin::{lifecycle, parse, prompt};
use outrigger_plugin::types::{Call, Error, Grammar, Message, Tool};
use outrigger_plugin::{clock, log, model};

use crate::{Choice, Config, Conversation, Event, ModelFacts, Parser, Reading, Segment, Template, Vocabulary, render};

/// One instance serves one request.
struct Plugin;

thread_local! {
    static CONFIG: OnceCell<Config> = const { OnceCell::new() };
    /// How the answer to the prompt that was rendered here is to be read.
    static READING: RefCell<Option<Reading>> = const { RefCell::new(None) };
}

fn with_config<T>(work: impl FnOnce(&Config) -> Result<T, Error>) -> Result<T, Error> {
    CONFIG.with(|config| match config.get() {
        Some(config) => work(config),
        None => Err(Error::Internal("a stage was called before `init`".to_owned())),
    })
}

impl lifecycle::Guest for Plugin {
    fn init() -> Result<lifecycle::Identity, Error> {
        let config: Config = outrigger_plugin::start()?;
        config.check()?;
        CONFIG.with(|cell| cell.set(config)).map_err(|_| Error::Internal("`init` was called twice".to_owned()))?;
        Ok(lifecycle::Identity {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

impl prompt::Guest for Plugin {
    fn render(messages: Vec<Message>, opts: prompt::Options, _call: Call) -> Result<prompt::Rendered, Error> {
        let described = model::describe();
        let facts = ModelFacts {
            id: described.id,
            template: model::chat_template(),
            bos_text: described.bos_text,
            eos_text: described.eos_text,
        };
        let conversation = Conversation {
            messages,
            tools: opts.tools,
            tool_choice: match opts.tool_choice {
                prompt::ToolChoice::Auto => Choice::Auto,
                prompt::ToolChoice::Required => Choice::Required,
                prompt::ToolChoice::Named(name) => Choice::Named(name),
            },
            single_call: !opts.parallel_tool_calls,
            add_generation_prompt: opts.add_generation_prompt,
            arguments_json: opts.kwargs_json,
            unix_seconds: clock::unix_seconds(),
        };
        let vocabulary = Vocabulary { control_tokens: &model::control_tokens, token: &control_token };
        let rendered = with_config(|config| render(config, &facts, &conversation, &vocabulary))?;
        READING.with(|reading| reading.replace(Some(rendered.reading)));
        if rendered.template == Template::Fallback {
            log::log(
                log::Level::Warn,
                "the model has no chat template: its prompts are written as ChatML, which it may not know; set \
                 `template` or `fallback` in the plugin's config",
                &[("model".to_owned(), facts.id)],
            );
        }
        Ok(prompt::Rendered {
            segments: rendered.segments.into_iter().map(segment).collect(),
            stop: rendered.stop,
            grammar: rendered.grammar.map(Grammar::Lark),
            prefix: rendered.prefix,
            marks: rendered.marks,
        })
    }
}

fn segment(segment: Segment) -> prompt::Segment {
    match segment {
        Segment::Template(text) => prompt::Segment::Template(text),
        Segment::Content(text) => prompt::Segment::Content(text),
    }
}

impl parse::Guest for Plugin {
    type Parser = RefCell<Parser>;
}

/// The number of the control token that is spelled `text`.
fn control_token(text: &str) -> Option<u32> {
    match model::control_tokens(text)[..] {
        [model::Span { start: 0, end }] if end as usize == text.len() => match model::tokenize(text, true)[..] {
            [token] => Some(token),
            _ => None,
        },
        _ => None,
    }
}

impl parse::GuestParser for RefCell<Parser> {
    fn open(_call: Call, _choice: u32, tools: Vec<Tool>, prefix: String) -> Result<parse::Parser, Error> {
        let reading = match READING.with(RefCell::take) {
            Some(reading) => reading,
            // Another plugin writes the prompts.
            None => with_config(|config| {
                let template = config.template.clone().or_else(model::chat_template).unwrap_or_default();
                Ok(Reading::new(config, &template))
            })?,
        };
        Ok(parse::Parser::new(Self::new(Parser::new(&reading, &tools, &prefix))))
    }

    fn push(&self, text: String, last: bool) -> Result<Vec<parse::Event>, Error> {
        let events = self.borrow_mut().push(&text, last);
        Ok(events.into_iter().filter_map(event).collect())
    }
}

fn event(event: Event) -> Option<parse::Event> {
    Some(match event {
        Event::Content(text) => parse::Event::Content(text),
        Event::Reasoning(text) => parse::Event::Reasoning(text),
        // The host knows which ids are in use.
        Event::CallStart(name) => parse::Event::ToolCallStart((name, None)),
        Event::Arguments(text) | Event::Written(text) => parse::Event::ToolArguments(text),
        Event::CallEnd => parse::Event::ToolCallEnd,
        Event::Syntax(_) => return None,
    })
}

export!(Plugin);
