//! Which inputs the next batch encodes. Pure: no model, channel, clock or thread.
//!
//! Requests take turns, input by input: each puts its next one into the batch while there is room, and again, until the
//! batch is full or nobody has any. Whoever got nothing into a batch stands before those who did in the next one, and the
//! first in line always gets something in. So a request waits for no more batches than there are requests, however many
//! inputs the others have.

use std::collections::VecDeque;

/// Names a request to the packer.
pub(crate) type Key = u64;

/// The requests, and how far each has come.
#[derive(Debug)]
pub(crate) struct Packer {
    /// Tokens of a batch. An input that has more is a batch by itself.
    rows_per_batch: usize,
    inputs_per_batch: usize,
    /// In the order of their turns.
    requests: VecDeque<Progress>,
}

#[derive(Debug)]
struct Progress {
    key: Key,
    /// Tokens of the inputs that are not encoded yet; never empty.
    lengths: VecDeque<usize>,
}

/// How many of its next inputs each request has in a batch, in the order in which they stand there; none twice.
pub(crate) type Batch = Vec<(Key, usize)>;

impl Packer {
    pub(crate) fn new(rows_per_batch: usize, inputs_per_batch: usize) -> Self {
        Self { rows_per_batch, inputs_per_batch: inputs_per_batch.max(1), requests: VecDeque::new() }
    }

    /// Takes a request with inputs of so many tokens; at least one input.
    pub(crate) fn admit(&mut self, key: Key, lengths: impl IntoIterator<Item = usize>) {
        let lengths: VecDeque<usize> = lengths.into_iter().collect();
        debug_assert!(!lengths.is_empty() && self.requests.iter().all(|request| request.key != key));
        self.requests.push_back(Progress { key, lengths });
    }

    /// Forgets a request.
    pub(crate) fn remove(&mut self, key: Key) {
        self.requests.retain(|request| request.key != key);
    }

    /// The next batch; empty where nobody has an input left. The same plan comes again until it is applied.
    pub(crate) fn plan(&self) -> Batch {
        let mut taken = vec![0; self.requests.len()];
        let (mut rows, mut inputs) = (0, 0);
        let mut is_growing = true;
        while is_growing {
            is_growing = false;
            for (request, taken) in self.requests.iter().zip(&mut taken) {
                let Some(&length) = request.lengths.get(*taken) else { continue };
                let fits = inputs == 0 || (inputs < self.inputs_per_batch && rows + length <= self.rows_per_batch);
                if fits {
                    *taken += 1;
                    rows += length;
                    inputs += 1;
                    is_growing = true;
                }
            }
        }
        self.requests.iter().map(|request| request.key).zip(taken).filter(|&(_, taken)| taken > 0).collect()
    }

    /// Takes note that a batch is encoded. Those who had nothing in it come first in the next one.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        // Of those, the first goes last.
        for &(key, taken) in batch.iter().skip(1).chain(batch.first()) {
            let Some(place) = self.requests.iter().position(|request| request.key == key) else { continue };
            let Some(mut request) = self.requests.remove(place) else { continue };
            request.lengths.drain(..taken);
            if !request.lengths.is_empty() {
                self.requests.push_back(request);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plans and applies; each request with what it has in the batch.
    fn step(packer: &mut Packer, expected: &[(Key, usize)]) {
        let batch = packer.plan();
        assert_eq!(batch, packer.plan(), "a plan that was not applied comes again");
        assert_eq!(batch, expected);
        packer.apply(&batch);
    }

    #[test]
    fn a_batch_is_filled_with_whole_inputs() {
        let mut packer = Packer::new(10, 64);
        packer.admit(1, [4, 4, 4, 2]);
        step(&mut packer, &[(1, 2)]);
        step(&mut packer, &[(1, 2)]);
        step(&mut packer, &[]);
    }

    #[test]
    fn a_long_input_is_a_batch_by_itself() {
        let mut packer = Packer::new(10, 64);
        packer.admit(1, [25]);
        packer.admit(2, [1, 1]);
        step(&mut packer, &[(1, 1)]);
        step(&mut packer, &[(2, 2)]);
    }

    #[test]
    fn a_batch_has_no_more_inputs_than_it_may() {
        let mut packer = Packer::new(100, 3);
        packer.admit(1, [1; 5]);
        packer.admit(2, [1; 5]);
        step(&mut packer, &[(1, 2), (2, 1)]);
        step(&mut packer, &[(2, 2), (1, 1)]);
        step(&mut packer, &[(1, 2), (2, 1)]);
        step(&mut packer, &[(2, 1)]);
    }

    #[test]
    fn one_with_many_inputs_holds_up_nobody() {
        let mut packer = Packer::new(10, 64);
        packer.admit(1, [5; 2048]);
        step(&mut packer, &[(1, 2)]);
        packer.admit(2, [5]);
        step(&mut packer, &[(1, 1), (2, 1)]);
        packer.admit(3, [9]);
        step(&mut packer, &[(1, 2)]);
        step(&mut packer, &[(3, 1)]);
        step(&mut packer, &[(1, 2)]);
    }

    #[test]
    fn who_leaves_takes_no_room() {
        let mut packer = Packer::new(10, 64);
        packer.admit(1, [5; 8]);
        packer.admit(2, [5; 2]);
        step(&mut packer, &[(1, 1), (2, 1)]);
        packer.remove(1);
        step(&mut packer, &[(2, 1)]);
        step(&mut packer, &[]);
    }
}
