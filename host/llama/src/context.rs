//! llama.cpp's context: the memory of the sequences, and the computation.

use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::{Arc, PoisonError};

use engine::{DecodeError, DecoderShape, Row, Slot};
use llama_cpp_sys_2 as sys;

use crate::error::LoadError;
use crate::kv_type::KvType;
use crate::log;
use crate::model::Weights;

/// A context, and the arrays that its batches are made of.
pub(crate) struct Context {
    raw: NonNull<sys::llama_context>,
    weights: Arc<Weights>,
    rows_max: usize,
    batch: Batch,
    /// What the abort callback asks during a call; null between calls. Boxed because llama.cpp keeps its address.
    abort: Box<Cell<*const c_void>>,
    suppressed: Vec<sys::llama_logit_bias>,
    /// A context belongs to the thread that made it.
    _not_send: PhantomData<*mut ()>,
}

impl Context {
    /// Makes a context in which every slot has memory of its own for `context_length` tokens.
    pub(crate) fn new(
        weights: &Arc<Weights>,
        shape: DecoderShape,
        threads: i32,
        kv_type: KvType,
    ) -> Result<Self, LoadError> {
        let refuse =
            |reason: String| LoadError::Context { context_length: shape.context_length, slots: shape.slots, reason };
        let too_large = || refuse("the sizes exceed 32 bits".to_owned());
        let slots = u32::try_from(shape.slots).map_err(|_| too_large())?;
        let tokens = shape.context_length.checked_mul(slots).ok_or_else(too_large)?;
        // llama.cpp takes no batch longer than the context, and none will be.
        let rows_max = u32::try_from(shape.rows_max).map_err(|_| too_large())?.min(tokens);
        let abort = Box::new(Cell::new(ptr::null()));

        // SAFETY: returns a plain value.
        let mut parameters = unsafe { sys::llama_context_default_params() };
        // llama.cpp divides this by the sequences, and rounds each share up to 256.
        parameters.n_ctx = tokens;
        parameters.n_seq_max = slots;
        parameters.kv_unified = false;
        // One graph per batch: what is aborted leaves nothing half done behind.
        parameters.n_batch = rows_max;
        parameters.n_ubatch = rows_max;
        // Room for the logits of the rows that are sampled, not of every row.
        parameters.n_outputs_max =
            u32::try_from(shape.samples_max).map_err(|_| too_large())?.clamp(slots, rows_max.max(slots));
        parameters.type_k = kv_type.as_raw();
        parameters.type_v = kv_type.as_raw();
        parameters.n_threads = threads;
        parameters.n_threads_batch = threads;
        parameters.no_perf = true;
        parameters.abort_callback = Some(should_abort);
        parameters.abort_callback_data = ptr::from_ref::<Cell<_>>(&abort).cast_mut().cast();

        let ((context, reason), buffers) = {
            let _one_at_a_time = weights.making_context.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the model is alive and stays so as long as `weights` is held; the callback's data is boxed and
            // freed after the context. C++ exceptions are caught inside, where a null pointer is made of them.
            log::buffers_of(|| log::reason_of(|| unsafe { sys::llama_init_from_model(weights.as_ptr(), parameters) }))
        };
        weights.keep_buffers(buffers);
        let raw = NonNull::new(context).ok_or_else(|| refuse(reason))?;
        let this = Self {
            raw,
            weights: Arc::clone(weights),
            rows_max: rows_max as usize,
            batch: Batch::new(shape.slots),
            abort,
            suppressed: suppressed_tokens(weights),
            _not_send: PhantomData,
        };
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
        unsafe { sys::llama_vocab_n_tokens(self.weights.vocabulary()) }
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
        self.batch.fill(rows);
        let status = {
            if self.weights.can_go_back() {
                self.abort.set(ptr::from_ref(&abort).cast());
            }
            // SAFETY: the batch's arrays are as long as it says. Slots and tokens are the engine's: llama.cpp checks
            // them and refuses the batch. The callback's data is valid during the call, and taken back below.
            let status = unsafe { sys::llama_decode(self.raw.as_ptr(), self.batch.as_raw()) };
            self.abort.set(ptr::null());
            status
        };
        match status {
            0 => Ok(()),
            2 => {
                // Rows of different slots may have been computed one after the other.
                for rows in rows.chunk_by(|a, b| a.slot == b.slot) {
                    self.forget(rows[0].slot, rows[0].position);
                }
                Err(DecodeError::Aborted)
            }
            1 => Err(DecodeError::Failed("the context has no room for the batch".to_owned())),
            status => Err(DecodeError::Failed(format!("llama_decode returned {status}; its log says why"))),
        }
    }

