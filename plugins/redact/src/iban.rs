//! International bank account numbers (ISO 13616).

use crate::place::{Place, Verdict, goes_on};

/// Country and length, from the SWIFT registry.
const COUNTRIES: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BI", 27),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DJ", 27),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FK", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HN", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MN", 20),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NI", 28),
    ("NL", 18),
    ("NO", 15),
    ("OM", 23),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("RU", 33),
    ("SA", 24),
    ("SC", 31),
    ("SD", 18),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("SO", 23),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
    ("YE", 30),
];

/// Whether an account number begins here, in one piece or in groups.
pub(crate) fn find(place: &Place<'_>) -> Verdict {
    if !place.begins_word() || !place.rest.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Verdict::No;
    }
    // On the stack: this runs at every word.
    let mut signs = Signs { bytes: [0; LENGTH_MAX], count: 0 };
    let mut wanted = None;
    let mut was_separator = false;
    for (at, character) in place.rest.char_indices() {
        if wanted == Some(signs.count) {
            // Complete, unless it goes on.
            let is_whole = !goes_on(character) && mod_97(signs.all()) == 1;
            return if is_whole { Verdict::whole(at) } else { Verdict::No };
        }
        let is_separator = matches!(character, ' ' | '-' | '\u{A0}');
        if is_separator && !was_separator && signs.count >= 4 {
            was_separator = true;
            continue;
        }
        was_separator = false;
        let fits = match signs.count {
            0 | 1 => character.is_ascii_alphabetic(),
            2 | 3 => character.is_ascii_digit(),
            _ => character.is_ascii_alphanumeric(),
        };
        if !fits {
            return Verdict::No;
        }
        signs.push(character);
        if signs.count == 4 {
            wanted = COUNTRIES.iter().find(|(code, _)| code.as_bytes() == &signs.bytes[..2]).map(|(_, length)| *length);
            if wanted.is_none() {
                return Verdict::No;
            }
        }
    }
    match wanted {
        Some(wanted) if place.last && signs.count == wanted && !was_separator && mod_97(signs.all()) == 1 => {
            Verdict::whole(place.rest.len())
        }
        _ => place.undecided(),
    }
}

/// The longest account number that ISO 13616 allows.
const LENGTH_MAX: usize = 34;

/// Letters in upper case, and digits.
struct Signs {
    bytes: [u8; LENGTH_MAX],
    count: usize,
}

impl Signs {
    fn push(&mut self, character: char) {
        self.bytes[self.count] = u8::try_from(character.to_ascii_uppercase()).unwrap_or(b'?');
        self.count += 1;
    }

    fn all(&self) -> &[u8] {
        &self.bytes[..self.count]
    }
}

/// ISO 7064: the first four signs go to the end, letters count from 10, and the remainder must be 1.
fn mod_97(signs: &[u8]) -> u32 {
    let (check, account) = signs.split_at(4);
    account.iter().chain(check).fold(0, |remainder, &sign| match sign {
        b'0'..=b'9' => (remainder * 10 + u32::from(sign - b'0')) % 97,
        _ => (remainder * 100 + u32::from(sign - b'A') + 10) % 97,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rest: &str, last: bool, expected: Verdict) {
        assert_eq!(find(&Place { rest, before: None, before_that: None, last }), expected, "{rest:?}");
    }

    #[test]
    fn account_numbers_in_one_piece_and_in_groups() {
        check("DE89370400440532013000", true, Verdict::whole(22));
        check("DE89 3704 0044 0532 0130 00 is mine", false, Verdict::whole(27));
        check("gb82 WEST 1234 5698 7654 32.", false, Verdict::whole(27));
    }

    #[test]
    fn wrong_check_digits_and_lengths_stay() {
        check("DE88370400440532013000", true, Verdict::No);
        check("DE893704004405320130001", true, Verdict::No);
        check("XX89370400440532013000", true, Verdict::No);
        check("depends", false, Verdict::No);
    }

    #[test]
    fn it_is_decided_by_what_follows() {
        check("DE89 3704 0044 0532 0130 0", false, Verdict::More);
        check("DE89 3704 0044 0532 0130 00", false, Verdict::More);
    }
}
