use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use inference::{CompiledGrammar, Grammar, TokenMask};
use proptest::prelude::*;

use super::*;
use crate::fake::{END, FakeVocabulary};

/// Tokens are bytes, and every token's log probability is its number below 0.
fn sampled(token: u32) -> Sampled {
    let logprob = -(token as f32);
    let logprobs = Some(RawLogprobs { sampled: logprob, top: vec![(Token(token), logprob), (END, -300.0)] });
    Sampled { token: Token(token), logprobs }
}

fn request() -> GenerationRequest {
    GenerationRequest {
        id: RequestId::new("test"),
        prompt: vec![Token(0)],
        sampling: Sampling::default(),
        max_tokens: 1000,
        stop: Vec::new(),
        stop_tokens: Vec::new(),
        marks: Vec::new(),
        grammar: None,
        control: None,
        logprobs: Some(2),
        ignore_end: false,
    }
}

/// What a completion of these tokens comes to.
#[derive(Debug, Default, PartialEq)]
struct Said {
    /// The pieces of text, each with the bytes of its tokens.
    pieces: Vec<(String, Vec<u8>)>,
    finish: Option<Finish>,
    fault: Option<EngineFault>,
    tokens_taken: usize,
}

fn run(request: GenerationRequest, tokens: &[u32]) -> Said {
    let now = Instant::now();
    let (max_tokens, has_logprobs) = (request.max_tokens, request.logprobs.is_some());
    let (Submission { mut sequence, .. }, mut generation) = Submission::new(request, 1, max_tokens, 4096, now);
    sequence.admit(now, 0);
    let mut said = Said::default();
    let mut end = None;
    for &token in tokens {
        said.tokens_taken += 1;
        let taken = sequence.choice().map(drop);
        let taken = taken.and_then(|()| {
            let Sampled { token, logprobs } = sampled(token);
            let sampled = Sampled { token, logprobs: logprobs.filter(|_| has_logprobs) };
            sequence.take(sampled, &FakeVocabulary, &mut Vec::new(), now)
        });
        sequence.flush();
        match taken {
            Ok(None) => {}
            taken => {
                end = Some(taken);
                break;
            }
        }
    }
    match end {
        Some(Ok(finish)) => sequence.finish(finish.expect("it has ended"), now),
        Some(Err(fault)) => sequence.fail(fault),
        // The test gave no more tokens.
        None => drop(sequence),
    }
    while let Poll::Ready(event) = pin!(generation.next()).poll(&mut Context::from_waker(Waker::noop())) {
        match event {
            GenerationEvent::Piece { text, logprobs, .. } => {
                let check = |token: &TokenLogprobs| {
                    let [byte] = token.sampled.bytes[..] else { panic!("a token is a byte") };
                    assert_eq!(token.sampled.logprob.to_bits(), (-f32::from(byte)).to_bits());
                    assert_eq!((&token.top[0], token.top[1].bytes.len()), (&token.sampled, 0));
                    byte
                };
                said.pieces.push((text, logprobs.iter().map(check).collect()));
            }
            GenerationEvent::Finished(completion) => {
                said.finish = Some(completion.finish);
                break;
            }
            GenerationEvent::Failed(fault) => {
                said.fault = Some(fault);
                break;
            }
        }
    }
    said
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

fn check(stop: &[&str], text: &str, expected: &[(&str, &str)]) {
    let stop = stop.iter().map(|&text| text.to_owned()).collect();
    let tokens: Vec<u32> = bytes(text).into_iter().chain([END.0]).collect();
    let pieces = run(GenerationRequest { stop, ..request() }, &tokens).pieces;
    let pieces: Vec<(&str, &str)> =
        pieces.iter().map(|(text, tokens)| (text.as_str(), std::str::from_utf8(tokens).unwrap())).collect();
    assert_eq!(pieces, expected);
}

#[test]
fn control_tokens_are_text_where_they_are_marks() {
    // No byte, and so no text.
    const CONTROL: u32 = 300;
    let tokens = [u32::from(b'a'), CONTROL, u32::from(b'b'), END.0];
    let plain = || GenerationRequest { logprobs: None, ..request() };
    let text = |request| run(request, &tokens).pieces.into_iter().map(|(text, _)| text).collect::<String>();
    assert_eq!(text(plain()), "ab");
    let marks = vec![Mark { token: Token(CONTROL), text: "[CALL]".to_owned() }];
    assert_eq!(text(GenerationRequest { marks: marks.clone(), ..plain() }), "a[CALL]b");
    let stop = vec!["L]b".to_owned()];
    assert_eq!(text(GenerationRequest { marks: marks.clone(), stop, ..plain() }), "a[CAL", "as any other text");
    // Log probabilities spell the token as the text does.
    let marks = vec![Mark { text: "!".to_owned(), ..marks[0].clone() }];
    let raw = RawLogprobs { sampled: -1.0, top: vec![(Token(CONTROL), -1.0)] };
    let told = spelled(Token(CONTROL), &raw, &marks, &FakeVocabulary);
    assert_eq!((told.sampled.bytes.as_slice(), told.top[0].bytes.as_slice()), (&b"!"[..], &b"!"[..]));
}

#[test]
fn every_piece_has_the_tokens_that_it_is_made_of() {
    check(&[], "abc", &[("a", "a"), ("b", "b"), ("c", "c")]);
    check(&[], "aé😀", &[("a", "a"), ("é", "é"), ("😀", "😀")]);
    // What might have become a stop text comes with its tokens when it does not.
    check(&["bcd"], "abcx", &[("a", "a"), ("bcx", "bcx")]);
    check(&["bcd"], "abc", &[("a", "a"), ("bc", "bc")]);
    check(&["éx"], "aéy", &[("a", "a"), ("éy", "éy")]);
}

#[test]
fn tokens_that_a_stop_text_cuts_off_are_dropped() {
    check(&["cd"], "abcde", &[("a", "a"), ("b", "b")]);
    // The text before it was held back too.
    check(&["abcx", "bcd"], "abcd", &[("a", "a")]);
}

#[test]
fn half_a_character_belongs_to_what_it_becomes() {
    // The first byte is no text until the second has shown that it never will be.
    let said = run(request(), &[0xE2, u32::from(b'x'), END.0]);
    assert_eq!(said.pieces, [("\u{FFFD}x".to_owned(), vec![0xE2, b'x'])]);
    let said = run(request(), &[u32::from(b'a'), 0xF0, 0x9F, END.0]);
    assert_eq!(said.pieces, [("a".to_owned(), vec![b'a']), ("\u{FFFD}".to_owned(), vec![0xF0, 0x9F])]);
}

#[test]
fn who_does_not_ask_is_not_told() {
    let now = Instant::now();
    let silent = GenerationRequest { logprobs: None, ..request() };
    let (Submission { mut sequence, .. }, _generation) = Submission::new(silent, 1, 10, 64, now);
    assert_eq!(sequence.choice().map(|choice| (choice.logprobs, choice.allowed.is_some())), Ok((None, false)));
}

#[test]
fn a_stop_token_ends_the_completion_whatever_is_ignored() {
    for ignore_end in [false, true] {
        let request = GenerationRequest { stop_tokens: vec![Token(7), END], ignore_end, ..request() };
        for end in [7, END.0] {
            let said = run(request.clone(), &[u32::from(b'a'), end, u32::from(b'b')]);
            assert_eq!((said.pieces.len(), said.finish, said.tokens_taken), (1, Some(Finish::Stop), 2));
        }
    }
    let said = run(GenerationRequest { ignore_end: true, ..request() }, &[END.0, u32::from(b'a')]);
    assert_eq!((said.pieces, said.finish), (vec![("a".to_owned(), vec![b'a'])], None));
}

#[test]
fn what_is_held_back_comes_before_a_stop_token() {
    let request = GenerationRequest { stop_tokens: vec![Token(7)], stop: vec!["bc".to_owned()], ..request() };
    let said = run(request, &[u32::from(b'a'), u32::from(b'b'), 7]);
    assert_eq!(said.pieces, [("a".to_owned(), vec![b'a']), ("b".to_owned(), vec![b'b'])]);
}

/// Follows a script: so many tokens, then what comes then.
struct Script(usize, Mutex<Option<Then>>);

#[derive(Clone, Copy)]
enum Then {
    Complete,
    NothingAllowed,
    Refuse,
}

struct Follow {
    left: usize,
    then: Then,
    mask: TokenMask,
}

impl CompiledGrammar for Script {
    fn begin(&self) -> Box<dyn Constraint> {
        let then = self.1.lock().unwrap().take().expect("a completion begins once");
        Box::new(Follow { left: self.0, then, mask: TokenMask::from_words(vec![1]) })
    }
}

impl Constraint for Follow {
    fn allowed(&mut self) -> Result<&TokenMask, String> {
        match self.then {
            Then::NothingAllowed if self.left == 0 => Err("nothing".to_owned()),
            _ => Ok(&self.mask),
        }
    }

    fn allows(&mut self, token: Token) -> Result<bool, String> {
        Ok(self.allowed()?.contains(token))
    }

    fn may_end(&mut self) -> Result<bool, String> {
        Ok(false)
    }

    fn accept(&mut self, _: Token) -> Result<(), String> {
        self.left = self.left.saturating_sub(1);
        if matches!(self.then, Then::Refuse) && self.left == 0 { Err("refused".to_owned()) } else { Ok(()) }
    }

    fn is_complete(&self) -> bool {
        matches!(self.then, Then::Complete) && self.left == 0
    }
}

#[test]
fn a_grammar_bounds_ends_and_fails_a_completion() {
    let run = |then| {
        let grammar = Some(Grammar::new(Script(2, Mutex::new(Some(then)))));
        let stop = vec!["bc".to_owned()];
        let said = run(GenerationRequest { grammar, stop, ..request() }, &bytes("abxxx"));
        (said.pieces.into_iter().map(|(text, _)| text).collect::<String>(), said.finish, said.fault)
    };
    // What was held back is text after all.
    assert_eq!(run(Then::Complete), ("ab".to_owned(), Some(Finish::Stop), None));
    let fault = |reason: &str| Some(EngineFault::Grammar(reason.to_owned()));
    assert_eq!(run(Then::NothingAllowed), ("a".to_owned(), None, fault("nothing")));
    assert_eq!(run(Then::Refuse), ("a".to_owned(), None, fault("refused")));
}

#[test]
fn the_mask_of_a_grammar_is_what_a_choice_is_bound_by() {
    let grammar = Some(Grammar::new(Script(2, Mutex::new(Some(Then::Complete)))));
    let (Submission { mut sequence, .. }, _generation) =
        Submission::new(GenerationRequest { grammar, ..request() }, 1, 10, 64, Instant::now());
    sequence.admit(Instant::now(), 0);
    let choice = sequence.choice().expect("the script allows");
    assert!(choice.allowed.is_some_and(|mask| mask.contains(Token(0)) && !mask.contains(Token(1))));
    assert_eq!(choice.logprobs, Some(2));
}

/// Where in the lossy text each byte ends up: the end of its character, or of what replaces it.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let (mut ends, mut end) = (Vec::new(), 0);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            end += character.len_utf8();
            ends.extend(std::iter::repeat_n(end, character.len_utf8()));
        }
        if !chunk.invalid().is_empty() {
            end += char::REPLACEMENT_CHARACTER.len_utf8();
            ends.extend(std::iter::repeat_n(end, chunk.invalid().len()));
        }
    }
    ends
}

proptest! {
    #[test]
    fn tokens_come_in_order_each_with_the_piece_that_completes_it(
        parts in proptest::collection::vec(prop_oneof![Just("a".as_bytes()), Just("b".as_bytes()), Just("é".as_bytes()),
            Just("😀".as_bytes()), Just(&[0xF0, 0x9F][..]), Just(&[0xE2][..]), Just(&[0x80][..])], 0..20),
        stop in proptest::collection::vec("[abé]{1,3}", 0..3),
    ) {
        let all = parts.concat();
        let tokens: Vec<u32> = all.iter().map(|&byte| u32::from(byte)).chain([END.0]).collect();
        let said = run(GenerationRequest { stop, ..request() }, &tokens);
        let ends = ends(&all);
        let (mut text, mut given) = (0, 0);
        for (piece, tokens) in said.pieces {
            text += piece.len();
            let count = ends[given..].iter().take_while(|&&end| end <= text).count();
            prop_assert_eq!(&tokens[..], &all[given..given + count], "after {} bytes of text", text);
            given += count;
        }
    }
}
