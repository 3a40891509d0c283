//! A tiny GGUF whose completion is known beforehand, written in milliseconds and read by the real llama.cpp.
//!
//! The outputs of attention and feed-forward are zero, so the next token depends on the last one alone: the alphabet
//! continues ("ab" → "cdef…", "Z" → "A", "8" → "90…"), a full stop ends the completion, and any other token repeats
//! itself. [`Markov::chain`] adds texts with chosen token boundaries. Tokens are SentencePiece-like: single characters,
//! 256 byte tokens, `ChatML` control tokens.
//!
//! ```no_run
//! use tests::markov::Markov;
//!
//! // After the newline that ends a ChatML prompt the model says "Mail joe@example.org now" and stops.
//! Markov::default().chain(&["Mail", " jo", "e@ex", "ample.org", " now"]).write("tiny.gguf".as_ref())?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::gguf::{GgufWriter, TokenKind, Value};

/// The beginning-of-sequence token; prompts start with it.
pub const BOS: u32 = 1;
/// The end-of-sequence token.
pub const EOS: u32 = 2;
/// `<|im_end|>`, which ends a completion too.
pub const IM_END: u32 = 4;
/// The text of a user-defined token: one token wherever it appears, and visible in completions.
pub const USER_DEFINED: &str = "<think>";
/// The template a model has unless the test gives another.
pub const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n\
                          {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const LAYERS: u32 = 2;
const WIDTH: usize = 64;
const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const FEED_FORWARD: usize = 128;
/// Scales the logits: the right token gets `WIDTH * LOGIT_SCALE`, the others are normally distributed around 0.
const LOGIT_SCALE: f32 = 0.35;
/// Distance between the best logit and the next; at temperature 1 the wrong token has odds of 1 to 400.
const LOGIT_MARGIN_MIN: f32 = 6.0;
/// Codes that are tried until [`LOGIT_MARGIN_MIN`] holds; the first few do.
const SEEDS_MAX: u64 = 1000;
const SPACE: &str = "\u{2581}";

/// A model to write.
#[derive(Debug, Clone)]
pub struct Markov {
    context_length: u32,
    chat_template: Option<String>,
    chains: Vec<Chain>,
    forks: Vec<(String, Vec<String>)>,
    pooling: Option<u32>,
}

#[derive(Debug, Clone)]
struct Chain {
    after: String,
    pieces: Vec<String>,
    endless: bool,
}

impl Default for Markov {
    fn default() -> Self {
        Self {
            context_length: 2048,
            chat_template: Some(CHATML.to_owned()),
            chains: Vec::new(),
            forks: Vec::new(),
            pooling: None,
        }
    }
}

impl Markov {
    /// The context length that the model claims to be trained for.
    #[must_use]
    pub fn context_length(mut self, tokens: u32) -> Self {
        self.context_length = tokens;
        self
    }

    /// The model's chat template, instead of `ChatML`.
    #[must_use]
    pub fn chat_template(mut self, template: impl Into<String>) -> Self {
        self.chat_template = Some(template.into());
        self
    }

    /// A model without a chat template.
    #[must_use]
    pub fn without_chat_template(mut self) -> Self {
        self.chat_template = None;
        self
    }

    /// Makes it a model that encodes, like Qwen3-Embedding: the vector of an input pools those of its tokens in this way
    /// (llama.cpp's `llama_pooling_type`).
    #[must_use]
    pub fn pooling(mut self, kind: u32) -> Self {
        self.pooling = Some(kind);
        self
    }

    /// After a newline, which ends every `ChatML` prompt, the model says these pieces, one token each, and stops.
    ///
    /// A piece may be a byte token, spelled `<0xF0>`, to cut inside a character.
    #[must_use]
    pub fn chain(self, pieces: &[&str]) -> Self {
        self.chain_after("\n", pieces)
    }

    /// After the token `after` the model says these pieces and stops.
    #[must_use]
    pub fn chain_after(self, after: &str, pieces: &[&str]) -> Self {
        self.with_chain(after, pieces, false)
    }

    /// After a newline the model says these pieces again and again.
    #[must_use]
    pub fn endless(self, pieces: &[&str]) -> Self {
        self.endless_after("\n", pieces)
    }

    /// After the token `after` the model says these pieces again and again.
    #[must_use]
    pub fn endless_after(self, after: &str, pieces: &[&str]) -> Self {
        self.with_chain(after, pieces, true)
    }

    /// After the token `after` each of these tokens is equally likely: for tests of sampling.
    #[must_use]
    pub fn fork(mut self, after: &str, next: &[&str]) -> Self {
        self.forks.push((after.to_owned(), next.iter().map(|&text| text.to_owned()).collect()));
        self
    }

    fn with_chain(mut self, after: &str, pieces: &[&str], endless: bool) -> Self {
        assert!(!pieces.is_empty(), "a chain needs at least one piece");
        self.chains.push(Chain {
            after: after.to_owned(),
            pieces: pieces.iter().map(|&piece| piece.to_owned()).collect(),
            endless,
        });
        self
    }

    /// Writes the model to a file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.to_bytes())
    }

    /// The model as the bytes of a GGUF file. The same model gives the same bytes.
    ///
    /// # Panics
    ///
    /// When a chain or fork names a token that cannot be, with the reason.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut tokens = Vocabulary::base();
        let mut next = tokens.alphabet();
        for chain in &self.chains {
            tokens.add_chain(chain, &mut next);
        }
        for (after, followers) in &self.forks {
            let followers = followers.iter().map(|text| tokens.known(text)).collect();
            next.insert(tokens.known(after), followers);
        }
        let (embeddings, output) = weights(tokens.list.len(), &next);
        self.gguf(&tokens, &embeddings, &output)
    }

    fn gguf(&self, tokens: &Vocabulary, embeddings: &[f32], output: &[f32]) -> Vec<u8> {
        let mut gguf = GgufWriter::default();
        let head = u32::try_from(WIDTH).unwrap() / HEADS;
        for (key, value) in [
            ("general.architecture", Value::Text("llama".to_owned())),
            ("general.name", Value::Text("tiny-markov".to_owned())),
            ("llama.context_length", Value::U32(self.context_length)),
            ("llama.embedding_length", Value::U32(u32::try_from(WIDTH).unwrap())),
            ("llama.block_count", Value::U32(LAYERS)),
            ("llama.feed_forward_length", Value::U32(u32::try_from(FEED_FORWARD).unwrap())),
            ("llama.attention.head_count", Value::U32(HEADS)),
            ("llama.attention.head_count_kv", Value::U32(KV_HEADS)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("llama.rope.dimension_count", Value::U32(head)),
            ("llama.rope.freq_base", Value::F32(10_000.0)),
            ("llama.vocab_size", Value::U32(u32::try_from(tokens.list.len()).unwrap())),
            ("general.file_type", Value::U32(0)),
            ("tokenizer.ggml.model", Value::Text("llama".to_owned())),
            ("tokenizer.ggml.pre", Value::Text("default".to_owned())),
            ("tokenizer.ggml.tokens", Value::Texts(tokens.list.iter().map(|(text, _)| text.clone()).collect())),
            ("tokenizer.ggml.scores", Value::F32s((0..tokens.list.len()).map(|index| -(index as f32)).collect())),
            ("tokenizer.ggml.token_type", Value::I32s(tokens.list.iter().map(|&(_, kind)| kind as i32).collect())),
            ("tokenizer.ggml.bos_token_id", Value::U32(BOS)),
            ("tokenizer.ggml.eos_token_id", Value::U32(EOS)),
            ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
            ("tokenizer.ggml.eot_token_id", Value::U32(IM_END)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
            ("tokenizer.ggml.add_space_prefix", Value::Bool(false)),
        ] {
            gguf.value(key, value);
        }
        if let Some(pooling) = self.pooling {
            gguf.value("llama.pooling_type", Value::U32(pooling));
        }
        if let Some(template) = &self.chat_template {
            gguf.value("tokenizer.chat_template", Value::Text(template.clone()));
        }

        let vocabulary = tokens.list.len();
        let kv = head as usize * KV_HEADS as usize;
        let mut random = Random::new(1);
        let mut noise = |count: usize| (0..count).map(|_| random.unit() * 0.08).collect::<Vec<f32>>();
        gguf.tensor("token_embd.weight", &[WIDTH, vocabulary], embeddings);
        gguf.tensor("output_norm.weight", &[WIDTH], &[1.0; WIDTH]);
        gguf.tensor("output.weight", &[WIDTH, vocabulary], output);
        for layer in 0..LAYERS {
            let mut tensor = |name: &str, shape: &[usize], values: &[f32]| {
                gguf.tensor(&format!("blk.{layer}.{name}.weight"), shape, values);
            };
            tensor("attn_norm", &[WIDTH], &[1.0; WIDTH]);
            tensor("ffn_norm", &[WIDTH], &[1.0; WIDTH]);
            tensor("attn_q", &[WIDTH, WIDTH], &noise(WIDTH * WIDTH));
            tensor("attn_k", &[WIDTH, kv], &noise(WIDTH * kv));
            tensor("attn_v", &[WIDTH, kv], &noise(WIDTH * kv));
            tensor("attn_output", &[WIDTH, WIDTH], &vec![0.0; WIDTH * WIDTH]);
            tensor("ffn_gate", &[WIDTH, FEED_FORWARD], &noise(WIDTH * FEED_FORWARD));
            tensor("ffn_up", &[WIDTH, FEED_FORWARD], &noise(WIDTH * FEED_FORWARD));
            tensor("ffn_down", &[FEED_FORWARD, WIDTH], &vec![0.0; WIDTH * FEED_FORWARD]);
        }
        gguf.finish()
    }
}

/// Which tokens may follow each one, equally likely; a token that is not in here repeats itself.
type Followers = HashMap<usize, Vec<usize>>;

struct Vocabulary {
    list: Vec<(String, TokenKind)>,
    index: HashMap<String, usize>,
}

impl Vocabulary {
    fn base() -> Self {
        let mut tokens = Self { list: Vec::new(), index: HashMap::new() };
        tokens.add("<unk>", TokenKind::Unknown);
        for control in ["<s>", "</s>", "<|im_start|>", "<|im_end|>"] {
            tokens.add(control, TokenKind::Control);
        }
        tokens.add(USER_DEFINED, TokenKind::UserDefined);
        for byte in 0..=255u8 {
            tokens.add(&byte_text(byte), TokenKind::Byte);
        }
        tokens.add(SPACE, TokenKind::Normal);
        for character in '!'..='~' {
            tokens.add(&character.to_string(), TokenKind::Normal);
        }
        tokens
    }

    fn add(&mut self, text: &str, kind: TokenKind) -> usize {
        let token = self.list.len();
        self.list.push((text.to_owned(), kind));
        self.index.insert(text.to_owned(), token);
        token
    }

    /// The token for a piece of text as llama.cpp spells it.
    fn find(&self, text: &str) -> Option<usize> {
        let spelled = match text {
            "\n" => byte_text(b'\n'),
            text => text.replace(' ', SPACE),
        };
        self.index.get(&spelled).copied()
    }

    fn known(&self, text: &str) -> usize {
        self.find(text).unwrap_or_else(|| panic!("there is no token for {text:?}"))
    }

    fn alphabet(&self) -> Followers {
        let mut next = Followers::new();
        for characters in ["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"] {
            let tokens: Vec<usize> = characters.chars().map(|character| self.known(&character.to_string())).collect();
            for (place, &token) in tokens.iter().enumerate() {
                next.insert(token, vec![tokens[(place + 1) % tokens.len()]]);
            }
        }
        next.insert(self.known("."), vec![EOS as usize]);
        for starter in [" ", "\n", "<s>", "<|im_end|>", ":", "?", "!"] {
            next.insert(self.known(starter), vec![self.known("a")]);
        }
        next
    }

    /// Adds a chain's pieces as tokens of their own, so that the alphabet and other chains stay as they are.
    fn add_chain(&mut self, chain: &Chain, next: &mut Followers) {
        let mut last = self.known(&chain.after);
        let mut first = None;
        for piece in &chain.pieces {
            let token = self.add_piece(piece);
            next.insert(last, vec![token]);
            first.get_or_insert(token);
            last = token;
        }
        next.insert(last, vec![if chain.endless { first.unwrap_or(last) } else { EOS as usize }]);
    }

    fn add_piece(&mut self, piece: &str) -> usize {
        assert!(!piece.is_empty(), "a piece of a chain has at least one byte");
        let bytes = byte_of(piece).map_or_else(|| piece.as_bytes().to_vec(), |byte| vec![byte]);
        match (self.find(piece), &bytes[..]) {
            (None, _) => self.add(&piece.replace(' ', SPACE), TokenKind::Normal),
            // llama.cpp refuses two tokens of one text, and of a byte token it reads the two digits only.
            (Some(_), &[byte]) => {
                let alias = format!("{}#{}", byte_text(byte), self.list.len());
                self.add(&alias, TokenKind::Byte)
            }
            (Some(_), _) => panic!("two tokens cannot have the text {piece:?}: cut one of them differently"),
        }
    }
}

fn byte_text(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

fn byte_of(piece: &str) -> Option<u8> {
    u8::from_str_radix(piece.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// Embeddings and output matrix. Each token has a random code; a token's embedding is the code of the token that
/// follows it, and the output matrix compares with every code.
fn weights(vocabulary: usize, next: &Followers) -> (Vec<f32>, Vec<f32>) {
    (1..=SEEDS_MAX)
        .map(|seed| weights_of_seed(vocabulary, next, seed))
        .find(|(embeddings, output)| is_clear(embeddings, output, next))
        .expect("codes of some seed are far enough apart")
}

fn weights_of_seed(vocabulary: usize, next: &Followers, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut random = Random::new(seed);
    let codes: Vec<Vec<f32>> =
        (0..vocabulary).map(|_| (0..WIDTH).map(|_| if random.unit() < 0.0 { -1.0 } else { 1.0 }).collect()).collect();
    let embeddings = (0..vocabulary)
        .flat_map(|token| {
            let followers = next.get(&token).cloned().unwrap_or_else(|| vec![token]);
            let mut sum = vec![0.0; WIDTH];
            for follower in followers {
                sum.iter_mut().zip(&codes[follower]).for_each(|(sum, code)| *sum += code);
            }
            sum
        })
        .collect();
    let output = codes.iter().flatten().map(|code| code * LOGIT_SCALE).collect();
    (embeddings, output)
}

/// Whether every token's followers, and nothing else, are likely after it.
fn is_clear(embeddings: &[f32], output: &[f32], next: &Followers) -> bool {
    embeddings.chunks(WIDTH).enumerate().all(|(token, embedding)| {
        let length = (embedding.iter().map(|x| x * x).sum::<f32>() / WIDTH as f32).sqrt();
        let logits: Vec<f32> = output
            .chunks(WIDTH)
            .map(|row| row.iter().zip(embedding).map(|(a, b)| a * b).sum::<f32>() / length)
            .collect();
        let followers = next.get(&token).cloned().unwrap_or_else(|| vec![token]);
        let lowest = followers.iter().map(|&follower| logits[follower]).fold(f32::INFINITY, f32::min);
        logits
            .iter()
            .enumerate()
            .all(|(other, &logit)| followers.contains(&other) || logit + LOGIT_MARGIN_MIN <= lowest)
    })
}

/// splitmix64: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform in -1..1.
    pub(crate) fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_model_gives_the_same_bytes() {
        let model = Markov::default().chain(&["Mail", " jo", "e"]);
        assert_eq!(model.to_bytes(), model.to_bytes());
        assert_ne!(model.to_bytes(), Markov::default().to_bytes());
    }

    #[test]
    fn a_piece_of_one_byte_may_repeat() {
        let _ = Markov::default().chain(&["a", "a", "<0xF0>", "<0xF0>"]).endless_after("?", &["b", "b"]).to_bytes();
    }

    #[test]
    #[should_panic(expected = "cut one of them differently")]
    fn a_longer_piece_may_not() {
        let _ = Markov::default().chain(&["ha", "ha"]).to_bytes();
    }
}
