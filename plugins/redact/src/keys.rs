//! Keys: what a program signs in with. Recognised by how they begin; as soon as enough of one is there it is masked,
//! and the rest is dropped as it comes.

use crate::limits::{JWT_HEADER_CHARACTERS_MAX, PEM_LABEL_CHARACTERS_MAX};
use crate::place::{Place, Verdict};
use crate::tail::Alphabet::{self, Alphanumeric, Base64Url, CapitalsAndDigits};
use crate::tail::Tail;

/// A format of keys with a beginning of its own.
struct Format {
    begins: &'static str,
    alphabet: Alphabet,
    /// Characters behind the beginning from which on it is a key.
    least: usize,
    /// Whether a digit or capital must be among them: words can look like this, random characters always have one.
    is_mixed: bool,
}

const fn format(begins: &'static str, alphabet: Alphabet, least: usize) -> Format {
    Format { begins, alphabet, least, is_mixed: false }
}

const FORMATS: &[Format] = &[
    // OpenAI, Anthropic and everybody who imitates them; `sk-` also begins names in programs.
    Format { begins: "sk-", alphabet: Base64Url, least: 20, is_mixed: true },
    // GitHub
    format("ghp_", Alphanumeric, 36),
    format("gho_", Alphanumeric, 36),
    format("ghu_", Alphanumeric, 36),
    format("ghs_", Alphanumeric, 36),
    format("ghr_", Alphanumeric, 36),
    format("github_pat_", Base64Url, 22),
    // GitLab
    format("glpat-", Base64Url, 20),
    // AWS access key identifiers
    format("AKIA", CapitalsAndDigits, 16),
    format("ASIA", CapitalsAndDigits, 16),
    // Hugging Face
    format("hf_", Alphanumeric, 30),
    // Slack
    format("xoxa-", Base64Url, 10),
    format("xoxb-", Base64Url, 10),
    format("xoxp-", Base64Url, 10),
    format("xoxr-", Base64Url, 10),
    format("xoxs-", Base64Url, 10),
    // Google
    format("AIza", Base64Url, 35),
    // Stripe
    format("sk_live_", Alphanumeric, 16),
    format("rk_live_", Alphanumeric, 16),
    // npm
    format("npm_", Alphanumeric, 36),
];

/// Whether a key begins here.
pub(crate) fn find(place: &Place<'_>) -> Verdict {
    if place.rest.starts_with('-') {
        return if place.before == Some('-') { Verdict::No } else { find_pem(place) };
    }
    if !place.begins_word() {
        return Verdict::No;
    }
    let Some(first) = place.rest.as_bytes().first() else { return Verdict::No };
    let mut verdict = find_jwt(place);
    for format in FORMATS.iter().filter(|format| format.begins.as_bytes().first() == Some(first)) {
        match find_format(place, format) {
            Verdict::No => {}
            found => verdict = found,
        }
    }
    verdict
}

fn find_format(place: &Place<'_>, format: &Format) -> Verdict {
    let Some(body) = place.rest.strip_prefix(format.begins) else {
        return if format.begins.starts_with(place.rest) { place.undecided() } else { Verdict::No };
    };
    let mut is_mixed = false;
    let mut count = 0;
    for (at, character) in body.char_indices() {
        if !format.alphabet.has(character) {
            return Verdict::No;
        }
        is_mixed |= character.is_ascii_digit() || character.is_ascii_uppercase();
        count += 1;
        if count == format.least {
            let length = format.begins.len() + at + character.len_utf8();
            let is_key = is_mixed || !format.is_mixed;
            return if is_key {
                Verdict::Match { length, tail: Some(Tail::Key(format.alphabet)) }
            } else {
                Verdict::No
            };
        }
    }
    place.undecided()
}

