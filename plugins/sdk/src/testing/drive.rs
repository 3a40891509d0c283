//! Drives a filter as the host does, and checks it as the host does.

use crate::chunk::Before;
use crate::testing::call;
use crate::types::{Annotations, Finish, Usage};
use crate::{Channel, Postprocess, Result};

/// What became of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sent {
    /// The text that went out.
    pub text: String,
    /// Why the filter ended the answer, if it did.
    pub stop: Option<Finish>,
    /// The notes of all pushes, then those of `finish`.
    pub notes: Annotations,
}

/// Shows a new filter the pieces of an answer's text, and tells it of the end.
///
/// # Panics
/// Where the host would call it a fault: more consumed than there is, a character cut in two, too much held back.
pub fn stream<P: Postprocess>(plugin: &mut P, pieces: &[&str]) -> Result<Sent> {
    stream_of(plugin, Channel::Content, pieces)
}

/// [`stream`] for another channel than the answer's text.
///
/// # Panics
/// As [`stream`] does.
pub fn stream_of<P: Postprocess>(plugin: &mut P, channel: Channel, pieces: &[&str]) -> Result<Sent> {
    let (mut filter, profile) = plugin.open(&call(), 0)?;
    let mut sent = Sent::default();
    let mut before = Before::default();
    let (mut window, mut new_from) = (String::new(), 0);
    for (number, piece) in pieces.iter().enumerate() {
        let last = number + 1 == pieces.len();
        window.push_str(piece);
        if !profile.channels.contains(&channel) {
            sent.text.push_str(piece);
            continue;
        }
        if !last && (piece.is_empty() || window.len() - new_from < profile.min_bytes as usize) {
            continue;
        }
        let chunk = before.chunk(channel, std::mem::take(&mut window), new_from, last);
        let output = plugin.push(&mut filter, &chunk)?;
        let length = chunk.window.len();
        let consumed = if output.consume == u32::MAX { length } else { output.consume as usize };
        assert!(consumed <= length, "consumed {consumed} bytes of a window of {length}");
        assert!(chunk.window.is_char_boundary(consumed), "consumed {consumed} bytes, inside a character");
        let (done, held) = chunk.window.split_at(consumed);
        sent.text.push_str(output.instead.as_deref().unwrap_or(done));
        sent.notes.extend(output.notes.iter().cloned());
        if output.stop.is_some() {
            sent.stop = output.stop;
            break;
        }
        if last {
            sent.text.push_str(held);
        } else {
            assert!(held.len() <= profile.max_holdback as usize, "{} bytes are held back", held.len());
            held.clone_into(&mut window);
            new_from = window.len();
        }
        before.consumed(&chunk, &output);
    }
    let usage = Usage { prompt_tokens: 0, completion_tokens: 0, cached_tokens: 0 };
    sent.notes.extend(plugin.finish(&mut filter, sent.stop.unwrap_or(Finish::Stop), usage)?);
    Ok(sent)
}

/// Cuts a text in many ways, checks that the filter sends the same each time, and says what that is: whole, one
/// character at a time, in two at every place, and in 200 ways by chance (always the same); each of them with an end that has text,
/// and with one that has none.
///
/// # Panics
/// If the filter fails, or sends something else for one of them.
pub fn every_chunking<P: Postprocess>(plugin: impl Fn() -> Result<P>, text: &str) -> Sent {
    every_chunking_of(plugin, Channel::Content, text)
}

/// [`every_chunking`] for another channel than the answer's text.
///
/// # Panics
/// As [`every_chunking`] does.
pub fn every_chunking_of<P: Postprocess>(plugin: impl Fn() -> Result<P>, channel: Channel, text: &str) -> Sent {
    let whole = send(&plugin, channel, &[text]);
    let check = |cuts: &[usize]| {
        let mut start = 0;
        let ends = cuts.iter().copied().chain([text.len()]);
        let mut pieces: Vec<&str> = ends.map(|end| &text[std::mem::replace(&mut start, end)..end]).collect();
        for end in ["", ", and with no text at the end,"] {
            assert_eq!(
                send(&plugin, channel, &pieces),
                whole,
                "cut at {cuts:?}{end} it is another answer than in one piece"
            );
            pieces.push("");
        }
    };
    check(&[]);
    let places: Vec<usize> = text.char_indices().skip(1).map(|(at, _)| at).collect();
    check(&places);
    for &place in &places {
        check(&[place]);
    }
    // xorshift: chance enough, and the same in every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..200 {
        let mut chance = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.is_multiple_of(4)
        };
        let cuts: Vec<usize> = places.iter().copied().filter(|_| chance()).collect();
        check(&cuts);
    }
    whole
}

fn send<P: Postprocess>(plugin: impl Fn() -> Result<P>, channel: Channel, pieces: &[&str]) -> Sent {
    let sent = plugin().and_then(|mut plugin| stream_of(&mut plugin, channel, pieces));
    sent.unwrap_or_else(|error| panic!("the filter fails at {pieces:?}: {error:?}"))
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    /// Forgets what it held where the end comes with no text.
    struct Forgetful;

    impl Plugin for Forgetful {
        fn new(_cx: &Context) -> Result<Self> {
            Ok(Self)
        }
    }

    impl Postprocess for Forgetful {
        type Filter = ();

        fn push(&mut self, _filter: &mut (), chunk: &Chunk) -> Result<Output> {
            let has_new = chunk.new_from < chunk.window.len();
            Ok(match (chunk.last, has_new) {
                (false, _) => Output::instead_of_first(0, String::new()),
                (true, true) => Output::instead_of_first(chunk.window.len(), chunk.window.clone()),
                (true, false) => Output::instead_of_first(chunk.window.len(), String::new()),
            })
        }
    }

    #[test]
    #[should_panic(expected = "with no text at the end")]
    fn an_end_without_text_is_an_end_too() {
        super::every_chunking(|| crate::testing::plugin::<Forgetful>("{}"), "ab");
    }
}
