//! The figures of a bench: medians over the rounds, as a table for people or as JSON.

use std::time::Duration;

use bytesize::ByteSize;
use inference::{DeviceFacts, ModelCard};
use serde_json::{Value, json};

use super::Measured;
use crate::console::printable;

/// What was measured.
pub(super) struct Report {
    pub(super) card: ModelCard,
    pub(super) device: DeviceFacts,
    /// From the first byte of the file to the first computed token.
    pub(super) loading: Duration,
    pub(super) answer_tokens: u32,
    pub(super) rounds: u32,
    pub(super) prompts: Vec<PromptFigures>,
    pub(super) streams: Vec<StreamFigures>,
    /// Lengths of prompts that the context does not hold.
    pub(super) left_out: Vec<u32>,
}

/// One stream after a prompt of some length.
pub(super) struct PromptFigures {
    prompt_tokens: u32,
    first_text_ms: f64,
    prefill_rate: f64,
    decode_rate: f64,
}

/// Several streams at once.
pub(super) struct StreamFigures {
    streams: u32,
    rate: f64,
    first_text_ms: f64,
    gap_max_ms: f64,
}

impl PromptFigures {
    pub(super) fn of(answers: &[Measured]) -> Self {
        Self {
            prompt_tokens: answers.first().map_or(0, |answer| answer.usage.prompt_tokens),
            first_text_ms: median(answers.iter().map(|answer| millis(answer.first_text))),
            prefill_rate: median(answers.iter().map(|answer| {
                let computed = answer.usage.prompt_tokens - answer.usage.cached_tokens;
                rate(computed, answer.timings.prefill)
            })),
            decode_rate: median(answers.iter().map(|answer| {
                // The first token is the prompt's.
                rate(answer.usage.completion_tokens.saturating_sub(1), answer.timings.decode)
            })),
        }
    }
}

impl StreamFigures {
    pub(super) fn of(streams: u32, rounds: &[(Vec<Measured>, Duration)]) -> Self {
        let answers = || rounds.iter().flat_map(|(answers, _)| answers);
        let tokens = |answers: &[Measured]| answers.iter().map(|answer| answer.usage.completion_tokens).sum();
        Self {
            streams,
            rate: median(rounds.iter().map(|(answers, elapsed)| rate(tokens(answers), *elapsed))),
            first_text_ms: median(answers().map(|answer| millis(answer.first_text))),
            gap_max_ms: answers().map(|answer| millis(answer.gap_max)).fold(0.0, f64::max),
        }
    }
}

impl Report {
    /// For people.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let card = &self.card;
        let mut lines = vec![
            format!(
                "{}  {}  {}  context {}  loaded in {:.1} s",
                printable(&card.id),
                printable(&card.architecture),
                ByteSize::b(card.size_bytes).display().si(),
                card.context_length,
                self.loading.as_secs_f64()
            ),
            format!("computed with {}", self.computed_with()),
            format!("answers of {} tokens, medians of {} rounds", self.answer_tokens, self.rounds),
        ];
        if !self.prompts.is_empty() {
            lines.extend([String::new(), "prompt tokens   first text   prefill tokens/s   decode tokens/s".to_owned()]);
            lines.extend(self.prompts.iter().map(|it| {
                let PromptFigures { prompt_tokens, first_text_ms, prefill_rate, decode_rate } = it;
                format!("{prompt_tokens:>13} {first_text_ms:>9.0} ms {prefill_rate:>18.1} {decode_rate:>17.1}")
            }));
        }
        if !self.streams.is_empty() {
            let head = "streams at once   first text   tokens/s together   tokens/s each   longest pause";
            lines.extend([String::new(), head.to_owned()]);
            lines.extend(self.streams.iter().map(|it| {
                let StreamFigures { streams, rate, first_text_ms, gap_max_ms } = it;
                let each = rate / f64::from(*streams);
                format!("{streams:>15} {first_text_ms:>9.0} ms {rate:>19.1} {each:>15.1} {gap_max_ms:>12.0} ms")
            }));
        }
        if !self.left_out.is_empty() {
            let lengths: Vec<String> = self.left_out.iter().map(u32::to_string).collect();
            lines.push(format!(
                "\nleft out, as the context does not hold them: prompts of {} tokens",
                lengths.join(", ")
            ));
        }
        lines.into_iter()
    }

    /// What computes, in a word or two.
    fn computed_with(&self) -> String {
        let DeviceFacts { backend, devices, cpu_variant, .. } = &self.device;
        let names = if devices.is_empty() { cpu_variant.clone() } else { devices.join(", ") };
        printable(&format!("{backend}: {names}"))
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let prompts = self.prompts.iter().map(|it| {
            json!({
                "prompt_tokens": it.prompt_tokens,
                "first_text_ms": it.first_text_ms,
                "prefill_tokens_per_second": it.prefill_rate,
                "decode_tokens_per_second": it.decode_rate,
            })
        });
        let streams = self.streams.iter().map(|it| {
            json!({
                "streams": it.streams,
                "first_text_ms": it.first_text_ms,
                "tokens_per_second": it.rate,
                "longest_pause_ms": it.gap_max_ms,
            })
        });
        json!({
            "model": self.card.id,
            "architecture": self.card.architecture,
            "size_bytes": self.card.size_bytes,
            "context_length": self.card.context_length,
            "backend": self.device.backend,
            "devices": self.device.devices,
            "cpu_variant": self.device.cpu_variant,
            "load_ms": millis(self.loading),
            "answer_tokens": self.answer_tokens,
            "rounds": self.rounds,
            "prompts": prompts.collect::<Vec<_>>(),
            "streams": streams.collect::<Vec<_>>(),
            "prompt_tokens_left_out": self.left_out,
        })
    }
}

fn rate(tokens: u32, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { f64::from(tokens) / elapsed.as_secs_f64() }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Of no figures: 0.
fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        count if count % 2 == 1 => figures[count / 2],
        count => f64::midpoint(figures[count / 2 - 1], figures[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()).to_bits(), 2.5_f64.to_bits());
        assert_eq!(median(std::iter::empty()).to_bits(), 0.0_f64.to_bits());
    }
}
