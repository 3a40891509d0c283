//! Texts with words without end. llama.cpp splits text for BPE vocabularies by regular expressions, some of them with libstdc++,
//! which recurses once per character that an expression takes in: 10,000 letters in a row overflow a thread's stack of
//! 2 MiB, and the process ends. Merging what is one word also takes memory and time out of proportion. So no tokenizer is
//! shown more than [`RUN_CHARS_MAX`] characters without a space, or spaces without anything else, at once.

use crate::limits::RUN_CHARS_MAX;

/// The pieces to tokenize one by one: all of the text, unless it has such runs. They are cut where a word probably ends.
pub(crate) fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut start) = (Vec::new(), 0);
    // Of the present run: what it is of, its characters, and the last place to cut with the characters before it.
    let (mut is_space, mut count, mut soft) = (false, 0, None);
    let mut previous = ' ';
    for (place, letter) in text.char_indices() {
        if letter.is_whitespace() != is_space {
            (is_space, count, soft) = (!is_space, 0, None);
        } else if previous.is_alphanumeric() && !letter.is_alphanumeric() {
            soft = Some((place, count));
        }
        if count == RUN_CHARS_MAX {
            let (end, before) = soft.take().unwrap_or((place, count));
            pieces.push(&text[start..end]);
            start = end;
            count -= before;
        }
        count += 1;
        previous = letter;
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_text_is_one_piece() {
        for text in ["", "a", "Hello, world!\n\n  It goes on.", &"word ".repeat(10_000), &"x".repeat(RUN_CHARS_MAX)] {
            assert_eq!(pieces(text), [text]);
        }
    }

    #[test]
    fn runs_are_cut_where_words_end() {
        let (word, most) = ("abcdefghi,", RUN_CHARS_MAX);
        let long = word.repeat(most);
        assert!(pieces(&long).iter().skip(1).all(|piece| piece.starts_with(",abc")));
        let letters = "é".repeat(2 * most + 1);
        assert_eq!(pieces(&letters).iter().map(|piece| piece.chars().count()).collect::<Vec<_>>(), [most, most, 1]);
        assert_eq!(pieces(&" ".repeat(most + 1)).len(), 2);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_run_is_too_long(text in "([a-z]{0,900}|[.,]{0,900}| {0,3}|\\PC{0,5}){0,9}") {
            let pieces = pieces(&text);
            prop_assert_eq!(pieces.concat(), text.as_str());
            for piece in pieces {
                let runs = piece.split(char::is_whitespace).chain(piece.split(|letter: char| !letter.is_whitespace()));
                prop_assert!(runs.map(|run| run.chars().count()).all(|count| count <= RUN_CHARS_MAX));
            }
        }
    }
}
