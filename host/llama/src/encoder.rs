//! The engine's encoder, on llama.cpp: a context that remembers nothing from batch to batch.

use std::sync::Arc;

use engine::{DecodeError, Encoder, EncoderShape, Row, Slot};
use inference::Token;
use llama_cpp_sys_2 as sys;

use crate::encoding::Encodes;
use crate::error::LoadError;
use crate::limits::{CAUSAL_ROWS, SLOTS_MAX};
use crate::model::Weights;
use crate::raw_context::RawContext;
use crate::threads::Threads;

/// Encodes inputs with llama.cpp. Not `Send`: it stays on the thread where [`crate::Model::encoder`] made it.
pub struct LlamaEncoder {
    raw: RawContext,
    encodes: Encodes,
    shape: EncoderShape,
    /// Rows of one call of llama.cpp.
    rows_max: usize,
    /// Numbers per input.
    width: usize,
    rows: Vec<Row>,
}

impl LlamaEncoder {
    /// Makes a context for batches of `shape`, and encodes one token: a model that does not compute is found out before it
    /// is called ready.
    pub(crate) fn new(
        weights: &Arc<Weights>,
        encodes: &Encodes,
        shape: EncoderShape,
        threads: &Threads,
    ) -> Result<Self, LoadError> {
        let refuse = |reason: String| LoadError::EncodingContext { context_length: shape.context_length, reason };
        let inputs_max = shape.inputs_max.clamp(1, SLOTS_MAX);
        // Where a token sees only what stands before it, and the last one stands for all, an input may come in parts: the
        // memory of logits that llama.cpp keeps for every row of a call is a part's then, not the whole input's. All others
        // must be in one call, and llama.cpp ends the process where they are not.
        let rows_max =
            if encodes.is_by_last { shape.rows_max.min(CAUSAL_ROWS.max(inputs_max)) } else { shape.rows_max };
        let count = |number: usize| u32::try_from(number).map_err(|_| refuse("the sizes exceed 32 bits".to_owned()));
        let (tokens, rows, inputs) = (count(shape.rows_max)?, count(rows_max)?, count(inputs_max.min(rows_max))?);
        let raw = RawContext::new(weights, inputs_max, threads, |parameters| {
            parameters.n_ctx = tokens;
            parameters.n_batch = rows;
            parameters.n_ubatch = rows;
            parameters.n_seq_max = inputs;
            // Inputs of any lengths side by side, in one piece: otherwise llama.cpp takes them apart to make them alike, and
            // takes the mean over a part.
            parameters.kv_unified = true;
            parameters.embeddings = true;
        })
        .map_err(refuse)?;
        let mut this = Self {
            raw,
            encodes: encodes.clone(),
            shape: EncoderShape { inputs_max: inputs_max.min(rows_max), ..shape },
            rows_max,
            width: encodes.width(weights),
            rows: Vec::new(),
        };
        // SAFETY: the context is alive.
        let (tokens, rows) = unsafe { (sys::llama_n_ctx(this.raw.as_ptr()), sys::llama_n_ubatch(this.raw.as_ptr())) };
        if (tokens as usize) < shape.rows_max || (rows as usize) < rows_max {
            return Err(refuse(format!("llama.cpp made one of {tokens} tokens and {rows} rows")));
        }
        let token = encodes.facts.frame.start.unwrap_or(Token(0));
        this.encode(&[&[token]], &|| false).map_err(|error| LoadError::WarmUp { reason: error.to_string() })?;
        Ok(this)
    }

    /// llama.cpp ends the process over some batches.
    fn check(&self, inputs: &[&[Token]]) -> Result<(), DecodeError> {
        let rows: usize = inputs.iter().map(|input| input.len()).sum();
        let is_taken = (1..=self.shape.inputs_max).contains(&inputs.len())
            && rows <= self.shape.rows_max
            && inputs.iter().all(|input| (1..=self.shape.context_length as usize).contains(&input.len()));
        if is_taken {
            return Ok(());
        }
        Err(DecodeError::Failed(format!(
            "a batch of {} inputs and {rows} tokens was given; the context takes 1 to {} inputs and {} tokens, {} of one \
             input",
            inputs.len(),
            self.shape.inputs_max,
            self.shape.rows_max,
            self.shape.context_length
        )))
    }

    /// What llama.cpp made of an input that ended in the last call.
    fn output(&mut self, input: usize) -> Result<Vec<f32>, DecodeError> {
        let id = i32::try_from(input).expect("inputs are few");
        // SAFETY: the context is alive.
        let numbers = unsafe { sys::llama_get_embeddings_seq(self.raw.as_ptr(), id) };
        if numbers.is_null() {
            return Err(DecodeError::Failed("llama.cpp gave no vector for an input".to_owned()));
        }
        // SAFETY: it is as long as the model says (`llama.h`), and lives until the next call.
        let numbers = unsafe { std::slice::from_raw_parts(numbers, self.width) };
        Ok(self.encodes.output(numbers.to_vec()))
    }

    /// Empties the memory of a model that has one.
    fn forget_all(&mut self) {
        // SAFETY: the context is alive.
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            if !memory.is_null() {
                sys::llama_memory_clear(memory, false);
            }
        }
    }
}

impl Encoder for LlamaEncoder {
    fn encode(&mut self, inputs: &[&[Token]], abort: &dyn Fn() -> bool) -> Result<Vec<Vec<f32>>, DecodeError> {
        self.check(inputs)?;
        self.forget_all();
        self.rows.clear();
        for (slot, input) in inputs.iter().enumerate() {
            self.rows.extend((0..).zip(*input).map(|(position, &token)| Row {
                slot: Slot(slot),
                token,
                position,
                wants_logits: true,
            }));
        }
        let mut outputs = Vec::with_capacity(inputs.len());
        let mut from = 0;
        while from < self.rows.len() {
            let to = self.rows.len().min(from + self.rows_max);
            self.raw.compute(&self.rows[from..to], Some(abort))?;
            // An input has ended where the next row is another one's.
            for place in from..to {
                let slot = self.rows[place].slot;
                if self.rows.get(place + 1).is_none_or(|next| next.slot != slot) {
                    outputs.push(self.output(slot.0)?);
                }
            }
            from = to;
        }
        Ok(outputs)
    }
}
