//! llama.cpp's context: the memory of the sequences, and the computation.

use std::sync::Arc;

use engine::{DecodeError, DecoderShape, Row, Slot};
use llama_cpp_sys_2 as sys;

use crate::error::LoadError;
use crate::kv_type::KvType;
use crate::model::Weights;
use crate::raw_context::RawContext;
use crate::threads::Threads;

/// A context whose slots remember what they computed.
pub(crate) struct Context {
    raw: RawContext,
    rows_max: usize,
    suppressed: Vec<sys::llama_logit_bias>,
}

impl Context {
    /// Makes a context in which every slot has memory of its own for `context_length` tokens.
    pub(crate) fn new(
        weights: &Arc<Weights>,
        shape: DecoderShape,
        threads: &Threads,
        kv_type: KvType,
    ) -> Result<Self, LoadError> {
        let refuse =
            |reason: String| LoadError::Context { context_length: shape.context_length, slots: shape.slots, reason };
        let too_large = || refuse("the sizes exceed 32 bits".to_owned());
        let slots = u32::try_from(shape.slots).map_err(|_| too_large())?;
        let tokens = shape.context_length.checked_mul(slots).ok_or_else(too_large)?;
        // llama.cpp takes no batch longer than the context, and none will be.
        let rows_max = u32::try_from(shape.rows_max).map_err(|_| too_large())?.min(tokens);
        // Room for the logits of the rows that are sampled, not of every row.
        let samples = u32::try_from(shape.samples_max).map_err(|_| too_large())?.clamp(slots, rows_max.max(slots));
        let raw = RawContext::new(weights, shape.slots, threads, |parameters| {
            // llama.cpp divides this by the sequences, and rounds each share up to 256.
            parameters.n_ctx = tokens;
            parameters.n_seq_max = slots;
            parameters.kv_unified = false;
            // One graph per batch: what is aborted leaves nothing half done behind.
            parameters.n_batch = rows_max;
            parameters.n_ubatch = rows_max;
            parameters.n_outputs_max = samples;
            parameters.type_k = kv_type.as_raw();
            parameters.type_v = kv_type.as_raw();
        })
        .map_err(refuse)?;
        let this = Self { raw, rows_max: rows_max as usize, suppressed: suppressed_tokens(weights) };
        // SAFETY: the context is alive.
        let (each, rows, memory) = unsafe {
            let context = this.raw.as_ptr();
            (sys::llama_n_ctx_seq(context), sys::llama_n_batch(context), sys::llama_get_memory(context))
        };
        if memory.is_null() {
            return Err(refuse("the model has no memory of what it read: it does not complete text".to_owned()));
        }
        if each < shape.context_length || rows < rows_max {
            return Err(refuse(format!("llama.cpp made one of {each} tokens and {rows} rows")));
        }
        Ok(this)
    }

    pub(crate) fn as_ptr(&mut self) -> *mut sys::llama_context {
        self.raw.as_ptr()
    }

    pub(crate) fn vocabulary_size(&self) -> i32 {
        // SAFETY: the vocabulary lives as long as the model.
        unsafe { sys::llama_vocab_n_tokens(self.raw.weights().vocabulary()) }
    }

    /// Tokens that the model's makers never want to see sampled, as biases.
    pub(crate) fn suppressed_tokens(&self) -> &[sys::llama_logit_bias] {
        &self.suppressed
    }

    /// Computes a batch. Where it is aborted, no slot keeps any of it.
    pub(crate) fn decode(&mut self, rows: &[Row], abort: &dyn Fn() -> bool) -> Result<(), DecodeError> {
        // llama.cpp ends the process over such a batch.
        if rows.is_empty() || rows.len() > self.rows_max {
            let (given, taken) = (rows.len(), self.rows_max);
            return Err(DecodeError::Failed(format!(
                "a batch of {given} rows was given, the context takes 1 to {taken}"
            )));
        }
        let can_go_back = self.raw.weights().can_go_back();
        let outcome = self.raw.compute(rows, can_go_back.then_some(abort));
        if matches!(outcome, Err(DecodeError::Aborted)) {
            // Rows of different slots may have been computed one after the other.
            for rows in rows.chunk_by(|a, b| a.slot == b.slot) {
                self.forget(rows[0].slot, rows[0].position);
            }
        }
        outcome
    }

