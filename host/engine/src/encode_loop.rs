//! One step of an engine that encodes: reap, admit, plan, encode, hand out.
//!
//! [`crate::thread`] repeats [`Work::step`]; tests drive it with a clock and an encoder of their own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use inference::{Encoded, EngineFault, RequestId, Timings, Token};
use tokio::sync::oneshot;

use crate::decoder::DecodeError;
use crate::encoder::{Encoder, EncoderShape};
use crate::encoding::EncodingConfig;
use crate::packer::{Batch, Key, Packer};
use crate::thread::{Outlook, Shared, Work};

/// Everything that is under way, and the encoder that computes it.
pub(crate) struct EncodeLoop<E> {
    encoder: E,
    shape: EncoderShape,
    packer: Packer,
    /// First come, first served.
    queue: VecDeque<Job>,
    running: HashMap<Key, Job>,
    next_key: Key,
    requests_max: usize,
    shared: Arc<Shared>,
}

/// A request: its inputs, and what they became so far.
pub(crate) struct Job {
    id: RequestId,
    inputs: Vec<Vec<Token>>,
    /// By input, as far as it has come.
    outputs: Vec<Vec<f32>>,
    end: oneshot::Sender<Result<Encoded, EngineFault>>,
    submitted: Instant,
    started: Option<Instant>,
}

impl Job {
    pub(crate) fn new(
        id: RequestId,
        inputs: Vec<Vec<Token>>,
        end: oneshot::Sender<Result<Encoded, EngineFault>>,
        submitted: Instant,
    ) -> Self {
        let outputs = Vec::with_capacity(inputs.len());
        Self { id, inputs, outputs, end, submitted, started: None }
    }

    /// Whether its client has left.
    fn is_abandoned(&self) -> bool {
        self.end.is_closed()
    }

    fn finish(self, now: Instant) {
        let started = self.started.unwrap_or(now);
        let queued = started.saturating_duration_since(self.submitted);
        let prefill = now.saturating_duration_since(started);
        let timings = Timings { queued, prefill, decode: Duration::ZERO };
        // Who has left wants no answer.
        drop(self.end.send(Ok(Encoded { outputs: self.outputs, timings })));
    }

    fn fail(self, fault: EngineFault) {
        drop(self.end.send(Err(fault)));
    }
}

impl<E: Encoder> Work for EncodeLoop<E> {
    type Job = Job;

    fn enqueue(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    fn step(&mut self, now: impl Fn() -> Instant) -> Outlook {
        self.reap();
        self.admit();
        let batch = self.packer.plan();
        if batch.is_empty() {
            return Outlook::Idle;
        }
        let started = now();
        for (key, _) in &batch {
            if let Some(job) = self.running.get_mut(key) {
                job.started.get_or_insert(started);
            }
        }
        match self.encode(&batch) {
            Ok(outputs) => {
                self.packer.apply(&batch);
                self.hand_out(&batch, outputs, now());
            }
            // Those who were in it are reaped, or it comes again.
            Err(DecodeError::Aborted) => {}
            Err(DecodeError::Failed(reason)) => self.fail_batch(&batch, &reason),
        }
        Outlook::Busy
    }

    fn stop(self) {
        for job in self.running.into_values().chain(self.queue) {
            job.fail(EngineFault::Stopped);
        }
    }
}

impl<E: Encoder> EncodeLoop<E> {
    pub(crate) fn new(encoder: E, shape: EncoderShape, config: &EncodingConfig, shared: Arc<Shared>) -> Self {
        Self {
            encoder,
            shape,
            packer: Packer::new(config.rows_per_batch.get(), shape.inputs_max),
            queue: VecDeque::new(),
            running: HashMap::new(),
            next_key: 0,
            requests_max: config.requests.get(),
            shared,
        }
    }

    /// The inputs of every request that runs.
    #[cfg(test)]
    pub(crate) fn running_inputs(&self) -> impl Iterator<Item = &[Vec<Token>]> {
        self.running.values().map(|job| job.inputs.as_slice())
    }

    /// Forgets the requests whose clients have left.
    fn reap(&mut self) {
        let gone: Vec<Key> = self.running.iter().filter(|(_, job)| job.is_abandoned()).map(|(&key, _)| key).collect();
        for key in gone {
            let job = self.release(key);
            tracing::debug!(
                request = %job.id,
                encoded = job.outputs.len(),
                inputs = job.inputs.len(),
                "the client left; its other inputs are dropped"
            );
        }
        let before = self.queue.len();
        self.queue.retain(|job| !job.is_abandoned());
        self.shared.queued.fetch_sub(before - self.queue.len(), Relaxed);
    }

    fn admit(&mut self) {
        while self.running.len() < self.requests_max
            && let Some(job) = self.queue.pop_front()
        {
            let key = self.next_key;
            self.next_key += 1;
            self.packer.admit(key, job.inputs.iter().map(Vec::len));
            self.running.insert(key, job);
            // In this order a reader of both never sees the request in neither place.
            self.shared.running.fetch_add(1, Relaxed);
            self.shared.queued.fetch_sub(1, Relaxed);
        }
    }

    fn encode(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>, DecodeError> {
        let Self { encoder, running, shared, shape, .. } = self;
        let inputs: Vec<&[Token]> = batch
            .iter()
            .filter_map(|(key, taken)| {
                Some(running.get(key)?.inputs.iter().skip(running[key].outputs.len()).take(*taken))
            })
            .flatten()
            .map(Vec::as_slice)
            .collect();
        debug_assert!(
            inputs.len() <= shape.inputs_max && inputs.iter().map(|it| it.len()).sum::<usize>() <= shape.rows_max
        );
        // A batch that somebody waits for still is computed to its end: nobody loses by another's leaving.
        let is_for_nobody = || batch.iter().all(|(key, _)| running.get(key).is_none_or(Job::is_abandoned));
        let outputs = encoder.encode(&inputs, &|| shared.is_stopping.load(Relaxed) || is_for_nobody())?;
        if outputs.len() == inputs.len() {
            Ok(outputs)
        } else {
            Err(DecodeError::Failed(format!("{} inputs became {} outputs", inputs.len(), outputs.len())))
        }
    }

    fn hand_out(&mut self, batch: &Batch, outputs: Vec<Vec<f32>>, now: Instant) {
        let mut outputs = outputs.into_iter();
        for &(key, taken) in batch {
            let Some(job) = self.running.get_mut(&key) else { continue };
            job.outputs.extend(outputs.by_ref().take(taken));
            let is_finite = job.outputs.iter().rev().take(taken).flatten().all(|number| number.is_finite());
            if !is_finite {
                let job = self.release(key);
                tracing::error!(request = %job.id, "the model computed what is not a number");
                job.fail(EngineFault::Decode("it computed what is not a number".to_owned()));
            } else if job.outputs.len() == job.inputs.len() {
                let job = self.release(key);
                tracing::debug!(request = %job.id, inputs = job.inputs.len(), "encoded");
                job.finish(now);
            }
        }
    }

    fn fail_batch(&mut self, batch: &Batch, reason: &str) {
        tracing::error!(requests = batch.len(), reason, "failed to encode a batch");
        for &(key, _) in batch {
            self.release(key).fail(EngineFault::Decode(reason.to_owned()));
        }
    }

    fn release(&mut self, key: Key) -> Job {
        self.packer.remove(key);
        self.shared.running.fetch_sub(1, Relaxed);
        self.running.remove(&key).expect("only requests that run are released")
    }
}
