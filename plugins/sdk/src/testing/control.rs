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

/// Masks, tokens named by number and tokens forced that the host takes at once.
const MASKS_MAX: usize = 64;
const TOKEN_IDS_MAX: usize = 16_384;
const FORCED_TOKENS_MAX: usize = 1_024;

/// Tokens of an answer: those of a long context. Whoever forces more would force for ever.
const TOKENS_MAX: usize = 131_072;

/// Lets a model that wants to write `wanted` write under control: where it must not, it takes the first token that is allowed, and
/// goes on with what it wanted next. It ends behind the last token wanted, unless the controller ends it before.
///
/// # Panics
/// Where the host would call it a fault: a token that is not in the vocabulary, a mask of another length, more than it takes at
/// once, nothing allowed; and where tokens are forced without end.
pub fn write<P: TokenControl>(plugin: &mut P, prompt: &str, wanted: &str) -> Result<Written> {
    let size = model::describe().vocab_size;
    let mut controller = plugin.open(&call(), 0, model::tokenize(prompt, true), size)?;
    let masks: Vec<Vec<u32>> = plugin.masks(&mut controller).into_iter().map(TokenMask::into_words).collect();
    assert!(masks.len() <= MASKS_MAX, "{} masks; {MASKS_MAX} are taken", masks.len());
    for mask in &masks {
        check_mask(mask, size);
    }
    let mut wanted = model::tokenize(wanted, false).into_iter().peekable();
    let (mut written, mut told) = (Written::default(), 0);
    while wanted.peek().is_some() {
        let constraint = plugin.step(&mut controller, &written.tokens[told..])?;
        (told, written.steps) = (written.tokens.len(), written.steps + 1);
        assert!(told <= TOKENS_MAX, "{told} tokens, and the controller still forces more");
        let mut take = |is_allowed: &dyn Fn(u32) -> bool| {
            let first =
                wanted.next().filter(|&token| is_allowed(token)).or_else(|| (0..size).find(|&it| is_allowed(it)));
            written.tokens.push(first.unwrap_or_else(|| panic!("no token is allowed behind {:?}", written.tokens)));
        };
        match constraint {
            Constraint::Free => take(&|_| true),
            Constraint::FreeFor(count) => {
                written.tokens.extend(wanted.by_ref().take(count.max(1) as usize));
            }
            Constraint::Fixed(number) => {
                let mask = masks.get(number as usize);
                let mask = mask.unwrap_or_else(|| panic!("mask {number} of {}", masks.len()));
                take(&|token| has(mask, token));
            }
            Constraint::Allow(tokens) => {
                check(&tokens, TOKEN_IDS_MAX, size);
                take(&|token| tokens.contains(&token));
            }
            Constraint::Deny(tokens) => {
                check(&tokens, TOKEN_IDS_MAX, size);
                take(&|token| !tokens.contains(&token));
            }
            Constraint::Mask(words) => {
                check_mask(&words, size);
                take(&|token| has(&words, token));
            }
            Constraint::Bias(biases) => {
                check(&biases.iter().map(|bias| bias.token).collect::<Vec<_>>(), TOKEN_IDS_MAX, size);
                assert!(biases.iter().all(|bias| bias.delta.abs() <= 100.0), "{biases:?} is more than 100");
                take(&|token| !biases.iter().any(|bias| bias.token == token && bias.delta <= -100.0));
            }
            Constraint::Force(tokens) => {
                check(&tokens, FORCED_TOKENS_MAX, size);
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

fn has(words: &[u32], token: u32) -> bool {
    words[(token / u32::BITS) as usize] >> (token % u32::BITS) & 1 == 1
}

fn check(tokens: &[u32], most: usize, size: u32) {
    assert!(tokens.len() <= most, "{} tokens by number; {most} are taken at once", tokens.len());
    let unknown = tokens.iter().find(|&&token| token >= size);
    assert_eq!(unknown, None, "the vocabulary has {size} tokens");
}

fn check_mask(words: &[u32], size: u32) {
    assert_eq!(words.len(), size.div_ceil(u32::BITS) as usize, "words of a mask of {size} tokens");
    assert!((0..size).any(|token| has(words, token)), "a mask allows no token");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Call;
    use crate::{Context, Plugin};

    /// Says what it was made of, again and again.
    struct Says(Vec<Constraint>, usize);

    impl Plugin for Says {
        fn new(_cx: &Context) -> Result<Self> {
            Ok(Self(Vec::new(), 0))
        }
    }

    impl TokenControl for Says {
        type Controller = ();

        fn open(&mut self, _call: &Call, _choice: u32, _prompt: Vec<u32>, _vocab_size: u32) -> Result<()> {
            Ok(())
        }

        fn step(&mut self, _controller: &mut (), _appended: &[u32]) -> Result<Constraint> {
            self.1 += 1;
            Ok(self.0[(self.1 - 1) % self.0.len()].clone())
        }
    }

    fn written(says: &[Constraint]) -> Written {
        write(&mut Says(says.to_vec(), 0), "prompt", "abc").expect("it is sound")
    }

    #[test]
    fn what_is_free_for_longer_ends_with_what_is_wanted() {
        for count in [0, 2, 3, 4, u32::MAX] {
            assert_eq!(written(&[Constraint::FreeFor(count)]).text, "abc", "{count}");
        }
        assert_eq!(written(&[Constraint::FreeFor(2)]).steps, 2);
    }

    #[test]
    fn what_the_host_does_not_take_is_a_panic() {
        for says in [
            Constraint::Force(vec![97; FORCED_TOKENS_MAX + 1]),
            Constraint::Allow(vec![97; TOKEN_IDS_MAX + 1]),
            Constraint::Fixed(0),
            Constraint::Mask(vec![u32::MAX]),
            // For ever.
            Constraint::Force(vec![97]),
        ] {
            let shown = format!("{says:?}");
            let panic = std::panic::catch_unwind(|| written(&[says]));
            assert!(panic.is_err(), "{shown:.60}");
        }
    }
}
