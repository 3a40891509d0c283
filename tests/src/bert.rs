//! A tiny BERT with random weights, and what it computes: written for the real llama.cpp, and computed again here in plain
//! arithmetic, so that vectors and scores have something to be compared with.
//!
//! Its words are single letters, so `hi there` is `[CLS] h ##i t ##h ##e ##r ##e [SEP]`.

use std::io;
use std::path::Path;

use crate::gguf::{GgufWriter, TokenKind, Value};
use crate::markov::Random;

/// `[CLS]`, which stands before every input.
pub const CLS: u32 = 2;
/// `[SEP]`, which stands behind every text.
pub const SEP: u32 = 3;
/// Numbers of a vector.
pub const WIDTH: usize = 32;

const LAYERS: usize = 2;
const HEADS: usize = 4;
const FEED_FORWARD: usize = 64;
const EPSILON: f32 = 1e-12;
const CONTROL: [(&str, TokenKind); 5] = [
    ("[PAD]", TokenKind::Control),
    ("[UNK]", TokenKind::Unknown),
    ("[CLS]", TokenKind::Control),
    ("[SEP]", TokenKind::Control),
    ("[MASK]", TokenKind::Control),
];
const LETTERS: std::ops::RangeInclusive<char> = 'a'..='z';

/// How an input's vectors become one: llama.cpp's `llama_pooling_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// None is named.
    None = 0,
    /// Their mean.
    Mean = 1,
    /// The first one.
    Cls = 2,
    /// The last one.
    Last = 3,
    /// A classifier's score of the first one.
    Rank = 4,
}

/// A model to write and to compute with.
#[derive(Debug, Clone)]
pub struct Bert {
    pooling: Pooling,
    context_length: u32,
    weights: Weights,
}

#[derive(Debug, Clone)]
struct Weights {
    tokens: Vec<f32>,
    positions: Vec<f32>,
    types: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    dense: Linear,
    score: Linear,
}

#[derive(Debug, Clone)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

/// `weight · x + bias`; the weight row by row.
#[derive(Debug, Clone)]
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

