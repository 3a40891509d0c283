//! Text of a server, made safe to show: short, without control characters, and without our token.

use url::Url;

use crate::limits::SHOWN_CHARS_MAX;
use crate::token::{Token, percent_decoded};

/// A server's text for people and logs.
pub(crate) fn shown(text: &str, token: Option<&Token>) -> String {
    // First what could split or hide the token, then the token, then the length: no order else leaves no trace of it.
    let text = match (token, visible(text)) {
        (None, text) => text,
        (Some(token), text) => {
            let decoded = visible(&percent_decoded(&text));
            token.redacted(if token.is_in(&decoded) { &decoded } else { &text })
        }
    };
    let text = text.trim();
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn visible(text: &str) -> String {
    let spaced = text.chars().map(|char| if char.is_whitespace() { ' ' } else { char });
    spaced.filter(|&char| is_visible(char)).collect()
}

/// An address without query, fragment and credentials: what is signed or secret stays out.
pub(crate) fn shown_url(url: &Url, token: Option<&Token>) -> String {
    shown(&format!("{}{}", url.origin().ascii_serialization(), url.path()), token)
}

/// Not a control character, and not one of those that turn the direction of what follows or hide it.
fn is_visible(char: char) -> bool {
    !char.is_control()
        && !matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::parse("hf_canary").expect("sound").expect("not empty")
    }

    #[test]
    fn a_servers_text_cannot_steer_the_terminal_or_fill_the_log() {
        assert_eq!(shown("a\u{1b}[31mb\r\nc\u{202e}d\0", None), "a[31mb  cd");
        let long = shown(&"x".repeat(100_000), None);
        assert_eq!(long.chars().count(), SHOWN_CHARS_MAX + 1);
    }

    // R3
    #[test]
    fn an_echoed_token_is_not_shown_however_it_is_hidden() {
        assert_eq!(shown("Bearer hf_canary is bad", Some(&token())), "Bearer (token) is bad");
        assert_eq!(shown("hf_\u{200b}can\u{1}ary", Some(&token())), "(token)");
        assert_eq!(shown("/100%25/%68f%5F%1bcanary", Some(&token())), "/100%/(token)");
        assert_eq!(shown("/100%25/%68f", Some(&token())), "/100%25/%68f");
        let at_the_cut = format!("{}hf_canary", "x".repeat(SHOWN_CHARS_MAX - 4));
        assert!(!shown(&at_the_cut, Some(&token())).contains("hf_"));
    }

    #[test]
    fn an_address_is_shown_without_its_signature() {
        let url = Url::parse("https://me:pw@cdn.example:444/a%20b?Signature=secret#x").expect("a URL");
        assert_eq!(shown_url(&url, None), "https://cdn.example:444/a%20b");
    }
}