/// A JSON Web Token: header and payload are JSON objects, which base64 turns into `eyJ…`.
fn find_jwt(place: &Place<'_>) -> Verdict {
    const OBJECT: &str = "eyJ";
    let Some(header) = place.rest.strip_prefix(OBJECT) else {
        return if OBJECT.starts_with(place.rest) { place.undecided() } else { Verdict::No };
    };
    let Some(end) = header.find(|character| !Base64Url.has(character)) else {
        return if header.len() > JWT_HEADER_CHARACTERS_MAX { Verdict::No } else { place.undecided() };
    };
    let Some(payload) = header[end..].strip_prefix('.').filter(|_| end <= JWT_HEADER_CHARACTERS_MAX) else {
        return Verdict::No;
    };
    if payload.starts_with(OBJECT) {
        Verdict::Match { length: OBJECT.len() + end + 1 + OBJECT.len(), tail: Some(Tail::Jwt) }
    } else if OBJECT.starts_with(payload) {
        place.undecided()
    } else {
        Verdict::No
    }
}

/// The first line of a private key; the key follows.
fn find_pem(place: &Place<'_>) -> Verdict {
    const BEGINS: &str = "-----BEGIN ";
    const DASHES: &str = "-----";
    let Some(label) = place.rest.strip_prefix(BEGINS) else {
        return if BEGINS.starts_with(place.rest) { place.undecided() } else { Verdict::No };
    };
    let is_part = |character: char| CapitalsAndDigits.has(character) || character == ' ';
    let Some(end) = label.find(|character| !is_part(character)) else {
        return if label.len() > PEM_LABEL_CHARACTERS_MAX { Verdict::No } else { place.undecided() };
    };
    if end > PEM_LABEL_CHARACTERS_MAX || !label[..end].contains("PRIVATE KEY") {
        return Verdict::No;
    }
    let behind = &label[end..];
    if behind.starts_with(DASHES) {
        Verdict::Match { length: BEGINS.len() + end + DASHES.len(), tail: Some(Tail::PEM) }
    } else if DASHES.starts_with(behind) {
        place.undecided()
    } else {
        Verdict::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rest: &str, last: bool, expected: Verdict) {
        assert_eq!(find(&Place { rest, before: None, before_that: None, last }), expected, "{rest:?}");
    }

    fn key(length: usize, alphabet: Alphabet) -> Verdict {
        Verdict::Match { length, tail: Some(Tail::Key(alphabet)) }
    }

    #[test]
    fn a_key_is_one_as_soon_as_enough_of_it_is_there() {
        check("sk-proj-AbCdEfGhIjKlMnOpQr", false, key(23, Base64Url));
        check("AKIAIOSFODNN7EXAMPLE", false, key(20, CapitalsAndDigits));
        check(&format!("ghp_{}", "a1".repeat(18)), false, key(40, Alphanumeric));
        check("hf_abcdefghij", false, Verdict::More);
        check("gith", false, Verdict::More);
    }

    #[test]
    fn words_are_no_keys() {
        check("sk-toggleable__label-arrow", true, Verdict::No);
        check("sk-learn", true, Verdict::No);
        check("hf_hub_download", true, Verdict::No);
        check("AKIAIOSFODNN", true, Verdict::No);
        let inside = Place { rest: "sk-AAAAAAAAAAAAAAAAAAAAAAAA", before: Some('a'), before_that: None, last: true };
        assert_eq!(find(&inside), Verdict::No);
    }

    #[test]
    fn a_token_needs_header_and_payload() {
        let header = "eyJhbGciOiJIUzI1NiJ9";
        check(&format!("{header}.eyJzdWIi"), false, Verdict::Match { length: 24, tail: Some(Tail::Jwt) });
        check(&format!("{header}.ey"), false, Verdict::More);
        check(&format!("{header}. eyJ"), false, Verdict::No);
        check(&"eyJ".repeat(400), false, Verdict::No);
    }

    #[test]
    fn private_keys_but_not_public_ones() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"] {
            let line = format!("-----BEGIN {label}-----");
            check(&line, false, Verdict::Match { length: line.len(), tail: Some(Tail::PEM) });
        }
        check("-----BEGIN CERTIFICATE-----", false, Verdict::No);
        check("-----BEG", false, Verdict::More);
        check("- a list", false, Verdict::No);
    }
}
