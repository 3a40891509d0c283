//! Texts that become vectors, or scores of how well two of them go together. Dropping an [`Encoding`] cancels it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    EngineFault, ModelCard, Progress, Prompt, RequestId, Segment, SpecialTokens, SubmitError, Timings, Token,
    Vocabulary,
};

/// A loaded model that encodes inputs. A model either encodes or completes, never both.
pub trait EncodingEngine: Send + Sync {
    /// The model's facts.
    fn card(&self) -> &ModelCard;

    /// What it makes of inputs, and how they are put together.
    fn facts(&self) -> &EncodingFacts;

    /// The model's vocabulary.
    fn vocabulary(&self) -> &Arc<dyn Vocabulary>;

    /// Hands inputs to the engine. Never waits: what does not fit now is refused or queued, and the queue is bounded.
    fn submit(&self, request: EncodingRequest) -> Result<Encoding, SubmitError>;

    /// How it gets on. Asks nothing of whoever computes, so it answers where that hangs.
    fn progress(&self) -> Progress;
}

/// What an encoding model does, and what it wants to see around a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodingFacts {
    /// What comes out.
    pub task: EncodingTask,
    /// What stands around an input.
    pub frame: Frame,
}

/// What an encoding model makes of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodingTask {
    /// A vector: texts of like meaning have vectors of like direction.
    Embedding {
        /// Its numbers.
        dimensions: u32,
    },
    /// One number from 0 to 1: how well a document answers a query.
    Ranking,
}

/// What stands around the texts of an input, as the model was trained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Before every input: `[CLS]`, or the beginning-of-sequence token.
    pub start: Option<Token>,
    /// Behind every text: `[SEP]`, or the end-of-sequence token.
    pub end: Option<Token>,
    /// Between a query and a document, behind the query's end.
    pub separator: Option<Token>,
    /// How query and document are put together instead of that, where the model has a template for it, with
    /// `{query}` and `{document}` in their places.
    pub pair_template: Option<String>,
}

impl Frame {
    /// An input of one text, of at most `tokens_max` tokens where that is given: its beginning then.
    #[must_use]
    pub fn text(&self, text: &str, tokens_max: Option<usize>, vocabulary: &dyn Vocabulary) -> Vec<Token> {
        self.join(Vec::from_iter(self.start), text, tokens_max, vocabulary)
    }

    /// A query, read once for all the documents that it is put together with.
    #[must_use]
    pub fn query<'a>(&'a self, query: &'a str, vocabulary: &'a dyn Vocabulary) -> Query<'a> {
        let head = if self.pair_template.is_some() {
            Vec::new()
        } else {
            let tokens = vocabulary.tokenize(query, SpecialTokens::Literal);
            self.start.into_iter().chain(tokens).chain(self.end).chain(self.separator).collect()
        };
        Query { frame: self, text: query, head, vocabulary }
    }

    fn join(
        &self,
        mut head: Vec<Token>,
        text: &str,
        tokens_max: Option<usize>,
        vocabulary: &dyn Vocabulary,
    ) -> Vec<Token> {
        let mut tokens = vocabulary.tokenize(text, SpecialTokens::Literal);
        if let Some(tokens_max) = tokens_max {
            tokens.truncate(tokens_max.saturating_sub(head.len() + usize::from(self.end.is_some())));
        }
        head.append(&mut tokens);
        head.extend(self.end);
        head
    }
}

/// What inputs of a query and a document begin with.
pub struct Query<'a> {
    frame: &'a Frame,
    text: &'a str,
    /// Empty where a template puts both together: tokens are then those of the whole.
    head: Vec<Token>,
    vocabulary: &'a dyn Vocabulary,
}

impl Query<'_> {
    /// An input of the query and a document. Of more than `tokens_max` tokens the end of the document is left out; the query is
    /// never cut, so that an input may still be too long.
    #[must_use]
    pub fn with(&self, document: &str, tokens_max: Option<usize>) -> Vec<Token> {
        match &self.frame.pair_template {
            Some(template) => longest_fit(document, tokens_max, |document| {
                Prompt { segments: fill(template, self.text, document), ..Prompt::default() }.tokenize(self.vocabulary)
            }),
            None => self.frame.join(self.head.clone(), document, tokens_max, self.vocabulary),
        }
    }
}

/// The template with both texts in their places: template text may spell control tokens, theirs stays text.
fn fill(template: &str, query: &str, document: &str) -> Vec<Segment> {
    let places = [("{query}", query), ("{document}", document)];
    let mut segments = Vec::new();
    let mut rest = template;
    while let Some((at, (name, text))) =
        places.iter().filter_map(|place| rest.find(place.0).map(|at| (at, place))).min_by_key(|(at, _)| *at)
    {
        segments.push(Segment::Template(rest[..at].to_owned()));
        segments.push(Segment::Content((*text).to_owned()));
        rest = &rest[at + name.len()..];
    }
    segments.push(Segment::Template(rest.to_owned()));
    segments
}

