//! A "model" that writes at random whatever a grammar lets it.

use std::ops::Range;
use std::sync::Arc;

use grammar::{Author, Compiler};
use inference::{Constraint, Grammar, OutputFormat, SpecialTokens, Token, Vocabulary};

/// Tokens by their bytes: all 256 bytes, as SentencePiece's fallback has them, words and fragments as they occur in JSON,
/// a control token, and a token that ends a completion.
pub(crate) struct Words {
    words: Vec<Vec<u8>>,
    has_end: bool,
}

pub(crate) const END: Token = Token(256);
pub(crate) const CONTROL: Token = Token(257);

const FRAGMENTS: [&str; 40] = [
    "\":", "\": ", "\",", "\", \"", "{\"", "\"}", "}}", "},", "[]", "[\"", "]}", "{}", "\"\"", ", ", ": ", "true",
    "false", "null", "\n  ", "  ", "12", "0.", "-1", "e+", "na", "name", " the", "é", "世界", "🙂", "ab", "abc",
    "value", "\\n", "\\\"", "\\u00", "10", "000", "x!", "\n",
];

impl Words {
    pub(crate) fn new() -> Arc<Self> {
        let mut words: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        words.extend([Vec::new(), Vec::new()]);
        words.extend(FRAGMENTS.iter().map(|text| text.as_bytes().to_vec()));
        Arc::new(Self { words, has_end: true })
    }

    /// The same with some control tokens more, from [`CONTROL`] on.
    pub(crate) fn with_controls(count: usize) -> Arc<Self> {
        let mut words = Self::new().words.clone();
        words[CONTROL.0 as usize..][..count].fill(Vec::new());
        Arc::new(Self { words, has_end: true })
    }

    /// The same with these words too, the last tokens.
    pub(crate) fn with_words(controls: usize, words: &[&str]) -> Arc<Self> {
        let mut all = Self::with_controls(controls).words.clone();
        all.extend(words.iter().map(|word| word.as_bytes().to_vec()));
        Arc::new(Self { words: all, has_end: true })
    }

    /// The same without a token that ends a completion.
    pub(crate) fn endless() -> Arc<Self> {
        Arc::new(Self { words: Self::new().words.clone(), has_end: false })
    }
}

impl Vocabulary for Words {
    fn size(&self) -> u32 {
        u32::try_from(self.words.len()).unwrap()
    }
    fn tokenize(&self, _: &str, _: SpecialTokens) -> Vec<Token> {
        unreachable!("grammars tokenize nothing")
    }
    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        bytes.extend(&self.words[token.0 as usize]);
    }
    fn find_control_token(&self, _: &str) -> Option<(Range<usize>, Token)> {
        None
    }
    fn prompt_start(&self) -> Option<Token> {
        None
    }
    fn beginning_of_sequence(&self) -> Option<Token> {
        None
    }
    fn ends_generation(&self, token: Token) -> bool {
        self.has_end && token == END
    }
}

/// A vocabulary and the compiler for it.
pub(crate) struct House {
    pub(crate) compiler: Compiler,
    pub(crate) vocabulary: Arc<dyn Vocabulary>,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::of(Words::new())
    }

    pub(crate) fn of(vocabulary: Arc<dyn Vocabulary>) -> Self {
        Self { compiler: Compiler::new(Arc::clone(&vocabulary)), vocabulary }
    }

    pub(crate) fn compile(&self, format: &OutputFormat) -> Grammar {
        self.compiler.compile(format, Author::Client).unwrap_or_else(|error| panic!("{:.300}: {error}", format.text()))
    }

    pub(crate) fn refusal(&self, format: &OutputFormat) -> String {
        match self.compiler.compile(format, Author::Client) {
            Ok(_) => panic!("{:.300} was compiled", format.text()),
            Err(error) => error.to_string(),
        }
    }

    /// Writes at random until the grammar is complete, or `None` after `tokens_max`. The later it is, the more it likes
    /// what closes something.
    pub(crate) fn write(&self, grammar: &Grammar, random: &mut Random, tokens_max: usize) -> Option<String> {
        let mut constraint = grammar.begin();
        let mut bytes = Vec::new();
        for step in 0..tokens_max {
            let token = self.choose(&mut *constraint, random, step * 3 > tokens_max);
            if self.vocabulary.ends_generation(token) {
                return Some(String::from_utf8(bytes).expect("whole characters"));
            }
            let before = bytes.len();
            self.vocabulary.append_piece(token, &mut bytes);
            assert!(bytes.len() > before, "{token:?} stands for nothing and was allowed");
            constraint.accept(token).unwrap();
            if constraint.is_complete() {
                return Some(String::from_utf8(bytes).expect("whole characters"));
            }
        }
        None
    }

    fn choose(&self, constraint: &mut dyn Constraint, random: &mut Random, is_late: bool) -> Token {
        let mask = constraint.allowed().unwrap();
        let allowed: Vec<Token> =
            (0..self.vocabulary.size()).map(Token).filter(|&token| mask.contains(token)).collect();
        assert!(!allowed.is_empty(), "every beginning can go on");
        let excess = mask.words().iter().map(|word| word.count_ones() as usize).sum::<usize>() - allowed.len();
        assert_eq!(excess, 0, "the mask names tokens that there are not");
        let closing = |token: &&Token| {
            let mut bytes = Vec::new();
            self.vocabulary.append_piece(**token, &mut bytes);
            self.vocabulary.ends_generation(**token)
                || matches!(bytes.as_slice(), b"\"" | b"}" | b"]" | b":" | b"0" | b"\x80" | b"\xbf")
        };
        if random.below(if is_late { 10 } else { 3 }) > 0
            && let Some(&token) = allowed.iter().filter(closing).nth(random.below(2))
        {
            return token;
        }
        allowed[random.below(allowed.len())]
    }
}

/// Whether the grammar takes a text, byte by byte, and may end there.
pub(crate) fn takes(grammar: &Grammar, text: &str) -> bool {
    takes_tokens(grammar, text.bytes().map(|byte| Token(u32::from(byte))))
}

/// Whether the grammar takes these tokens, and may end behind them.
pub(crate) fn takes_tokens(grammar: &Grammar, tokens: impl IntoIterator<Item = Token>) -> bool {
    let mut constraint = grammar.begin();
    for token in tokens {
        if constraint.is_complete() || !constraint.allowed().unwrap().contains(token) {
            return false;
        }
        constraint.accept(token).unwrap();
    }
    constraint.is_complete() || constraint.allowed().unwrap().contains(END)
}

/// Whether it takes these texts, and not those.
pub(crate) fn check(format: &OutputFormat, taken: &[&str], refused: &[&str]) {
    let grammar = House::new().compile(format);
    for text in taken {
        assert!(takes(&grammar, text), "{} takes {text:?}", format.text());
    }
    for text in refused {
        assert!(!takes(&grammar, text), "{} does not take {text:?}", format.text());
    }
}

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % most as u64).unwrap()
    }
}
