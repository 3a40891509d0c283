//! E-mail addresses.

use crate::limits::{EMAIL_DOMAIN_CHARACTERS_MAX, EMAIL_LOCAL_CHARACTERS_MAX};
use crate::place::{Place, Verdict, goes_on};

/// What an answer holds for besides the place itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) verdict: Verdict,
    /// Bytes from the place on in which no address begins either.
    pub(crate) ruled_out: usize,
}

/// Whether an address begins here. It may begin anywhere: the first place from which an `@` is near enough wins, so
/// that a run of letters longer than any address still loses its last 64.
pub(crate) fn find(place: &Place<'_>) -> Found {
    let no = |ruled_out| Found { verdict: Verdict::No, ruled_out };
    let end = place.rest.find(|character| !is_local(character)).unwrap_or(place.rest.len());
    let run = &place.rest[..end];
    // Places from here on are near enough to what ends the run.
    let near = run.char_indices().rev().nth(EMAIL_LOCAL_CHARACTERS_MAX - 1).map_or(0, |(near, _)| near);
    let at = match place.rest[end..].chars().next() {
        Some('@') if end > 0 && near == 0 => end,
        Some('@') | None if near > 0 => return no(near),
        None => return Found { verdict: place.undecided(), ruled_out: end },
        Some(_) => return no(end),
    };
    let behind = &place.rest[at + 1..];
    let domain = match behind
        .char_indices()
        .enumerate()
        .find(|&(count, (_, character))| count == EMAIL_DOMAIN_CHARACTERS_MAX || !is_domain(character))
    {
        Some((_, (end, _))) => &behind[..end],
        None if place.last => behind,
        // "joe@example.or" may go on with "g".
        None => return Found { verdict: Verdict::More, ruled_out: 0 },
    };
    let verdict = domain_length(domain).map_or(Verdict::No, |length| Verdict::whole(at + 1 + length));
    Found { verdict, ruled_out: at }
}

/// Bytes of the longest host name with a dot and a top level that `run` begins with.
fn domain_length(run: &str) -> Option<usize> {
    let mut longest = None;
    let mut start = 0;
    for (number, label) in run.split('.').enumerate() {
        let top_level = label.find(|character: char| !character.is_alphabetic()).unwrap_or(label.len());
        if number > 0 {
            if label.starts_with("xn--") {
                longest = Some(start + label.trim_end_matches('-').len());
            } else if label[..top_level].chars().count() >= 2 {
                longest = Some(start + top_level);
            }
        }
        if label.is_empty() {
            break;
        }
        start += label.len() + 1;
    }
    longest
}

fn is_local(character: char) -> bool {
    goes_on(character) || matches!(character, '.' | '_' | '%' | '+' | '-')
}

fn is_domain(character: char) -> bool {
    goes_on(character) || matches!(character, '.' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rest: &str, last: bool, expected: Verdict) {
        assert_eq!(find(&Place { rest, before: None, before_that: None, last }).verdict, expected, "{rest:?}");
    }

    #[test]
    fn addresses_end_where_the_host_name_does() {
        for (text, address) in [
            ("joe@example.org", "joe@example.org"),
            ("joe@example.org.", "joe@example.org"),
            ("joe.b+x@mail.example.co.uk, and", "joe.b+x@mail.example.co.uk"),
            ("joe@example.org-based", "joe@example.org"),
            ("joe@example.org.2", "joe@example.org"),
            ("josé@exämple.org!", "josé@exämple.org"),
            ("joe@xn--exmple-cua.xn--p1ai>", "joe@xn--exmple-cua.xn--p1ai"),
        ] {
            check(text, true, Verdict::whole(address.len()));
        }
    }

    #[test]
    fn what_has_no_host_name_is_no_address() {
        for text in ["joe", "joe@", "@joe", "joe@home", "joe@1.2", "joe@.org", "joe@x.y z", "a@@b.org", ""] {
            check(text, true, Verdict::No);
        }
    }

    #[test]
    fn what_may_go_on_is_not_decided() {
        for text in
            ["j", "joe", "joe@", "joe@example", "joe@example.", "joe@example.or", "joe@example.org", "joe@x.org-"]
        {
            check(text, false, Verdict::More);
        }
        check("joe@example.org ", false, Verdict::whole(15));
    }

    #[test]
    fn long_runs_are_not_held() {
        check(&"a".repeat(65), false, Verdict::No);
        check(&format!("joe@{}.org", "a".repeat(255)), false, Verdict::No);
        check(&format!("joe@a.org.{}", "a".repeat(255)), false, Verdict::whole(4 + 255));
    }
}
