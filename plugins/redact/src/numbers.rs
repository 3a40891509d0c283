//! Payment cards and telephone numbers: digits in groups.

use crate::limits::{CARD_DIGITS_MAX, PHONE_DIGITS_MAX};
use crate::place::{Place, Verdict, goes_on};

/// Digits in a row, and how they are parted from the group before.
struct Group<'a> {
    separator: &'a str,
    digits: &'a str,
    /// Bytes from the place to the end of the digits.
    end: usize,
}

/// The groups that begin at a place.
struct Run<'a> {
    groups: Vec<Group<'a>>,
    /// What follows the last group, where no separator and digit do.
    next: Option<char>,
}

/// Characters that may part two groups, up to [`SEPARATOR_CHARACTERS_MAX`] together.
const SEPARATORS: [char; 8] = [' ', '-', '.', '/', '(', ')', '\u{A0}', '\u{2011}'];
const SEPARATOR_CHARACTERS_MAX: usize = 3;

/// Whether a card number begins here: 13 to 19 digits with a valid check digit, in one group or in the groups that
/// are printed on cards.
pub(crate) fn find_card(place: &Place<'_>) -> Verdict {
    let is_fraction = matches!(place.before, Some('.' | ','))
        && place.before_that.is_some_and(|character| character.is_ascii_digit());
    if !place.rest.starts_with(|first: char| first.is_ascii_digit())
        || place.before.is_some_and(|character| character.is_ascii_digit())
        || is_fraction
        || first_group(place.rest, place.last).is_some_and(|group| !matches!(group.len(), 4 | 13..=CARD_DIGITS_MAX))
    {
        return Verdict::No;
    }
    let Some(run) = read(place, place.rest) else { return Verdict::More };
    longest(&run, is_card)
}

/// Whether a telephone number begins here: an international one in any grouping, a North American one in its own, or
/// one that begins with the trunk prefix 0.
pub(crate) fn find_phone(place: &Place<'_>) -> Verdict {
    let first = place.rest.chars().next();
    let follows_number = matches!(place.before, Some('.' | ',' | '-' | '/' | ':'))
        && place.before_that.is_some_and(|character| character.is_ascii_digit());
    if !first.is_some_and(|first| first.is_ascii_digit() || first == '+' || first == '(')
        || !place.begins_word()
        || follows_number
    {
        return Verdict::No;
    }
    let digits = place.rest.trim_start_matches(['+', '(']);
    let opening = &place.rest[..place.rest.len() - digits.len()];
    if !matches!(opening, "" | "+" | "(") {
        return Verdict::No;
    }
    let may_be_national = |group: &str| group.starts_with('0') || group.len() == 3 || group == NORTH_AMERICA;
    if opening != "+" && first_group(digits, place.last).is_some_and(|group| !may_be_national(group)) {
        return Verdict::No;
    }
    let Some(run) = read(place, digits) else { return Verdict::More };
    // A parenthesis belongs to the number only around its area code.
    if opening == "(" && !run.groups.get(1).is_some_and(|group| group.separator.starts_with(')')) {
        return Verdict::No;
    }
    longest(&run, |groups| is_phone(groups, opening == "+", &run))
}

/// The first group where it is known whole: most numbers are out with it, and the rest need not be read.
fn first_group(digits: &str, last: bool) -> Option<&str> {
    let end = digits.find(|character: char| !character.is_ascii_digit());
    end.map_or(last.then_some(digits), |end| Some(&digits[..end]))
}

/// The groups that `digits`, a suffix of the place's text, begins with; `None` when more may come.
fn read<'a>(place: &Place<'a>, digits: &'a str) -> Option<Run<'a>> {
    let skipped = place.rest.len() - digits.len();
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut count = 0;
    let mut at = 0;
    loop {
        let rest = &digits[at..];
        let separator = rest
            .char_indices()
            .enumerate()
            .find(|&(number, (_, character))| {
                groups.is_empty() || number == SEPARATOR_CHARACTERS_MAX || !SEPARATORS.contains(&character)
            })
            .map(|(_, (end, _))| &rest[..end]);
        let Some(separator) = separator else {
            // Separators up to the end of what is known, or nothing at all.
            return place.last.then(|| Run { groups, next: rest.chars().next() });
        };
        let behind = &rest[separator.len()..];
        let length = behind.find(|character: char| !character.is_ascii_digit()).unwrap_or(behind.len());
        if length == 0 {
            return Some(Run { groups, next: rest.chars().next() });
        }
        if length == behind.len() && !place.last && count + length <= CARD_DIGITS_MAX {
            return None;
        }
        at += separator.len() + length;
        count += length;
        groups.push(Group { separator, digits: &behind[..length], end: skipped + at });
        // No number has this many digits: what follows decides nothing.
        if count > CARD_DIGITS_MAX {
            groups.pop();
            return Some(Run { groups, next: separator.chars().next() });
        }
    }
}

/// The longest choice of first groups that `is_match`.
fn longest(run: &Run<'_>, is_match: impl Fn(&[Group<'_>]) -> bool) -> Verdict {
    (1..=run.groups.len())
        .rev()
        .find(|&count| is_match(&run.groups[..count]))
        .map_or(Verdict::No, |count| Verdict::whole(run.groups[count - 1].end))
}

