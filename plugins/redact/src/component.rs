//! The exports: where the contract's calls reach the plain Rust of this crate.
#![expect(unsafe_code, reason = "generated: the canonical ABI is made of raw pointers")]
#![expect(clippy::same_length_and_capacity, reason = "generated: how the canonical ABI hands over lists")]

use std::cell::{OnceCell, RefCell};

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package outrigger:redact;
        world plugin {
            import outrigger:plugin/log@0.1.0;
            import outrigger:plugin/config@0.1.0;
            export outrigger:plugin/lifecycle@0.1.0;
            export outrigger:plugin/policy@0.1.0;
            export outrigger:plugin/postprocess@0.1.0;
        }
    ",
    with: {
        "outrigger:plugin/types@0.1.0": outrigger_plugin::types,
        "outrigger:plugin/log@0.1.0": outrigger_plugin::log,
        "outrigger:plugin/config@0.1.0": outrigger_plugin::config,
    },
});

use exports::outrigger::plugin::{lifecycle, policy, postprocess};
use outrigger_plugin::types::{Annotations, Call, Error, Finish, Request, Usage};

use crate::{ChannelName, Config, HOLDBACK_BYTES_MAX, Redactor, Stream};

/// Pairs in one list of notes: the contract's cap.
const NOTES_MAX: usize = 16;

/// One instance serves one request.
struct Plugin;

thread_local! {
    static REDACTOR: OnceCell<Redactor> = const { OnceCell::new() };
}

fn with_redactor<T>(work: impl FnOnce(&Redactor) -> T) -> Result<T, Error> {
    REDACTOR.with(|redactor| {
        redactor.get().map(work).ok_or_else(|| Error::Internal("a stage was called before `init`".to_owned()))
    })
}

impl lifecycle::Guest for Plugin {
    fn init() -> Result<lifecycle::Identity, Error> {
        let config: Config = outrigger_plugin::start()?;
        let redactor = Redactor::new(config).map_err(Error::Internal)?;
        REDACTOR.with(|cell| cell.set(redactor)).map_err(|_| Error::Internal("`init` was called twice".to_owned()))?;
        Ok(lifecycle::Identity {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

impl policy::Guest for Plugin {
    fn inspect(req: Request, _call: Call) -> Result<(policy::Verdict, Annotations), Error> {
        with_redactor(|redactor| match redactor.request(req) {
            Some((replaced, count)) => {
                (policy::Verdict::Replace(replaced), vec![("redact.request".to_owned(), count.to_string())])
            }
            None => (policy::Verdict::Accept, Vec::new()),
        })
    }
}

impl postprocess::Guest for Plugin {
    type Filter = Filter;
}

/// The filter of one choice of the reply: a stream for each channel.
#[derive(Default)]
struct Filter {
    content: RefCell<Stream>,
    reasoning: RefCell<Stream>,
    tool_arguments: RefCell<Stream>,
}

impl postprocess::GuestFilter for Filter {
    fn open(_call: Call, _choice: u32) -> Result<(postprocess::Filter, postprocess::Profile), Error> {
        let channels = with_redactor(|redactor| redactor.config().channels.iter().copied().map(channel).collect())?;
        let profile = postprocess::Profile {
            channels,
            min_bytes: 0,
            max_delay_ms: 0,
            max_holdback: HOLDBACK_BYTES_MAX,
            want_tokens: false,
        };
        Ok((postprocess::Filter::new(Self::default()), profile))
    }

    fn push(&self, chunk: postprocess::Chunk) -> Result<postprocess::Output, Error> {
        let stream = match chunk.channel {
            postprocess::Channel::Content => &self.content,
            postprocess::Channel::Reasoning => &self.reasoning,
            postprocess::Channel::ToolArguments => &self.tool_arguments,
        };
        with_redactor(|redactor| {
            let pushed = stream.borrow_mut().push(redactor, &chunk.window, chunk.last);
            postprocess::Output {
                consume: u32::try_from(pushed.consumed).unwrap_or(u32::MAX),
                instead: pushed.instead,
                stop: None,
                notes: Vec::new(),
            }
        })
    }

    /// Notes how much of each kind was masked.
    fn finish(&self, _end: Finish, _usage: Usage) -> Result<Annotations, Error> {
        with_redactor(|redactor| {
            let streams = [self.content.borrow(), self.reasoning.borrow(), self.tool_arguments.borrow()];
            let count = |which| streams.iter().filter_map(|stream| stream.counts().get(which)).sum::<usize>();
            let counts = redactor.names().iter().enumerate().map(|(which, name)| (name, count(which)));
            counts
                .filter(|&(_, count)| count > 0)
                .take(NOTES_MAX)
                .map(|(name, count)| (format!("redact.{name}"), count.to_string()))
                .collect()
        })
    }
}

fn channel(name: ChannelName) -> postprocess::Channel {
    match name {
        ChannelName::Content => postprocess::Channel::Content,
        ChannelName::Reasoning => postprocess::Channel::Reasoning,
        ChannelName::ToolArguments => postprocess::Channel::ToolArguments,
    }
}

export!(Plugin);
