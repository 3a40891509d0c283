//! The engine's decoder, on llama.cpp.

use std::sync::Arc;

use engine::{Choice, DecodeError, Decoder, DecoderShape, Logits, Row, Sampled, Slot};
use inference::{EngineFault, Sampling, Token, Vocabulary};

use crate::context::Context;
use crate::error::LoadError;
use crate::sampler::{Room, Sampler, logits};
use crate::vocabulary::LlamaVocabulary;

/// Computes tokens with llama.cpp. Not `Send`: it stays on the thread where [`crate::Model::decoder`] made it.
pub struct LlamaDecoder {
    context: Context,
    vocabulary: Arc<LlamaVocabulary>,
    /// By slot; `None` where no sequence is.
    samplers: Vec<Option<Sampler>>,
    /// By slot: logits that were put aside. Of a sequence that waits, as many as the vocabulary has tokens; otherwise none.
    parked: Vec<Vec<f32>>,
    room: Room,
}

impl LlamaDecoder {
    /// Computes one token and forgets it: the weights are in memory afterwards, and a model that does not compute is
    /// found out before it is called ready.
    pub(crate) fn new(
        context: Context,
        vocabulary: Arc<LlamaVocabulary>,
        shape: DecoderShape,
    ) -> Result<Self, LoadError> {
        let samplers = (0..shape.slots).map(|_| None).collect();
        let parked = vec![Vec::new(); shape.slots];
        let mut this = Self { context, vocabulary, samplers, parked, room: Room::default() };
        let token = this.vocabulary.beginning_of_sequence().unwrap_or(Token(0));
        let row = Row { slot: Slot(0), token, position: 0, wants_logits: true };
        this.begin(Slot(0), 0, &Sampling::default());
        this.decode(&[row], &|| false).map_err(|error| LoadError::WarmUp { reason: error.to_string() })?;
        this.sample(Slot(0), Logits::Row(0), &Choice::default())
            .map_err(|fault| LoadError::WarmUp { reason: fault.to_string() })?;
        this.end(Slot(0));
        this.forget(Slot(0));
        Ok(this)
    }
}

impl Decoder for LlamaDecoder {
    fn begin(&mut self, slot: Slot, keep: u32, sampling: &Sampling) -> u32 {
        self.samplers[slot.0] = Some(Sampler::new(sampling, &self.context, &self.vocabulary));
        if keep > 0 && self.context.keep(slot, keep) {
            return keep;
        }
        self.context.forget(slot, 0);
        0
    }

    fn decode(&mut self, rows: &[Row], abort: &dyn Fn() -> bool) -> Result<(), DecodeError> {
        self.context.decode(rows, abort)
    }

    fn sample(&mut self, slot: Slot, from: Logits, choice: &Choice<'_>) -> Result<Sampled, EngineFault> {
        let sampler = self.samplers[slot.0].as_mut().expect("the engine samples for slots that have begun");
        let raw = match from {
            Logits::Row(row) => logits(&mut self.context, row)
                .ok_or_else(|| EngineFault::Decode(format!("llama.cpp has no logits for row {row}")))?,
            Logits::Parked => &self.parked[slot.0],
        };
        sampler.sample(raw, choice, &mut self.room)
    }

    fn park(&mut self, slot: Slot, row: usize) {
        let parked = &mut self.parked[slot.0];
        parked.clear();
        // Where there are none, nothing can be chosen from what is there then, and the choice fails.
        parked.extend_from_slice(logits(&mut self.context, row).unwrap_or_default());
    }

    fn accept(&mut self, slot: Slot, token: Token) {
        self.samplers[slot.0].as_mut().expect("the engine appends to slots that have begun").accept(token);
    }

    fn can_forget(&self) -> bool {
        self.context.can_forget()
    }

    fn forget_from(&mut self, slot: Slot, position: u32) {
        self.context.forget(slot, position);
    }

    fn end(&mut self, slot: Slot) {
        self.samplers[slot.0] = None;
        self.parked[slot.0] = Vec::new();
    }

    fn forget(&mut self, slot: Slot) {
        self.context.forget(slot, 0);
    }

    fn saved_bytes(&mut self, slot: Slot) -> usize {
        self.context.saved_bytes(slot)
    }

    fn save(&mut self, slot: Slot) -> Option<Vec<u8>> {
        self.context.save(slot)
    }

    fn restore(&mut self, slot: Slot, saved: &[u8]) -> bool {
        self.context.restore(slot, saved)
    }
}
