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
use outrigger_plugin::types::{Call, Error, Message, Tool};
use outrigger_plugin::{clock, log, model};

use crate::{Config, Conversation, Event, ModelFacts, Parser, Segment, Template, render};

/// One instance serves one request.
struct Plugin;

thread_local! {
    static CONFIG: OnceCell<Config> = const { OnceCell::new() };
}

impl lifecycle::Guest for Plugin {
    fn init() -> Result<lifecycle::Identity, Error> {
        let config: Config = outrigger_plugin::start()?;
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
            add_generation_prompt: opts.add_generation_prompt,
            arguments_json: opts.kwargs_json,
            unix_seconds: clock::unix_seconds(),
        };
        let rendered = CONFIG.with(|config| {
            let config = config.get().ok_or_else(|| Error::Internal("a stage was called before `init`".to_owned()))?;
            render(config, &facts, &conversation, &model::control_tokens)
        })?;
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
            grammar: None,
            prefix: rendered.prefix,
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

impl parse::GuestParser for RefCell<Parser> {
    fn open(_call: Call, _choice: u32, _tools: Vec<Tool>, prefix: String) -> Result<parse::Parser, Error> {
        Ok(parse::Parser::new(Self::new(Parser::new(&prefix))))
    }

    fn push(&self, text: String, last: bool) -> Result<Vec<parse::Event>, Error> {
        let events = self.borrow_mut().push(&text, last);
        Ok(events
            .into_iter()
            .map(|event| match event {
                Event::Content(text) => parse::Event::Content(text),
                Event::Reasoning(text) => parse::Event::Reasoning(text),
            })
            .collect())
    }
}

export!(Plugin);
