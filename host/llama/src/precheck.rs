//! What a file can say that llama.cpp answers by ending the process: found here first, and made an error.
//!
//! The header is read with llama.cpp's own reader, which refuses what it cannot read. This list holds the values
//! behind its assertions that overwriting every byte of a header, one at a time, has found.

use std::collections::HashSet;
use std::ffi::CStr;
use std::ptr::{self, NonNull};

use llama_cpp_sys_2 as sys;

/// llama.cpp's `LLAMA_MAX_LAYERS`.
const LAYERS_MAX: u32 = 512;

/// `LLAMA_POOLING_TYPE_RANK`.
const RANK: u32 = 4;

/// Looks for such values. `Ok` where there are none, or where llama.cpp's reader refuses the file.
pub(crate) fn check(path: &CStr) -> Result<(), String> {
    let Some(header) = Header::open(path) else { return Ok(()) };
    for key in header.keys() {
        let name = header.name(key).to_string_lossy();
        if name.ends_with(".block_count")
            && let Some(layers) = header.u32(key)
            && !(1..=LAYERS_MAX).contains(&layers)
        {
            return Err(format!("`{name}` is {layers}, and llama.cpp takes 1 to {LAYERS_MAX} layers"));
        }
        if name.ends_with("_epsilon")
            && let Some(epsilon) = header.f32(key)
            && !(epsilon.is_finite() && epsilon >= 0.0)
        {
            return Err(format!("`{name}` is {epsilon}, and a norm needs a number that is not negative"));
        }
        if name == "tokenizer.ggml.tokens" {
            let mut seen = HashSet::new();
            if let Some(twin) = header.texts(key).find(|&text| !text.is_empty() && !seen.insert(text)) {
                return Err(format!("two of its tokens are {:?}", String::from_utf8_lossy(twin)));
            }
        }
    }
    header.check_attention()?;
    header.check_types()?;
    header.check_classifier()
}

/// A GGUF header in memory.
struct Header(NonNull<sys::gguf_context>);

impl Header {
    fn open(path: &CStr) -> Option<Self> {
        let parameters = sys::gguf_init_params { no_alloc: true, ctx: ptr::null_mut() };
        // SAFETY: the path is NUL-terminated; no tensors are asked for.
        NonNull::new(unsafe { sys::gguf_init_from_file(path.as_ptr(), parameters) }).map(Self)
    }

    /// Heads of keys and values are shared by heads of queries, and what is rotated is part of a head.
    fn check_attention(&self) -> Result<(), String> {
        let Some(architecture) = self.find("general.architecture").and_then(|key| self.text(key)) else {
            return Ok(());
        };
        let number = |name: &str| self.find(&format!("{architecture}.{name}")).and_then(|key| self.u32(key));
        let (Some(width), Some(heads)) = (number("embedding_length"), number("attention.head_count")) else {
            return Ok(());
        };
        if let Some(shared) = number("attention.head_count_kv").filter(|&shared| shared > heads) {
            return Err(format!("{heads} attention heads cannot share {shared} heads of keys and values"));
        }
        let head = number("attention.key_length").or_else(|| width.checked_div(heads)).unwrap_or(0);
        match number("rope.dimension_count") {
            Some(rotated) if heads > 0 && rotated > head => {
                Err(format!("a head has {head} dimensions, and `rope.dimension_count` wants to rotate {rotated}"))
            }
            _ => Ok(()),
        }
    }

    /// What is added to a row, or multiplies it, is of 32 bits: llama.cpp's CPU backend knows no other sum. Converters write no
    /// other.
    fn check_types(&self) -> Result<(), String> {
        let header = self.0.as_ptr();
        // SAFETY: the header is alive, here and below; the tensors are its own.
        for tensor in 0..unsafe { sys::gguf_get_n_tensors(header) } {
            // SAFETY: the name is NUL-terminated and lives as long as the header.
            let name = unsafe { CStr::from_ptr(sys::gguf_get_tensor_name(header, tensor)) }.to_string_lossy();
            // SAFETY: as above.
            let kind = unsafe { sys::gguf_get_tensor_type(header, tensor) };
            if (name.ends_with(".bias") || name.ends_with("_norm.weight")) && kind != sys::GGML_TYPE_F32 {
                return Err(format!("its tensor `{name}` does not hold numbers of 32 bits, as it has to"));
            }
        }
        Ok(())
    }

