//! Arguments that come one by one, as text between tags: `<parameter=key>value</parameter>`.

use crate::cursor::{Cursor, Not, Read};
use crate::scan::{Scan, Stop};

/// What comes next inside a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parameter {
    /// An argument.
    Given { key: String, value: String },
    /// There are no more.
    End,
}

const OPEN: &str = "<parameter=";
const CLOSE: &str = "</parameter>";
const END: &str = "</function>";
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// Reads what comes next. `is_json` says of a key whether its value is written as JSON.
pub(super) fn next(cursor: &mut Cursor<'_>, is_json: impl Fn(&str) -> bool) -> Read<Parameter> {
    cursor.space()?;
    if cursor.one_of(&[OPEN, END])? == 1 {
        return Ok(Parameter::End);
    }
    let key = cursor.name(">", &['\n', '<'])?.trim().to_owned();
    let value = &cursor.rest()[..end(cursor.rest(), cursor.is_last(), is_json(&key))?];
    cursor.skip(value.len() + CLOSE.len());
    // A line break on both sides belongs to the form.
    let value = value.strip_prefix('\n').unwrap_or(value);
    let value = value.strip_suffix('\n').unwrap_or(value);
    Ok(Parameter::Given { key, value: value.to_owned() })
}

/// Whether an argument begins here, as far as the text goes.
pub(super) fn is_begun(text: &str) -> bool {
    let text = text.trim_start_matches(BLANK);
    // One sign might be that of the end.
    text.starts_with(OPEN) || (text.len() > 1 && OPEN.starts_with(text))
}

/// Where the value ends that `text` begins with. One that begins with a line break, as the form has it, ends with a tag that
/// begins a line, or behind which the next parameter or the end of the call follows: files may hold the tag. So may JSON, in a
/// string.
fn end(text: &str, last: bool, is_json: bool) -> Read<usize> {
    let is_block = text.starts_with('\n');
    let mut json = (Scan::new(), Stop::More, 0);
    for (at, _) in text.match_indices(CLOSE) {
        if !is_block || text[..at].ends_with('\n') {
            return Ok(at);
        }
        if is_json {
            let (scan, stop, read) = &mut json;
            if *stop == Stop::More {
                *stop = scan.read(&text[*read..at]).1;
                *read = at;
            }
            if *stop == Stop::More {
                continue;
            }
        }
        let behind = text[at + CLOSE.len()..].trim_start_matches(BLANK);
        if [OPEN, END].iter().any(|tag| behind.starts_with(tag)) || (behind.is_empty() && last) {
            return Ok(at);
        }
        if [OPEN, END].iter().any(|tag| tag.starts_with(behind)) {
            return Err(if last { Not::This } else { Not::Yet });
        }
    }
    Err(if last { Not::This } else { Not::Yet })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, is_json: bool, expected: Read<&str>) {
        let text = format!("<parameter=a>{text}");
        let mut cursor = Cursor::new(&text, 0, false);
        let expected = expected.map(|value| Parameter::Given { key: "a".to_owned(), value: value.to_owned() });
        assert_eq!(next(&mut cursor, |_| is_json), expected, "{text}");
    }

    #[test]
    fn a_value_ends_where_the_call_goes_on() {
        check("\nParis\n</parameter>", false, Ok("Paris"));
        check("Paris</parameter>", false, Ok("Paris"));
        check("\n\n</parameter>", false, Ok(""));
        check("\n</parameter>", false, Ok(""));
        check("\na</parameter>b\n</parameter>", false, Ok("a</parameter>b"));
        check("\na</parameter> \n<parameter=b>", false, Ok("a"));
        check("\na</parameter></function>", false, Ok("a"));
        check("\na</parameter>\n</fun", false, Err(Not::Yet));
        check("\n[\"</parameter></function>\"]\n</parameter>", true, Ok("[\"</parameter></function>\"]"));
        check("\n[\"</parameter></function>\"]\n</parameter>", false, Ok("[\""));
        check("\n[1]</parameter></function>", true, Ok("[1]"));
        check("\noops</parameter></function>", true, Ok("oops"));
    }
}
