//! A context of llama.cpp's by itself: made, computing, freed. What is remembered and what comes out is its owners' business.

use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::{Arc, PoisonError};

use engine::{DecodeError, Row};
use llama_cpp_sys_2 as sys;

use crate::log;
use crate::model::Weights;
use crate::threads::{Share, Threads};

/// A context, and the arrays that its batches are made of.
pub(crate) struct RawContext {
    raw: NonNull<sys::llama_context>,
    /// Kept alive as long as the context.
    weights: Arc<Weights>,
    batch: Batch,
    share: Share,
    /// Threads of the last batch.
    threads: i32,
    /// What the abort callback asks during a call; null between calls. Boxed because llama.cpp keeps its address.
    abort: Box<Cell<*const c_void>>,
    /// A context belongs to the thread that made it.
    _not_send: PhantomData<*mut ()>,
}

impl RawContext {
    /// Makes a context for rows of so many slots; what llama.cpp says where it makes none is the error.
    pub(crate) fn new(
        weights: &Arc<Weights>,
        slots: usize,
        threads: &Threads,
        set: impl FnOnce(&mut sys::llama_context_params),
    ) -> Result<Self, String> {
        let abort = Box::new(Cell::new(ptr::null()));
        // SAFETY: returns a plain value.
        let mut parameters = unsafe { sys::llama_context_default_params() };
        set(&mut parameters);
        parameters.n_threads = threads.count;
        parameters.n_threads_batch = threads.count;
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
        let raw = NonNull::new(context).ok_or(reason)?;
        let share = Share::new(threads.clone());
        Ok(Self {
            raw,
            weights: Arc::clone(weights),
            batch: Batch::new(slots),
            share,
            threads: threads.count,
            abort,
            _not_send: PhantomData,
        })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::llama_context {
        self.raw.as_ptr()
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Computes rows: at least one, no more than the context was made for, of its slots only; llama.cpp ends the process over
    /// others.
    pub(crate) fn compute(&mut self, rows: &[Row], abort: Option<&dyn Fn() -> bool>) -> Result<(), DecodeError> {
        self.batch.fill(rows);
        let turn = self.share.begin();
        if turn.threads != self.threads {
            self.threads = turn.threads;
            // SAFETY: the context is alive and computes nothing now.
            unsafe { sys::llama_set_n_threads(self.raw.as_ptr(), turn.threads, turn.threads) };
        }
        if let Some(abort) = &abort {
            self.abort.set(ptr::from_ref(abort).cast());
        }
        // SAFETY: the batch's arrays are as long as it says. Slots are checked where the arrays are filled; tokens are the
        // engine's: llama.cpp checks them and refuses the batch. The callback's data is valid during the call, and taken back
        // below.
        let status = unsafe { sys::llama_decode(self.raw.as_ptr(), self.batch.as_raw()) };
        self.abort.set(ptr::null());
        drop(turn);
        match status {
            0 => Ok(()),
            2 => Err(DecodeError::Aborted),
            1 => Err(DecodeError::Failed("the context has no room for the batch".to_owned())),
            status => Err(DecodeError::Failed(format!("llama_decode returned {status}; its log says why"))),
        }
    }
}

impl Drop for RawContext {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and freed before the model that `weights` keeps alive.
        unsafe { sys::llama_free(self.raw.as_ptr()) };
    }
}

/// Asks what [`RawContext::compute`] was given. llama.cpp calls it between two operations of the graph, on the thread
/// that called `llama_decode`.
unsafe extern "C" fn should_abort(data: *mut c_void) -> bool {
    // SAFETY: `data` is the boxed cell of the context that is computing.
    let abort = unsafe { &*data.cast::<Cell<*const c_void>>() }.get();
    // SAFETY: not null only during `compute`, which put the address of a reference there that it still holds.
    let abort = unsafe { abort.cast::<&dyn Fn() -> bool>().as_ref() };
    // A panic must not unwind into C++.
    abort.is_some_and(|abort| catch_unwind(AssertUnwindSafe(abort)).unwrap_or(true))
}

/// The arrays of a `llama_batch`, reused from step to step.
struct Batch {
    tokens: Vec<sys::llama_token>,
    positions: Vec<sys::llama_pos>,
    sequence_counts: Vec<i32>,
    sequences: Vec<*mut sys::llama_seq_id>,
    wants_logits: Vec<i8>,
    /// The sequence number of every slot: what `sequences` points into.
    slots: Box<[sys::llama_seq_id]>,
}

impl Batch {
    fn new(slots: usize) -> Self {
        Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            sequence_counts: Vec::new(),
            sequences: Vec::new(),
            wants_logits: Vec::new(),
            slots: (0..).take(slots).collect(),
        }
    }

    fn fill(&mut self, rows: &[Row]) {
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

    fn as_raw(&mut self) -> sys::llama_batch {
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