/// The tokens of the longest beginning of `text` that has at most `tokens_max`, found by halving: what a text's tokens are
/// depends on what stands around it, so they cannot be cut afterwards.
fn longest_fit(text: &str, tokens_max: Option<usize>, tokens: impl Fn(&str) -> Vec<Token>) -> Vec<Token> {
    let whole = tokens(text);
    let Some(tokens_max) = tokens_max.filter(|&most| whole.len() > most) else { return whole };
    let (mut fits, mut too_long) = (0, text.len());
    while too_long - fits > 1 {
        let middle = fits + (too_long - fits) / 2;
        // A wide character may reach over the middle.
        let at = [text.floor_char_boundary(middle), text.ceil_char_boundary(middle)];
        let Some(at) = at.into_iter().find(|at| (fits + 1..too_long).contains(at)) else { break };
        if tokens(&text[..at]).len() <= tokens_max { fits = at } else { too_long = at }
    }
    tokens(&text[..fits])
}

/// What the engine needs to know of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodingRequest {
    /// Names the request in the engine's logs.
    pub id: RequestId,
    /// The inputs; at least one. None is empty, and each fits the context.
    pub inputs: Vec<Vec<Token>>,
}

/// Inputs being encoded. Dropping it cancels the work; the engine notices at its next batch, and within a batch that is
/// for nobody else.
#[derive(Debug)]
pub struct Encoding {
    end: oneshot::Receiver<Result<Encoded, EngineFault>>,
}

impl Encoding {
    /// The receiving end of the engine's answer.
    #[must_use]
    pub fn new(end: oneshot::Receiver<Result<Encoded, EngineFault>>) -> Self {
        Self { end }
    }

    /// Waits for all inputs. When the engine died without a last word, that is a failure too.
    pub async fn finish(self) -> Result<Encoded, EngineFault> {
        self.end.await.unwrap_or(Err(EngineFault::Stopped))
    }
}

/// What inputs became.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// By input, in order, as the model computed it: the vector, of any length, or the one score. All numbers are finite.
    pub outputs: Vec<Vec<f32>>,
    /// Where the time went; all of the computing is prefill.
    pub timings: Timings,
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// One token per character, and `<end>`, which only a template may spell.
    struct Characters;

    const START: Token = Token(1);
    const END: Token = Token(2);

    impl Vocabulary for Characters {
        fn size(&self) -> u32 {
            0x11_0000
        }
        fn tokenize(&self, text: &str, special: SpecialTokens) -> Vec<Token> {
            assert_eq!(special, SpecialTokens::Literal, "what a client wrote stays text");
            text.chars().map(|character| Token(character.into())).collect()
        }
        fn append_piece(&self, _: Token, _: &mut Vec<u8>) {}
        fn find_control_token(&self, text: &str) -> Option<(Range<usize>, Token)> {
            text.find("<end>").map(|at| (at..at + 5, END))
        }
        fn prompt_start(&self) -> Option<Token> {
            None
        }
        fn beginning_of_sequence(&self) -> Option<Token> {
            None
        }
        fn ends_generation(&self, _: Token) -> bool {
            false
        }
    }

    fn shown(tokens: &[Token]) -> String {
        let spelled = |token: &Token| match *token {
            START => "⟨".to_owned(),
            END => "⟩".to_owned(),
            Token(character) => char::from_u32(character).expect("a character").to_string(),
        };
        tokens.iter().map(spelled).collect()
    }

    fn frame() -> Frame {
        Frame { start: Some(START), end: Some(END), ..Frame::default() }
    }

    fn check_text(text: &str, tokens_max: Option<usize>, expected: &str) {
        assert_eq!(shown(&frame().text(text, tokens_max, &Characters)), expected);
    }

    #[test]
    fn a_text_is_framed_and_cut_inside_its_frame() {
        check_text("hello", None, "⟨hello⟩");
        check_text("hello", Some(7), "⟨hello⟩");
        check_text("hello", Some(5), "⟨hel⟩");
        check_text("hello", Some(1), "⟨⟩");
        check_text("<end>", None, "⟨<end>⟩");
        assert_eq!(shown(&Frame::default().text("hello", Some(2), &Characters)), "he");
    }

    fn check_pair(frame: &Frame, tokens_max: Option<usize>, expected: &str) {
        assert_eq!(shown(&frame.query("who", &Characters).with("grüße<end>", tokens_max)), expected);
    }

    #[test]
    fn of_a_pair_the_document_is_cut() {
        check_pair(&frame(), None, "⟨who⟩grüße<end>⟩");
        check_pair(&frame(), Some(9), "⟨who⟩grü⟩");
        check_pair(&frame(), Some(2), "⟨who⟩⟩");
        check_pair(&Frame { separator: Some(START), ..frame() }, Some(8), "⟨who⟩⟨g⟩");
    }

    #[test]
    fn a_template_places_both_and_only_it_spells_control_tokens() {
        let frame = Frame { pair_template: Some("D:{document}<end>Q:{query}<end>".to_owned()), ..frame() };
        check_pair(&frame, None, "D:grüße<end>⟩Q:who⟩");
        check_pair(&frame, Some(12), "D:grü⟩Q:who⟩");
        check_pair(&frame, Some(11), "D:gr⟩Q:who⟩");
        check_pair(&frame, Some(3), "D:⟩Q:who⟩");
    }

    #[test]
    fn a_text_is_filled_in_where_the_template_says_and_not_inside_the_other() {
        let segments = fill("{query}|{document}", "{document}", "d");
        let text = Prompt { segments, ..Prompt::default() }.text();
        assert_eq!(text, "{document}|d");
    }
}
