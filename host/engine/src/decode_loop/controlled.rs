//! Steps of sequences that somebody controls token by token.

use std::time::Instant;

use inference::Token;

use super::{DecodeLoop, Next};
use crate::control::Turn;
use crate::decoder::{Decoder, Logits, Slot};
use crate::sequence::Sequence;

impl<D: Decoder> DecodeLoop<D> {
    /// Goes on with sequences whose logits were put aside, where it is known how by now.
    pub(super) fn settle(&mut self, now: Instant) {
        for slot in std::mem::take(&mut self.parked) {
            // What it says would have no room.
            if self.running[slot.0].as_ref().is_some_and(Sequence::is_behind) {
                self.parked.push(slot);
            } else {
                self.sample_controlled(slot, Logits::Parked, now);
            }
        }
    }

    /// Goes on as the sequence's controller says, or puts the logits aside until he does. Nothing is guessed for such a
    /// sequence, so there is one row.
    pub(super) fn sample_controlled(&mut self, slot: Slot, logits: Logits, now: Instant) {
        let Some(sequence) = &mut self.running[slot.0] else { return };
        let end = match sequence.turn(now) {
            Ok(Turn::Wait) => {
                if let Logits::Row(row) = logits {
                    self.decoder.park(slot, row);
                }
                return self.parked.push(slot);
            }
            Ok(Turn::Choose) => {
                let chosen = sequence.choice().and_then(|choice| self.decoder.sample(slot, logits, &choice));
                chosen.map_err(|fault| sequence.no_token(fault)).and_then(|sampled| {
                    let token = sampled.token;
                    let finish = sequence.take(sampled, &*self.vocabulary, &mut self.piece, now)?;
                    Ok(finish.map_or(Next::Token(token), Next::End))
                })
            }
            Ok(Turn::Force(tokens)) => return self.force(slot, tokens, now),
            Ok(Turn::End) => sequence.end().map(Next::End),
            Err(fault) => Err(fault),
        };
        if let Ok(Next::Token(token)) = &end {
            sequence.flush();
            // Now, and not when it has been planned: what comes next is thought about while this is computed.
            sequence.appended(&[*token], now);
        }
        self.conclude(slot, end, now);
    }

    /// Lets a sequence go on with tokens that nobody chose.
    fn force(&mut self, slot: Slot, tokens: Vec<Token>, now: Instant) {
        let Some(sequence) = &mut self.running[slot.0] else { return };
        for &token in &tokens {
            let end = match sequence.take_forced(token, &*self.vocabulary, &mut self.piece, now) {
                Ok(None) => {
                    self.decoder.accept(slot, token);
                    continue;
                }
                Ok(Some(finish)) => Ok(Next::End(finish)),
                Err(fault) => Err(fault),
            };
            return self.conclude(slot, end, now);
        }
        sequence.flush();
        sequence.appended(&tokens, now);
        self.scheduler.append(slot, tokens);
    }
}