#[derive(Debug, Clone)]
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Bert {
    /// A model that pools like this. The same pooling gives the same bytes.
    #[must_use]
    pub fn new(pooling: Pooling) -> Self {
        Self { pooling, context_length: 64, weights: Weights::random(64) }
    }

    /// The model's context length.
    #[must_use]
    pub fn context_length(mut self, tokens: u32) -> Self {
        self.context_length = tokens;
        self.weights = Weights::random(tokens as usize);
        self
    }

    /// The tokens of an input of these texts, with what stands around them.
    #[must_use]
    pub fn tokens(texts: &[&str]) -> Vec<u32> {
        let count = u32::try_from(LETTERS.count()).unwrap_or(0);
        let mut tokens = vec![CLS];
        for text in texts {
            for word in text.split_whitespace() {
                for (place, letter) in word.bytes().enumerate() {
                    let first = u32::try_from(CONTROL.len()).unwrap_or(0) + u32::from(letter.saturating_sub(b'a'));
                    tokens.push(if place == 0 { first } else { first + count });
                }
            }
            tokens.push(SEP);
        }
        tokens
    }

    /// The vector of an input, of length 1.
    #[must_use]
    pub fn vector(&self, tokens: &[u32]) -> Vec<f64> {
        let vectors = self.encode(tokens);
        let pooled: Vec<f64> = match self.pooling {
            Pooling::Mean => (0..WIDTH).map(|at| vectors.iter().map(|it| it[at]).sum::<f64>()).collect(),
            Pooling::Last => vectors[vectors.len() - 1].clone(),
            Pooling::Cls | Pooling::Rank | Pooling::None => vectors[0].clone(),
        };
        let length = pooled.iter().map(|number| number * number).sum::<f64>().sqrt();
        pooled.into_iter().map(|number| number / length).collect()
    }

    /// How well a document answers a query, from 0 to 1: `RoBERTa`'s classification head, and the logistic function.
    #[must_use]
    pub fn score(&self, query: &str, document: &str) -> f64 {
        let first = &self.encode(&Self::tokens(&[query, document]))[0];
        let dense: Vec<f64> = self.weights.dense.apply(first).into_iter().map(f64::tanh).collect();
        1.0 / (1.0 + (-self.weights.score.apply(&dense)[0]).exp())
    }

    /// The vectors of all tokens.
    fn encode(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let weights = &self.weights;
        let row = |matrix: &[f32], row: usize| -> Vec<f64> {
            matrix[row * WIDTH..][..WIDTH].iter().copied().map(f64::from).collect()
        };
        let mut vectors: Vec<Vec<f64>> = tokens
            .iter()
            .enumerate()
            .map(|(position, &token)| {
                let parts =
                    [row(&weights.tokens, token as usize), row(&weights.types, 0), row(&weights.positions, position)];
                weights.norm.apply(&sum(&parts))
            })
            .collect();
        for layer in &weights.layers {
            vectors = layer.apply(&vectors);
        }
        vectors
    }

    /// Writes the model to a file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.to_bytes())
    }

    /// The model as the bytes of a GGUF file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut gguf = GgufWriter::default();
        let number = |number: usize| Value::U32(u32::try_from(number).unwrap_or(u32::MAX));
        let tokens = vocabulary();
        for (key, value) in [
            ("general.architecture", Value::Text("bert".to_owned())),
            ("general.name", Value::Text("tiny-bert".to_owned())),
            ("bert.context_length", Value::U32(self.context_length)),
            ("bert.embedding_length", number(WIDTH)),
            ("bert.block_count", number(LAYERS)),
            ("bert.feed_forward_length", number(FEED_FORWARD)),
            ("bert.attention.head_count", number(HEADS)),
            ("bert.attention.layer_norm_epsilon", Value::F32(EPSILON)),
            ("bert.attention.causal", Value::Bool(false)),
            ("general.file_type", Value::U32(0)),
            ("tokenizer.ggml.model", Value::Text("bert".to_owned())),
            ("tokenizer.ggml.pre", Value::Text("jina-v2-en".to_owned())),
            ("tokenizer.ggml.token_type_count", Value::U32(2)),
            ("tokenizer.ggml.tokens", Value::Texts(tokens.iter().map(|(text, _)| text.clone()).collect())),
            ("tokenizer.ggml.token_type", Value::I32s(tokens.iter().map(|&(_, kind)| kind as i32).collect())),
            ("tokenizer.ggml.padding_token_id", Value::U32(0)),
            ("tokenizer.ggml.unknown_token_id", Value::U32(1)),
            ("tokenizer.ggml.bos_token_id", Value::U32(CLS)),
            ("tokenizer.ggml.eos_token_id", Value::U32(SEP)),
            // As llama.cpp spells it.
            ("tokenizer.ggml.seperator_token_id", Value::U32(SEP)),
            ("tokenizer.ggml.mask_token_id", Value::U32(4)),
        ] {
            gguf.value(key, value);
        }
        if self.pooling != Pooling::None {
            gguf.value("bert.pooling_type", Value::U32(self.pooling as u32));
        }
        self.weights.write(&mut gguf, tokens.len(), self.context_length as usize, self.pooling == Pooling::Rank);
        gguf.finish()
    }
}

fn vocabulary() -> Vec<(String, TokenKind)> {
    let control = CONTROL.iter().map(|&(text, kind)| (text.to_owned(), kind));
    // llama.cpp marks the beginning of a word, not its continuation.
    let first = LETTERS.map(|letter| (format!("\u{2581}{letter}"), TokenKind::Normal));
    let further = LETTERS.map(|letter| (letter.to_string(), TokenKind::Normal));
    control.chain(first).chain(further).collect()
}

impl Weights {
    fn random(positions: usize) -> Self {
        let mut random = Random::new(7);
        let mut matrix = |count: usize, scale: f32| (0..count).map(|_| random.unit() * scale).collect::<Vec<f32>>();
        let tokens = matrix(vocabulary().len() * WIDTH, 1.0);
        let positions = matrix(positions * WIDTH, 0.3);
        let types = matrix(2 * WIDTH, 0.3);
        let norm = Norm::new(&mut matrix);
        let layers = (0..LAYERS)
            .map(|_| Layer {
                query: Linear::new(&mut matrix, WIDTH, WIDTH),
                key: Linear::new(&mut matrix, WIDTH, WIDTH),
                value: Linear::new(&mut matrix, WIDTH, WIDTH),
                output: Linear::new(&mut matrix, WIDTH, WIDTH),
                attention_norm: Norm::new(&mut matrix),
                up: Linear::new(&mut matrix, WIDTH, FEED_FORWARD),
                down: Linear::new(&mut matrix, FEED_FORWARD, WIDTH),
                norm: Norm::new(&mut matrix),
            })
            .collect();
        let (dense, score) = (Linear::new(&mut matrix, WIDTH, WIDTH), Linear::new(&mut matrix, WIDTH, 1));
        Self { tokens, positions, types, norm, layers, dense, score }
    }

