//! `postprocess`: the model's text on its way out.

use std::cell::RefCell;

use crate::chunk::{Before, Chunk};
use crate::export::{Component, with_plugin};
use crate::types::{Annotations, Call, Finish, Usage};
use crate::{Plugin, Result};

/// Stage 5, a chain: passes text on, changes it, holds it back, ends the answer.
///
/// The host keeps the text. A filter is shown all that it has not consumed yet, says how much of that it is done with,
/// and sees the rest again with more behind it. So a filter needs no buffer, and mostly no memory at all.
pub trait Postprocess: Plugin {
    /// What is remembered of one answer; `()` where the window is all that matters. An answer has several
    /// [`Channel`]s: what belongs to one of them stands in [`PerChannel`](crate::PerChannel).
    type Filter: Default + 'static;

    /// Begins an answer, and says how to be driven. [`Profile::default`]: every piece of the answer's text and of the
    /// thoughts before it, as it comes.
    fn open(&mut self, call: &Call, choice: u32) -> Result<(Self::Filter, Profile)> {
        let _ = (call, choice);
        Ok(Default::default())
    }

    /// Text of one channel: what is not consumed yet, old and new.
    fn push(&mut self, filter: &mut Self::Filter, chunk: &Chunk) -> Result<Output>;

    /// The answer has ended; notes go to the log and the reply.
    fn finish(&mut self, filter: &mut Self::Filter, end: Finish, usage: Usage) -> Result<Annotations> {
        let _ = (filter, end, usage);
        Ok(Annotations::new())
    }
}

pub use bindings::exports::outrigger::plugin::postprocess::{Channel, Output, Profile, Token};

/// Bytes that the host lets a filter hold back unless the operator says otherwise.
const HOLDBACK_BYTES_DEFAULT: u32 = 4 << 10;

impl Default for Profile {
    fn default() -> Self {
        Self {
            channels: vec![Channel::Content, Channel::Reasoning],
            min_bytes: 0,
            max_delay_ms: 0,
            max_holdback: HOLDBACK_BYTES_DEFAULT,
            want_tokens: false,
        }
    }
}

impl Profile {
    /// Every piece of these channels, as it comes.
    #[must_use]
    pub fn of(channels: impl Into<Vec<Channel>>) -> Self {
        Self { channels: channels.into(), ..Self::default() }
    }
}

impl Output {
    /// All of it goes out as it is.
    #[must_use]
    pub fn pass() -> Self {
        Self { consume: u32::MAX, instead: None, stop: None, notes: Annotations::new() }
    }

    /// The first `bytes` go out as they are; the rest is held and shown again.
    #[must_use]
    pub fn pass_first(bytes: usize) -> Self {
        Self { consume: u32::try_from(bytes).unwrap_or(u32::MAX), ..Self::pass() }
    }

    /// This text goes out in place of the first `bytes`.
    #[must_use]
    pub fn instead_of_first(bytes: usize, text: impl Into<String>) -> Self {
        Self { instead: Some(text.into()), ..Self::pass_first(bytes) }
    }

    /// The answer ends after this, and what is not consumed is dropped.
    #[must_use]
    pub fn and_stop(self, reason: Finish) -> Self {
        Self { stop: Some(reason), ..self }
    }

    /// Leaves a note.
    #[must_use]
    pub fn note(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.notes.push((name.into(), value.into()));
        self
    }
}

/// Generated; `export!` reaches it through [`crate::glue`].
#[expect(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package outrigger:sdk-postprocess;
            world stage-postprocess { export outrigger:plugin/postprocess@0.1.0; }
        ",
        with: { "outrigger:plugin/types@0.1.0": crate::types },
        pub_export_macro: true,
        export_macro_name: "export_postprocess",
        default_bindings_module: "outrigger_plugin::glue::postprocess",
        runtime_path: "outrigger_plugin::glue::rt",
        additional_derives: [PartialEq],
    });
}

use bindings::exports::outrigger::plugin::postprocess::{Chunk as Raw, Filter as Handle, Guest, GuestFilter};

/// The resource behind the handle.
pub struct Open<P: Postprocess> {
    state: RefCell<(P::Filter, Before)>,
}

impl<C: Component<Plugin: Postprocess>> Guest for C {
    type Filter = Open<C::Plugin>;
}

impl<P: Postprocess> GuestFilter for Open<P> {
    fn open(call: Call, choice: u32) -> Result<(Handle, Profile)> {
        let (filter, profile) = with_plugin(|plugin: &mut P| plugin.open(&call, choice))?;
        Ok((Handle::new(Self { state: RefCell::new((filter, Before::default())) }), profile))
    }

    fn push(&self, raw: Raw) -> Result<Output> {
        let (filter, before) = &mut *self.state.borrow_mut();
        let chunk = before.chunk(raw.channel, raw.window, raw.new_from as usize, raw.last);
        let chunk = Chunk { tokens: raw.tokens, ..chunk };
        let output = with_plugin(|plugin: &mut P| plugin.push(filter, &chunk))?;
        before.consumed(&chunk, &output);
        Ok(output)
    }

    fn finish(&self, end: Finish, usage: Usage) -> Result<Annotations> {
        with_plugin(|plugin: &mut P| plugin.finish(&mut self.state.borrow_mut().0, end, usage))
    }
}
