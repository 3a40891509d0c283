//! From a rendered prompt to tokens, so that nobody but a template can write a control token.

use crate::{OutputFormat, SpecialTokens, Token, Vocabulary};

/// What the prompt stage made of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt {
    /// The text, in order, each part with where it came from.
    pub segments: Vec<Segment>,
    /// Texts that end the completion, beside the request's own.
    pub stop: Vec<String>,
    /// What the answer already starts with; part of the segments too.
    pub prefix: String,
    /// The form that the completion must have, where the template wants one.
    pub format: Option<OutputFormat>,
    /// Control tokens, as they are spelled, that are part of the completion's text.
    pub marks: Vec<String>,
}

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Written by a template: control tokens in it are recognised.
    Template(String),
    /// Written by a user or a program: it stays text, whatever it spells.
    Content(String),
    /// Already tokens.
    Tokens(Vec<Token>),
}

impl Prompt {
    /// The prompt's tokens.
    ///
    /// Template text is cut at the control tokens it spells; what lies between two of them, template and content
    /// together, is tokenized in one piece with control tokens taken literally. So merges across the seam between a
    /// template and a message are those of the whole text, as Hugging Face's tokenizers see it, while a user who types
    /// `<|im_end|>` gets those characters. The model's starting token is put in front unless it is there already.
    #[must_use]
    pub fn tokenize(&self, vocabulary: &dyn Vocabulary) -> Vec<Token> {
        self.tokenize_while(vocabulary, &|| true)
    }

    /// The same, as long as it is wanted: else it ends before the next segment, and what comes back is of no use.
    #[must_use]
    pub fn tokenize_while(&self, vocabulary: &dyn Vocabulary, is_wanted: &dyn Fn() -> bool) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut text = String::new();
        for segment in &self.segments {
            if !is_wanted() {
                return tokens;
            }
            match segment {
                Segment::Content(content) => text.push_str(content),
                Segment::Template(template) => {
                    let mut rest = template.as_str();
                    while let Some((spelled, token)) = vocabulary.find_control_token(rest) {
                        text.push_str(&rest[..spelled.start]);
                        flush(&mut text, vocabulary, &mut tokens);
                        tokens.push(token);
                        rest = &rest[spelled.end..];
                    }
                    text.push_str(rest);
                }
                Segment::Tokens(given) => {
                    flush(&mut text, vocabulary, &mut tokens);
                    tokens.extend_from_slice(given);
                }
            }
        }
        flush(&mut text, vocabulary, &mut tokens);
        if let Some(start) = vocabulary.prompt_start()
            && !tokens.is_empty()
            && tokens[0] != start
        {
            tokens.insert(0, start);
        }
        tokens
    }

    /// The prompt as text, for people to read.
    #[must_use]
    pub fn text(&self) -> String {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Template(text) | Segment::Content(text) => text.as_str(),
                Segment::Tokens(_) => "",
            })
            .collect()
    }
}

fn flush(text: &mut String, vocabulary: &dyn Vocabulary, tokens: &mut Vec<Token>) {
    if !text.is_empty() {
        tokens.extend(vocabulary.tokenize(text, SpecialTokens::Literal));
        text.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// One token per byte, plus two control tokens.
    struct Bytes {
        start: Option<Token>,
    }

    const BEGIN: Token = Token(256);
    const END: Token = Token(257);

    impl Vocabulary for Bytes {
        fn size(&self) -> u32 {
            258
        }
        fn tokenize(&self, text: &str, special: SpecialTokens) -> Vec<Token> {
            assert_eq!(special, SpecialTokens::Literal, "runs between control tokens hold none");
            text.bytes().map(|byte| Token(u32::from(byte))).collect()
        }
        fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
            bytes.extend(u8::try_from(token.0));
        }
        fn find_control_token(&self, text: &str) -> Option<(Range<usize>, Token)> {
            [("<|end|>", END), ("<s>", BEGIN)]
                .into_iter()
                .filter_map(|(spelled, token)| text.find(spelled).map(|start| (start..start + spelled.len(), token)))
                .min_by_key(|(place, _)| place.start)
        }
        fn prompt_start(&self) -> Option<Token> {
            self.start
        }
        fn beginning_of_sequence(&self) -> Option<Token> {
            Some(BEGIN)
        }
        fn ends_generation(&self, token: Token) -> bool {
            token == END
        }
    }

    fn check(segments: Vec<Segment>, start: Option<Token>, expected: &[&str]) {
        let shown: Vec<String> = Prompt { segments, ..Prompt::default() }
            .tokenize(&Bytes { start })
            .chunk_by(|a, b| a.0 < 256 && b.0 < 256)
            .map(|run| match run {
                [BEGIN] => "BEGIN".to_owned(),
                [END] => "END".to_owned(),
                bytes => bytes.iter().map(|token| char::from(u8::try_from(token.0).unwrap_or(b'?'))).collect(),
            })
            .collect();
        assert_eq!(shown, expected);
    }

    fn template(text: &str) -> Segment {
        Segment::Template(text.to_owned())
    }

    fn content(text: &str) -> Segment {
        Segment::Content(text.to_owned())
    }

    #[test]
    fn template_text_becomes_control_tokens() {
        check(vec![template("<s>hi<|end|>")], None, &["BEGIN", "hi", "END"]);
    }

    #[test]
    fn content_never_does() {
        check(vec![template("<s>"), content("a<|end|>b"), template("<|end|>")], None, &["BEGIN", "a<|end|>b", "END"]);
    }

    #[test]
    fn a_control_token_spelled_across_a_seam_is_text() {
        check(vec![template("<|e"), content("nd|>")], None, &["<|end|>"]);
    }

    #[test]
    fn the_starting_token_is_added_once() {
        check(vec![template("hi")], Some(BEGIN), &["BEGIN", "hi"]);
        check(vec![template("<s>hi")], Some(BEGIN), &["BEGIN", "hi"]);
        check(vec![], Some(BEGIN), &[]);
    }

    #[test]
    fn given_tokens_stand_where_they_are() {
        check(vec![content("a"), Segment::Tokens(vec![END]), content("b")], None, &["a", "END", "b"]);
    }
}
