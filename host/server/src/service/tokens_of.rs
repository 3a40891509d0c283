//! Which tokens a part of an answer is made of, for those who were promised their log probabilities.

use std::ops::Range;

use inference::TokenLogprobs;

/// Takes the tokens that `text` is made of. Nobody changes the text of a request with log probabilities, but a parser leaves out
/// what frames thoughts and calls: the tokens before it are dropped, and those behind it are of text that is still to come.
pub(super) fn take_tokens_of(text: &str, tokens: &mut Vec<TokenLogprobs>) -> Vec<TokenLogprobs> {
    let Range { start, end } = whole_tokens_of(text, tokens).unwrap_or_else(|| tokens_around(text, tokens));
    let behind = tokens.split_off(end);
    let taken = tokens.split_off(start);
    *tokens = behind;
    taken
}

/// The first tokens that are this text and nothing else.
fn whole_tokens_of(text: &str, tokens: &[TokenLogprobs]) -> Option<Range<usize>> {
    (0..tokens.len()).filter(|&start| !tokens[start].sampled.bytes.is_empty()).find_map(|start| {
        let mut rest = text.as_bytes();
        let count = tokens[start..].iter().take_while(|token| {
            let more = rest.strip_prefix(token.sampled.bytes.as_slice()).filter(|_| !rest.is_empty());
            rest = more.unwrap_or(rest);
            more.is_some()
        });
        let end = start + count.count();
        rest.is_empty().then_some(start..end)
    })
}

/// The tokens that this text lies in: the last place, as frames come before what they frame. All of them where it is none.
fn tokens_around(text: &str, tokens: &[TokenLogprobs]) -> Range<usize> {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.sampled.bytes.iter().copied()).collect();
    let Some(first) = bytes.windows(text.len().max(1)).rposition(|window| window == text.as_bytes()) else {
        return 0..tokens.len();
    };
    let mut ends = tokens.iter().scan(0, |end, token| {
        *end += token.sampled.bytes.len();
        Some(*end)
    });
    let start = ends.clone().take_while(|&end| end <= first).count();
    let end = ends.position(|end| end >= first + text.len()).map_or(tokens.len(), |last| last + 1);
    start..end
}

#[cfg(test)]
mod tests {
    use inference::{Token, TokenLogprob};

    use super::*;

    fn check(tokens: &[&str], text: &str, expected: &[&str], left: &[&str]) {
        let of = |text: &&str| TokenLogprobs {
            token: Token(0),
            sampled: TokenLogprob { bytes: text.as_bytes().to_vec(), logprob: -1.0 },
            top: Vec::new(),
        };
        let mut tokens: Vec<TokenLogprobs> = tokens.iter().map(of).collect();
        let taken = take_tokens_of(text, &mut tokens);
        assert_eq!((taken, tokens), (expected.iter().map(of).collect(), left.iter().map(of).collect()), "{text}");
    }

    #[test]
    fn a_text_has_its_own_tokens() {
        check(&["a", "b"], "ab", &["a", "b"], &[]);
        check(&["</think>", "\n\n", "H", "i"], "Hi", &["H", "i"], &[]);
        check(&["a", "<"], "a", &["a"], &["<"]);
        check(&["</", "t>", "t", "<"], "t", &["t"], &["<"]);
        check(&["<", "<"], "<", &["<"], &["<"]);
        check(&[">", " Hi"], "Hi", &[" Hi"], &[]);
        // One that lies across a border is its first part's.
        check(&[">a", "b<"], "ab", &[">a", "b<"], &[]);
        // A token without text frames something, or will be explained by what comes.
        check(&["x", "", "y", "", "z"], "y", &["y"], &["", "z"]);
        // A text that nobody sampled is left to be explained by all there is.
        check(&["a"], "b", &["a"], &[]);
        check(&[], "b", &[], &[]);
    }
}
