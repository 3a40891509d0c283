//! What architectures do with memory that their headers do not say, as llama.cpp b11434 has it.

/// `(architecture, every n-th layer sees all, whether the first of them does, window where the header says none)`: the
/// calls of `load_swa_pattern` in `models/*.cpp`. Others have windows only where the header lists them layer by layer; a
/// `sliding_window` alone, as Mistral's files have, is not heeded there.
pub(super) const WINDOWED: &[(&str, usize, bool, u64)] = &[
    ("afmoe", 4, false, 0),
    ("cohere2", 4, false, 0),
    ("cohere2moe", 4, true, 0),
    ("exaone-moe", 4, false, 128),
    ("exaone4", 4, false, 4096),
    ("gemma2", 2, false, 4096),
    ("gemma3", 6, false, 0),
    ("gemma3n", 5, false, 0),
    ("gpt-oss", 2, false, 0),
    ("laguna", 4, true, 0),
    ("llama4", 4, false, 8192),
    ("mellum", 4, false, 0),
    ("muse-glimmer", 4, false, 0),
    ("olmo2", 4, false, 0),
    ("plamo3", 8, false, 0),
    ("smallthinker", 4, true, 0),
];

/// Architectures that remember nothing of what they read: `create_memory` gives them none.
pub(crate) const WITHOUT_MEMORY: &[&str] = &[
    "bert",
    "modern-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "neo-bert",
    "jina-bert-v2",
    "jina-bert-v3",
    "eurobert",
    "gemma-embedding",
    "dream",
    "llada",
    "llada-moe",
    "rnd1",
    "clef",
    "wavtokenizer-dec",
];

/// Every layer is recurrent: `llm_arch_is_recurrent`.
pub(super) const RECURRENT: &[&str] = &["mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"];

/// Some layers are recurrent: `llm_arch_is_hybrid`.
pub(super) const HYBRID: &[&str] = &[
    "jamba",
    "falcon-h1",
    "plamo2",
    "granitehybrid",
    "lfm2",
    "lfm2moe",
    "nemotron_h",
    "nemotron_h_moe",
    "qwen3next",
    "kimi-linear",
    "bailingmoe3",
    "kimi-k3",
    "glm5-next",
    "qwen35",
    "qwen35moe",
    "qwen4exp",
    "deepseek4",
    "minimax-01",
];