    /// A model that ranks has a classifier: without one llama.cpp hands out the vector's first numbers as its scores.
    fn check_classifier(&self) -> Result<(), String> {
        let pooling = self
            .find("general.architecture")
            .and_then(|key| self.text(key))
            .and_then(|architecture| self.find(&format!("{architecture}.pooling_type")))
            .and_then(|key| self.u32(key));
        // SAFETY: the names are NUL-terminated.
        let has = |name: &CStr| unsafe { sys::gguf_find_tensor(self.0.as_ptr(), name.as_ptr()) } >= 0;
        if pooling == Some(RANK) && !has(c"cls.weight") && !has(c"cls.output.weight") {
            return Err("it is said to rank texts, and has no classifier (`cls.output.weight`)".to_owned());
        }
        Ok(())
    }

    fn keys(&self) -> std::ops::Range<i64> {
        // SAFETY: the header is alive, here and below; the keys are its own.
        0..unsafe { sys::gguf_get_n_kv(self.0.as_ptr()) }
    }

    fn find(&self, name: &str) -> Option<i64> {
        self.keys().find(|&key| self.name(key).to_bytes() == name.as_bytes())
    }

    fn name(&self, key: i64) -> &CStr {
        // SAFETY: a key's name is NUL-terminated and lives as long as the header.
        unsafe { CStr::from_ptr(sys::gguf_get_key(self.0.as_ptr(), key)) }
    }

    fn kind(&self, key: i64) -> sys::gguf_type {
        // SAFETY: as above.
        unsafe { sys::gguf_get_kv_type(self.0.as_ptr(), key) }
    }

    fn u32(&self, key: i64) -> Option<u32> {
        // SAFETY: the type is checked, as llama.cpp asserts.
        (self.kind(key) == sys::GGUF_TYPE_UINT32).then(|| unsafe { sys::gguf_get_val_u32(self.0.as_ptr(), key) })
    }

    fn f32(&self, key: i64) -> Option<f32> {
        // SAFETY: the type is checked, as llama.cpp asserts.
        (self.kind(key) == sys::GGUF_TYPE_FLOAT32).then(|| unsafe { sys::gguf_get_val_f32(self.0.as_ptr(), key) })
    }

    fn text(&self, key: i64) -> Option<&str> {
        // SAFETY: the type is checked, as llama.cpp asserts; the text is NUL-terminated and lives as long as the header.
        let text = (self.kind(key) == sys::GGUF_TYPE_STRING)
            .then(|| unsafe { CStr::from_ptr(sys::gguf_get_val_str(self.0.as_ptr(), key)) });
        text.and_then(|text| text.to_str().ok())
    }

    fn texts(&self, key: i64) -> impl Iterator<Item = &[u8]> {
        let header = self.0.as_ptr();
        // SAFETY: the types are checked from the outside in, as llama.cpp asserts.
        let count = unsafe {
            let are_texts =
                self.kind(key) == sys::GGUF_TYPE_ARRAY && sys::gguf_get_arr_type(header, key) == sys::GGUF_TYPE_STRING;
            if are_texts { sys::gguf_get_arr_n(header, key) } else { 0 }
        };
        // SAFETY: the place is below the count; the text is NUL-terminated and lives as long as the header.
        (0..count).map(move |place| unsafe { CStr::from_ptr(sys::gguf_get_arr_str(header, key, place)) }.to_bytes())
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        // SAFETY: the header is ours.
        unsafe { sys::gguf_free(self.0.as_ptr()) };
    }
}