    fn write(&self, gguf: &mut GgufWriter, tokens: usize, positions: usize, ranks: bool) {
        gguf.tensor("token_embd.weight", &[WIDTH, tokens], &self.tokens);
        gguf.tensor("position_embd.weight", &[WIDTH, positions], &self.positions);
        gguf.tensor("token_types.weight", &[WIDTH, 2], &self.types);
        self.norm.write(gguf, "token_embd_norm");
        for (number, layer) in self.layers.iter().enumerate() {
            let name = |name: &str| format!("blk.{number}.{name}");
            layer.query.write(gguf, &name("attn_q"));
            layer.key.write(gguf, &name("attn_k"));
            layer.value.write(gguf, &name("attn_v"));
            layer.output.write(gguf, &name("attn_output"));
            layer.attention_norm.write(gguf, &name("attn_output_norm"));
            layer.up.write(gguf, &name("ffn_up"));
            layer.down.write(gguf, &name("ffn_down"));
            layer.norm.write(gguf, &name("layer_output_norm"));
        }
        if ranks {
            self.dense.write(gguf, "cls");
            self.score.write(gguf, "cls.output");
        }
    }
}

impl Layer {
    fn apply(&self, vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let all = |linear: &Linear| vectors.iter().map(|vector| linear.apply(vector)).collect::<Vec<_>>();
        let (queries, keys, values) = (all(&self.query), all(&self.key), all(&self.value));
        vectors
            .iter()
            .zip(&queries)
            .map(|(vector, query)| {
                let attended = self.output.apply(&attend(query, &keys, &values));
                let vector = self.attention_norm.apply(&sum(&[attended, vector.clone()]));
                let inner: Vec<f64> = self.up.apply(&vector).into_iter().map(gelu).collect();
                self.norm.apply(&sum(&[self.down.apply(&inner), vector]))
            })
            .collect()
    }
}

/// What one token takes of all others, head by head.
fn attend(query: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
    let head = WIDTH / HEADS;
    (0..HEADS)
        .flat_map(|number| {
            let part = number * head..(number + 1) * head;
            let product = |key: &Vec<f64>| -> f64 {
                query[part.clone()].iter().zip(&key[part.clone()]).map(|(a, b)| a * b).sum()
            };
            let weights: Vec<f64> = keys.iter().map(|key| (product(key) / (head as f64).sqrt()).exp()).collect();
            let total: f64 = weights.iter().sum();
            part.map(|at| weights.iter().zip(values).map(|(weight, value)| weight * value[at]).sum::<f64>() / total)
                .collect::<Vec<f64>>()
        })
        .collect()
}

/// ggml's approximation by tanh.
fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
}

fn sum(vectors: &[Vec<f64>]) -> Vec<f64> {
    (0..vectors[0].len()).map(|at| vectors.iter().map(|vector| vector[at]).sum()).collect()
}

impl Linear {
    fn new(random: &mut impl FnMut(usize, f32) -> Vec<f32>, width: usize, rows: usize) -> Self {
        Self { weight: random(width * rows, 0.4), bias: random(rows, 0.2) }
    }

    fn apply(&self, vector: &[f64]) -> Vec<f64> {
        let rows = self.weight.chunks(vector.len()).zip(&self.bias);
        rows.map(|(row, &bias)| {
            row.iter().zip(vector).map(|(&weight, x)| f64::from(weight) * x).sum::<f64>() + f64::from(bias)
        })
        .collect()
    }

    fn write(&self, gguf: &mut GgufWriter, name: &str) {
        let rows = self.bias.len();
        gguf.tensor(&format!("{name}.weight"), &[self.weight.len() / rows, rows], &self.weight);
        gguf.tensor(&format!("{name}.bias"), &[rows], &self.bias);
    }
}

impl Norm {
    fn new(random: &mut impl FnMut(usize, f32) -> Vec<f32>) -> Self {
        let weight = random(WIDTH, 0.3).into_iter().map(|number| number + 1.0).collect();
        Self { weight, bias: random(WIDTH, 0.2) }
    }

    fn apply(&self, vector: &[f64]) -> Vec<f64> {
        let mean = vector.iter().sum::<f64>() / vector.len() as f64;
        let variance = vector.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / vector.len() as f64;
        let scale = 1.0 / (variance + f64::from(EPSILON)).sqrt();
        let learned = self.weight.iter().zip(&self.bias);
        vector.iter().zip(learned).map(|(x, (&w, &b))| (x - mean) * scale * f64::from(w) + f64::from(b)).collect()
    }

    fn write(&self, gguf: &mut GgufWriter, name: &str) {
        gguf.tensor(&format!("{name}.weight"), &[WIDTH], &self.weight);
        gguf.tensor(&format!("{name}.bias"), &[WIDTH], &self.bias);
    }
}