fn is_card(groups: &[Group<'_>]) -> bool {
    let sizes: Vec<usize> = groups.iter().map(|group| group.digits.len()).collect();
    let is_grouped = matches!(sizes[..], [13..=CARD_DIGITS_MAX] | [4, 4, 4, 4] | [4, 4, 4, 4, 1..=3] | [4, 6, 4 | 5]);
    let separator = groups.get(1).map_or(" ", |group| group.separator);
    is_grouped
        && matches!(separator, " " | "-" | "\u{A0}" | "\u{2011}")
        && groups.iter().skip(1).all(|group| group.separator == separator)
        // Numbers of cards begin with 2 to 6 (ISO/IEC 7812: travel, banking, merchandising).
        && groups[0].digits.starts_with(['2', '3', '4', '5', '6'])
        && luhn(groups.iter().flat_map(|group| group.digits.bytes()))
}

/// The check of ISO/IEC 7812-1, annex B.
fn luhn(digits: impl DoubleEndedIterator<Item = u8>) -> bool {
    let sum: u32 = digits
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            match (place % 2, digit * 2) {
                (0, _) => digit,
                (_, doubled @ 10..) => doubled - 9,
                (_, doubled) => doubled,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

fn is_phone(groups: &[Group<'_>], is_international: bool, run: &Run<'_>) -> bool {
    // A number that runs into letters is part of a name.
    if groups.len() == run.groups.len() && run.next.is_some_and(goes_on) {
        return false;
    }
    let count: usize = groups.iter().map(|group| group.digits.len()).sum();
    if is_international {
        return (8..=PHONE_DIGITS_MAX).contains(&count);
    }
    let first = groups[0].digits.as_bytes();
    let is_trunk = match first {
        [b'0', b'0', third, ..] => *third != b'0' && (10..=PHONE_DIGITS_MAX).contains(&count),
        [b'0', second, ..] => *second != b'0' && (9..=12).contains(&count) && is_evenly_parted(&groups[1..]),
        _ => false,
    };
    is_trunk || is_north_american(groups)
}

/// The area code may be parted in its own way; dates with a time behind them are not.
fn is_evenly_parted(groups: &[Group<'_>]) -> bool {
    groups.iter().skip(1).all(|group| group.separator == groups[1].separator)
}

/// The country code.
const NORTH_AMERICA: &str = "1";

/// 3-3-4 with an optional country code 1; neither area nor exchange begins with 0 or 1.
fn is_north_american(groups: &[Group<'_>]) -> bool {
    let national = match groups {
        [country, national @ ..] if country.digits == NORTH_AMERICA => national,
        national => national,
    };
    let [area, exchange, line] = national else { return false };
    (area.digits.len(), exchange.digits.len(), line.digits.len()) == (3, 3, 4)
        && [area, exchange].iter().all(|group| !group.digits.starts_with(['0', '1']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rest: &str, last: bool) -> Place<'_> {
        Place { rest, before: None, before_that: None, last }
    }

    fn card(text: &str, expected: usize) {
        let expected = if expected == 0 { Verdict::No } else { Verdict::whole(expected) };
        assert_eq!(find_card(&at(text, true)), expected, "{text:?}");
    }

    fn phone(text: &str, expected: usize) {
        let expected = if expected == 0 { Verdict::No } else { Verdict::whole(expected) };
        assert_eq!(find_phone(&at(text, true)), expected, "{text:?}");
    }

    #[test]
    fn cards_need_their_check_digit() {
        card("4111111111111111", 16);
        card("4111 1111 1111 1111 12/25", 19);
        card("4111-1111-1111-1111.", 19);
        card("3782 822463 10005", 17);
        card("4111111111111112", 0);
        card("4111 1111-1111 1111", 0);
        card("41111111111111111111", 0);
        card("12 4111", 0);
    }

    #[test]
    fn a_fraction_is_no_card() {
        let place = Place { rest: "4111111111111111", before: Some('.'), before_that: Some('0'), last: true };
        assert_eq!(find_card(&place), Verdict::No);
    }

    #[test]
    fn telephone_numbers_of_several_habits() {
        phone("+49 (0) 30 1234567, please", 18);
        phone("+14155550123", 12);
        phone("(415) 555-2671 today", 14);
        phone("415-555-2671", 12);
        phone("1-415-555-2671", 14);
        phone("01 23 45 67 89", 14);
        phone("030/1234567", 11);
        phone("0049 30 1234567", 15);
    }

    #[test]
    fn other_numbers_stay() {
        for text in [
            "2024-01-15 10:30",
            "01/02/2024",
            "01.02.2024 12:30",
            "0.123456789",
            "192.168.100.200",
            "1234567890",
            "978-3-16-148410-0",
            "3.14159265358",
            "1 000 000 000",
            "0151-2345678abc",
        ] {
            phone(text, 0);
        }
    }

    #[test]
    fn more_digits_decide() {
        assert_eq!(find_card(&at("4111 1111 1111 111", false)), Verdict::More);
        assert_eq!(find_card(&at("4111 1111 1111 1111", false)), Verdict::More);
        assert_eq!(find_card(&at("4111 1111 1111 1111 ", false)), Verdict::More);
        assert_eq!(find_card(&at("4111 1111 1111 1111 w", false)), Verdict::whole(19));
        assert_eq!(find_phone(&at("(415) 555-2671", false)), Verdict::More);
        assert_eq!(find_phone(&at("+", false)), Verdict::More);
    }
}
