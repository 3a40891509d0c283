//! Drives a controller of tokens as the host does, and checks it as the host does.

use crate::testing::call;
use crate::{Constraint, Result, TokenControl, TokenMask, model};

/// What became of an answer under control.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// What they spell.
    pub text: String,
    /// Whether the controller ended it.
    pub is_stopped: bool,
    /// Steps that were taken.
    pub steps: usize,
}

/// Lets a model that wants to write `wanted` write under control: where it must not, it takes the first token that is allowed, and
/// goes on with what it wanted next. It ends behind the last token wanted, unless the controller ends it before.
///
/// # Panics
/// Where the host would call it a fault: a token that is not in the vocabulary, a mask of another length, nothing allowed.
pub fn write<P: TokenControl>(plugin: &mut P, prompt: &str, wanted: &str) -> Result<Written> {
    let size = model::describe().vocab_size;
    let mut controller = plugin.open(&call(), 0, model::tokenize(prompt, true), size)?;
    let masks: Vec<Vec<u32>> = plugin.masks(&mut controller).into_iter().map(TokenMask::into_words).collect();
    let mut wanted = model::tokenize(wanted, false).into_iter().peekable();
    let (mut written, mut told) = (Written::default(), 0);
    while wanted.peek().is_some() {
        let constraint = plugin.step(&mut controller, &written.tokens[told..])?;
        (told, written.steps) = (written.tokens.len(), written.steps + 1);
        let left = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        let mut take = |is_allowed: &dyn Fn(u32) -> bool| {
            let first =
                wanted.next().filter(|&token| is_allowed(token)).or_else(|| (0..size).find(|&it| is_allowed(it)));
            written.tokens.push(first.unwrap_or_else(|| panic!("no token is allowed behind {:?}", written.tokens)));
        };
        let check = |tokens: &[u32]| {
            let unknown = tokens.iter().find(|&&token| token >= size);
            assert_eq!(unknown, None, "the vocabulary has {size} tokens");
        };
        let has = |words: &[u32], token: u32| words[(token / 32) as usize] >> (token % 32) & 1 == 1;
        match constraint {
            Constraint::Free => take(&|_| true),
            Constraint::FreeFor(count) => (0..count.clamp(1, left)).for_each(|_| take(&|_| true)),
            Constraint::Fixed(number) => take(&|token| has(&masks[number as usize], token)),
            Constraint::Allow(tokens) => {
                check(&tokens);
                take(&|token| tokens.contains(&token));
            }
            Constraint::Deny(tokens) => {
                check(&tokens);
                take(&|token| !tokens.contains(&token));
            }
            Constraint::Mask(words) => {
                assert_eq!(words.len(), size.div_ceil(u32::BITS) as usize, "words of a mask of {size} tokens");
                take(&|token| has(&words, token));
            }
            Constraint::Bias(biases) => {
                check(&biases.iter().map(|bias| bias.token).collect::<Vec<_>>());
                assert!(biases.iter().all(|bias| bias.delta.abs() <= 100.0), "{biases:?} is more than 100");
                take(&|token| !biases.iter().any(|bias| bias.token == token && bias.delta <= -100.0));
            }
            Constraint::Force(tokens) => {
                check(&tokens);
                assert!(!tokens.is_empty(), "no token is forced");
                written.tokens.extend(tokens);
            }
            Constraint::Stop => {
                written.is_stopped = true;
                break;
            }
        }
    }
    let table = model::vocabulary();
    let piece = |&token: &u32| {
        let at = token as usize;
        &table.bytes[table.offsets[at] as usize..table.offsets[at + 1] as usize]
    };
    let bytes: Vec<u8> = written.tokens.iter().flat_map(piece).copied().collect();
    written.text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(written)
}