    /// Whether the last tokens of a slot can be forgotten.
    pub(crate) fn can_forget(&self) -> bool {
        self.weights.can_go_back()
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
        let needed_from = match self.weights.sliding_window() {
            0 => 0,
            window => (count_signed - i64::from(window)).max(0),
        };
        let is_whole = i64::from(last) + 1 == count_signed;
        // A recurrent state has no first token: it stands for all of them.
        let is_there = first >= 0 && i64::from(last) + 1 >= count_signed && i64::from(first) <= needed_from;
        if is_whole && (is_there || !self.weights.can_go_back()) {
            return true;
        }
        is_there && self.weights.can_go_back() && self.forget(slot, count)
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

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and made before the model that `weights` keeps alive is freed.
        unsafe { sys::llama_free(self.raw.as_ptr()) };
    }
}

/// Asks what [`Context::decode`] was given. llama.cpp calls it between two operations of the graph, on the thread
/// that called `llama_decode`.
pub(crate) unsafe extern "C" fn should_abort(data: *mut c_void) -> bool {
    // SAFETY: `data` is the boxed cell of the context that is computing.
    let abort = unsafe { &*data.cast::<Cell<*const c_void>>() }.get();
    // SAFETY: not null only during `decode`, which put the address of a reference there that it still holds.
    let abort = unsafe { abort.cast::<&dyn Fn() -> bool>().as_ref() };
    // A panic must not unwind into C++.
    abort.is_some_and(|abort| catch_unwind(AssertUnwindSafe(abort)).unwrap_or(true))
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

/// The arrays of a `llama_batch`, reused from step to step.
pub(crate) struct Batch {
    tokens: Vec<sys::llama_token>,
    positions: Vec<sys::llama_pos>,
    sequence_counts: Vec<i32>,
    sequences: Vec<*mut sys::llama_seq_id>,
    wants_logits: Vec<i8>,
    /// The sequence number of every slot: what `sequences` points into.
    slots: Box<[sys::llama_seq_id]>,
}

impl Batch {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            sequence_counts: Vec::new(),
            sequences: Vec::new(),
            wants_logits: Vec::new(),
            slots: (0..).take(slots).collect(),
        }
    }

    pub(crate) fn fill(&mut self, rows: &[Row]) {
        self.tokens.clear();
        self.positions.clear();
        self.sequence_counts.clear();
        self.sequences.clear();
        self.wants_logits.clear();
        for row in rows {
            self.tokens.push(row.token.0.cast_signed());
            self.positions.push(row.position.cast_signed());
            self.sequence_counts.push(1);
            self.sequences.push(&raw mut self.slots[row.slot.0]);
            self.wants_logits.push(i8::from(row.wants_logits));
        }
    }

    pub(crate) fn as_raw(&mut self) -> sys::llama_batch {
        sys::llama_batch {
            n_tokens: i32::try_from(self.tokens.len()).expect("a batch is at most as long as its u32 limit"),
            token: self.tokens.as_mut_ptr(),
            embd: ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.sequence_counts.as_mut_ptr(),
            seq_id: self.sequences.as_mut_ptr(),
            logits: self.wants_logits.as_mut_ptr(),
        }
    }
}
