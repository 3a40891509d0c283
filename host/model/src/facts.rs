//! What a model says of itself, as `outrigger inspect` shows it.

use sha2::{Digest, Sha256};

use crate::gguf::{Header, Model, TensorType};

/// The facts of a model that people ask for. What the file does not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `general.architecture`, such as `llama`.
    pub architecture: Option<String>,
    /// What its makers call it.
    pub name: Option<String>,
    /// The licence they name.
    pub license: Option<String>,
    /// Values of all tensors together.
    pub parameters: u64,
    /// The quantisation that the file says it is of, such as `Q4_K_M`.
    pub file_type: Option<&'static str>,
    /// What its tensors are stored as, most bytes first.
    pub types: Vec<TypeShare>,
    /// Tokens that it was trained for.
    pub context_length: Option<u64>,
    /// Layers.
    pub layers: Option<u64>,
    /// Width of a token between layers.
    pub embedding_length: Option<u64>,
    /// Attention heads; where layers differ, the most.
    pub heads: Option<u64>,
    /// Heads of keys and values; where layers differ, the most.
    pub heads_kv: Option<u64>,
    /// Experts, and how many of them compute a token.
    pub experts: Option<(u64, u64)>,
    /// Tokens that it knows.
    pub vocabulary_size: Option<u64>,
    /// How it cuts text: `gpt2` is byte-level BPE, `llama` is SentencePiece.
    pub tokenizer: Option<String>,
    /// How text is split before that, for byte-level BPE.
    pub pre_tokenizer: Option<String>,
    /// Its chat template.
    pub template: Option<TemplateFacts>,
    /// Files that it consists of.
    pub shards: usize,
    /// Tensors that it consists of.
    pub tensors: u64,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// Bytes of its tensors.
    pub tensor_bytes: u64,
}

/// How much of a model is stored as one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeShare {
    /// The type.
    pub kind: TensorType,
    /// Tensors of it.
    pub tensors: u64,
    /// Values in them.
    pub values: u64,
    /// Bytes that they take.
    pub bytes: u64,
}

/// A chat template, by its digest: two models with the same one are prompted alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFacts {
    /// SHA-256 of its text, as 64 hexadecimal digits.
    pub sha256: String,
    /// Bytes of its text.
    pub bytes: usize,
}

impl Facts {
    /// The facts of a model.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let header = &model.header;
        let text = |key| header.text(key).map(str::to_owned);
        let layers = header.fact("block_count");
        let most = |key| match header.fact(key) {
            Some(fact) => Some(fact),
            None => header.facts_by_layer(key, usize::try_from(layers?.min(1 << 16)).ok()?)?.into_iter().max(),
        };
        let heads = most("attention.head_count");
        Self {
            architecture: header.architecture().map(str::to_owned),
            name: text("general.name"),
            license: text("general.license"),
            parameters: header.tensors.iter().fold(0, |sum: u64, tensor| sum.saturating_add(tensor.values())),
            file_type: header.number("general.file_type").and_then(file_type),
            types: types(header),
            context_length: header.context_length(),
            layers,
            embedding_length: header.fact("embedding_length"),
            heads,
            heads_kv: most("attention.head_count_kv").or(heads),
            experts: header.fact("expert_count").filter(|&count| count > 0).zip(header.fact("expert_used_count")),
            vocabulary_size: header
                .array("tokenizer.ggml.tokens")
                .map(|tokens| tokens.length)
                .or_else(|| header.fact("vocab_size")),
            tokenizer: text("tokenizer.ggml.model"),
            pre_tokenizer: text("tokenizer.ggml.pre"),
            template: header.chat_template().map(TemplateFacts::of),
            shards: model.shards.len(),
            tensors: header.tensor_count,
            file_bytes: header.file_bytes,
            tensor_bytes: header.tensor_bytes,
        }
    }
}

impl TemplateFacts {
    fn of(template: &str) -> Self {
        Self { sha256: format!("{:x}", Sha256::digest(template)), bytes: template.len() }
    }
}

fn types(header: &Header) -> Vec<TypeShare> {
    let mut shares: Vec<TypeShare> = Vec::new();
    for tensor in &header.tensors {
        let at = shares.iter().position(|share| share.kind == tensor.kind).unwrap_or_else(|| {
            shares.push(TypeShare { kind: tensor.kind, tensors: 0, values: 0, bytes: 0 });
            shares.len() - 1
        });
        let share = &mut shares[at];
        share.tensors += 1;
        share.values = share.values.saturating_add(tensor.values());
        share.bytes = share.bytes.saturating_add(tensor.bytes);
    }
    shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.kind.name().cmp(b.kind.name())));
    shares
}

/// `llama_ftype` of llama.h, as files are named after it.
fn file_type(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::written::Written;

    fn facts(header: &Written) -> Facts {
        Facts::of(&Model { shards: vec!["a.gguf".into(), "b.gguf".into()], header: header.header() })
    }

    #[test]
    fn a_model_is_described() {
        let facts = facts(
            &Written::of("llama")
                .text("general.name", "Tiny")
                .text("general.license", "apache-2.0")
                .text("tokenizer.chat_template", "abc")
                .text("tokenizer.ggml.model", "gpt2")
                .text("tokenizer.ggml.pre", "smollm")
                .texts("tokenizer.ggml.tokens", &["a", "b", "c"])
                .number("general.file_type", 15)
                .number("llama.block_count", 2)
                .number("llama.context_length", 8192)
                .number("llama.embedding_length", 256)
                .number("llama.attention.head_count", 4)
                .numbers("llama.attention.head_count_kv", &[1, 2])
                .number("llama.expert_count", 8)
                .number("llama.expert_used_count", 2)
                .tensor("output.weight", 14, &[256, 4])
                .tensor("blk.0.attn_q.weight", 12, &[256, 2])
                .tensor("blk.1.attn_q.weight", 12, &[256, 2])
                .tensor("output_norm.weight", 0, &[256]),
        );
        assert_eq!(facts.architecture.as_deref(), Some("llama"));
        assert_eq!(facts.name.as_deref(), Some("Tiny"));
        assert_eq!(facts.license.as_deref(), Some("apache-2.0"));
        assert_eq!(facts.parameters, 256 * 4 + 2 * 512 + 256);
        assert_eq!(facts.file_type, Some("Q4_K_M"));
        let types: Vec<_> = facts.types.iter().map(|it| (it.kind.name(), it.tensors, it.values, it.bytes)).collect();
        assert_eq!(types, [("F32", 1, 256, 1024), ("Q6_K", 1, 1024, 840), ("Q4_K", 2, 1024, 576)]);
        assert_eq!((facts.context_length, facts.layers, facts.embedding_length), (Some(8192), Some(2), Some(256)));
        assert_eq!((facts.heads, facts.heads_kv, facts.experts), (Some(4), Some(2), Some((8, 2))));
        assert_eq!((facts.vocabulary_size, facts.tokenizer.as_deref()), (Some(3), Some("gpt2")));
        assert_eq!((facts.shards, facts.tensors, facts.tensor_bytes), (2, 4, 1024 + 840 + 576));
        let template = facts.template.expect("a template");
        // `printf abc | sha256sum`
        assert_eq!(template.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(template.bytes, 3);
    }

    #[test]
    fn what_a_file_does_not_say_is_not_made_up() {
        let facts =
            facts(&Written::default().number("general.file_type", 1024).numbers("llama.attention.head_count", &[-1]));
        assert_eq!((facts.architecture, facts.file_type, facts.heads, facts.template), (None, None, None, None));
        assert_eq!((facts.parameters, facts.types), (0, Vec::new()));
    }
}