    /// Whether the last tokens of a slot can be forgotten.
    pub(crate) fn can_forget(&self) -> bool {
        self.raw.weights().can_go_back()
    }

    /// Forgets a slot's tokens from a position on. `false` where this model cannot go back there; then it still knows
    /// them all.
    pub(crate) fn forget(&mut self, slot: Slot, from: u32) -> bool {
        let slot = sequence_id(slot);
        let from = i32::try_from(from).unwrap_or(i32::MAX);
        // SAFETY: the context is alive and has a memory.
        unsafe { sys::llama_memory_seq_rm(sys::llama_get_memory(self.raw.as_ptr()), slot, from, -1) }
    }

    /// Forgets a slot's tokens from `count` on, where what is left is all that the next token needs: a model with a
    /// sliding window has dropped what lies before the window, and one with a recurrent state has only its last state.
    pub(crate) fn keep(&mut self, slot: Slot, count: u32) -> bool {
        let (id, count_signed) = (sequence_id(slot), i64::from(count));
        // SAFETY: the context is alive and has a memory.
        let (first, last) = unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            (sys::llama_memory_seq_pos_min(memory, id), sys::llama_memory_seq_pos_max(memory, id))
        };
        let needed_from = match self.raw.weights().sliding_window() {
            0 => 0,
            window => (count_signed - i64::from(window)).max(0),
        };
        let is_whole = i64::from(last) + 1 == count_signed;
        // A recurrent state has no first token: it stands for all of them.
        let is_there = first >= 0 && i64::from(last) + 1 >= count_signed && i64::from(first) <= needed_from;
        if is_whole && (is_there || !self.raw.weights().can_go_back()) {
            return true;
        }
        is_there && self.raw.weights().can_go_back() && self.forget(slot, count)
    }

    /// Bytes of [`Context::save`].
    pub(crate) fn saved_bytes(&mut self, slot: Slot) -> usize {
        // SAFETY: the context is alive.
        unsafe { sys::llama_state_seq_get_size(self.raw.as_ptr(), sequence_id(slot)) }
    }

    /// A copy of what a slot remembers.
    pub(crate) fn save(&mut self, slot: Slot) -> Option<Vec<u8>> {
        let mut saved = vec![0; self.saved_bytes(slot)];
        // SAFETY: the context is alive, and the buffer as long as said.
        let written = unsafe {
            sys::llama_state_seq_get_data(self.raw.as_ptr(), saved.as_mut_ptr(), saved.len(), sequence_id(slot))
        };
        (written > 0 && written <= saved.len()).then(|| {
            saved.truncate(written);
            saved
        })
    }

    /// What [`Context::save`] gave, into a slot. Where that fails the slot remembers nothing.
    pub(crate) fn restore(&mut self, slot: Slot, saved: &[u8]) -> bool {
        // SAFETY: the context is alive, and the buffer as long as said.
        let read =
            unsafe { sys::llama_state_seq_set_data(self.raw.as_ptr(), saved.as_ptr(), saved.len(), sequence_id(slot)) };
        if read == 0 {
            self.forget(slot, 0);
        }
        read > 0
    }
}

fn sequence_id(slot: Slot) -> sys::llama_seq_id {
    i32::try_from(slot.0).expect("slots are few")
}

fn suppressed_tokens(weights: &Weights) -> Vec<sys::llama_logit_bias> {
    let mut count = 0;
    // SAFETY: the vocabulary is alive, and the array it returns has as many tokens as it says.
    let tokens = unsafe {
        let tokens = sys::llama_vocab_get_suppress_tokens(weights.vocabulary(), &raw mut count);
        match usize::try_from(count) {
            Ok(count) if count > 0 && !tokens.is_null() => std::slice::from_raw_parts(tokens, count),
            _ => &[],
        }
    };
    tokens.iter().map(|&token| sys::llama_logit_bias { token, bias: f32::NEG_INFINITY }).collect()
}
