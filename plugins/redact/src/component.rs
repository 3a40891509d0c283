//! The exports: where the contract's calls reach the plain Rust of this crate.
#![expect(unsafe_code, reason = "generated: the canonical ABI is made of raw pointers")]

use std::cell::OnceCell;

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
use outrigger_plugin::types::{Call, Error, Finish, Request, Usage};

use crate::{Config, Redactor};

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
        Ok(lifecycle::Identity { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
    }
}

impl policy::Guest for Plugin {
    fn inspect(req: Request, _call: Call) -> Result<(policy::Verdict, Vec<(String, String)>), Error> {
        with_redactor(|redactor| match redactor.request(req) {
            Some((replaced, masked)) => {
                (policy::Verdict::Replace(replaced), vec![("redact.request".to_owned(), masked.to_string())])
            }
            None => (policy::Verdict::Accept, Vec::new()),
        })
    }
}

impl postprocess::Guest for Plugin {
    type Filter = Filter;
}

/// The filter of one choice of the reply. What it has to remember between two calls is in the window.
struct Filter;

impl postprocess::GuestFilter for Filter {
    fn open(_call: Call, _choice: u32) -> Result<(postprocess::Filter, postprocess::Profile), Error> {
        let profile = postprocess::Profile {
            channels: vec![postprocess::Channel::Content, postprocess::Channel::Reasoning, postprocess::Channel::ToolArguments],
            min_bytes: 0,
            max_delay_ms: 0,
            max_holdback: crate::HOLDBACK_BYTES_MAX,
        };
        Ok((postprocess::Filter::new(Self), profile))
    }

    fn push(&self, chunk: postprocess::Chunk) -> Result<postprocess::Output, Error> {
        with_redactor(|redactor| {
            let pushed = redactor.window(&chunk.window, chunk.last);
            postprocess::Output {
                consume: u32::try_from(pushed.consumed).unwrap_or(u32::MAX),
                instead: pushed.instead,
                stop: None,
                notes: Vec::new(),
            }
        })
    }

    fn finish(&self, _end: Finish, _usage: Usage) -> Result<Vec<(String, String)>, Error> {
        Ok(Vec::new())
    }
}

export!(Plugin);
