//! llama.cpp behind the engine's Decoder.
