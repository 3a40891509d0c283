//! For native tests of a plugin: a double of the host, and a driver that shows a filter its windows as the host does.
//!
//! Not there when a plugin is compiled for Wasm. What the double knows is kept for each thread, and so for each test.
//!
//! ```
//! use outrigger_plugin::prelude::*;
//! use outrigger_plugin::testing;
//!
//! struct Shout;
//!
//! impl Plugin for Shout {
//!     fn new(_cx: &Context) -> Result<Self> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl Postprocess for Shout {
//!     type Filter = ();
//!
//!     fn push(&mut self, _filter: &mut (), chunk: &Chunk) -> Result<Output> {
//!         Ok(Output::instead_of_first(chunk.window.len(), chunk.window.to_uppercase()))
//!     }
//! }
//!
//! let shout = || testing::plugin::<Shout>("{}");
//! assert_eq!(testing::stream(&mut shout().unwrap(), &["he", "llo"]).unwrap().text, "HELLO");
//! assert_eq!(testing::every_chunking(shout, "hello").text, "HELLO");
//! ```

mod control;
pub(crate) mod double;
mod drive;

pub use control::{Written, write};
pub use double::{Double, Entry, Line, Observation, Store, with_host};
pub use drive::{Sent, every_chunking, every_chunking_of, stream, stream_of};

use crate::types::{Call, Message, Operation, Part, Request, Role, Sampling};
use crate::{Context, Plugin, Result};

/// A plugin with this configuration: a JSON object.
pub fn plugin<P: Plugin>(config_json: &str) -> Result<P> {
    P::new(&Context::new(config_json))
}

/// A call without headers.
#[must_use]
pub fn call() -> Call {
    Call { request_id: "test".to_owned(), traceparent: None, model: "test".to_owned(), headers: Vec::new() }
}

/// A call with these headers.
#[must_use]
pub fn call_with(headers: &[(&str, &str)]) -> Call {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Call { headers, ..call() }
}

/// A message of one text.
#[must_use]
pub fn message(role: Role, text: &str) -> Message {
    Message { role, name: None, parts: vec![Part::Text(text.to_owned())] }
}

/// A chat of these messages, with everything else as usual.
#[must_use]
pub fn request(messages: Vec<Message>) -> Request {
    Request {
        operation: Operation::Chat,
        model: "test".to_owned(),
        messages,
        inputs: Vec::new(),
        tools: Vec::new(),
        sampling: Sampling {
            max_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            min_p: None,
            seed: None,
            stop: Vec::new(),
        },
        grammar: None,
        streaming: true,
        extra: Vec::new(),
    }
}

/// A chat of one message of the user.
#[must_use]
pub fn chat(text: &str) -> Request {
    request(vec![message(Role::User, text)])
}
