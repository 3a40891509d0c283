//! Making a guest's text safe to show: bounded and without control characters.

/// `text`, or as much of it as fits `bytes_max` in whole characters.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

/// Appends `text` with everything escaped that could move a terminal's cursor, forge a log line or reorder what is
/// read: control characters and the marks of bidirectional text.
pub(crate) fn escape_into(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() || is_bidirectional_mark(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

/// Whether [`escape_into`] would change nothing.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.chars().any(|character| character.is_control() || is_bidirectional_mark(character))
}

fn is_bidirectional_mark(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("aé".to_owned(), 2), "a");
        assert_eq!(cut("aé".to_owned(), 3), "aé");
        assert_eq!(cut("aé".to_owned(), 100), "aé");
    }

    #[test]
    fn escaping_leaves_no_way_out_of_a_line() {
        let mut line = String::new();
        escape_into(&mut line, "a\u{1b}[31mred\nERROR forged \u{202e}é 日本");
        assert_eq!(line, "a\\u{1b}[31mred\\nERROR forged \\u{202e}é 日本");
    }
}
