//! How likely the model thought its tokens.

use engine::RawLogprobs;
use inference::Token;

/// The natural logarithm of the softmax of `logits`, of `sampled` and of the `count` likeliest tokens.
///
/// The largest logit is subtracted first, so nothing overflows; what is not a number has no probability.
pub(crate) fn logprobs(logits: &[f32], sampled: Token, count: u32) -> RawLogprobs {
    let top = likeliest(logits, (count as usize).max(1));
    let Some(&(_, max)) = top.first() else {
        return RawLogprobs { sampled: f32::NEG_INFINITY, top: Vec::new() };
    };
    let sum: f64 = logits.iter().filter(|logit| is_usable(**logit)).map(|logit| f64::from((logit - max).exp())).sum();
    let log_sum = sum.ln();
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a probability is a small number")]
    let logprob = |logit: f32| ((f64::from(logit) - f64::from(max) - log_sum) as f32).min(0.0);
    let of_sampled = logits.get(sampled.0 as usize).filter(|logit| is_usable(**logit));
    RawLogprobs {
        sampled: of_sampled.map_or(f32::NEG_INFINITY, |&logit| logprob(logit)),
        top: top.into_iter().take(count as usize).map(|(token, logit)| (token, logprob(logit))).collect(),
    }
}

/// The `count` largest logits, largest first; of equal ones the first. Almost every logit is looked at once.
fn likeliest(logits: &[f32], count: usize) -> Vec<(Token, f32)> {
    let mut top: Vec<(Token, f32)> = Vec::with_capacity(count + 1);
    let mut floor = f32::NEG_INFINITY;
    for (token, &logit) in (0..).map(Token).zip(logits) {
        if logit > floor && is_usable(logit) {
            let place = top.partition_point(|&(_, other)| other >= logit);
            top.insert(place, (token, logit));
            top.truncate(count);
            if top.len() == count {
                floor = top[count - 1].1;
            }
        }
    }
    top
}

/// Broken weights give anything.
fn is_usable(logit: f32) -> bool {
    logit.is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_close(found: f32, expected: f64) {
        assert!((f64::from(found) - expected).abs() < 1e-5 * expected.abs().max(1.0), "{found}, not {expected}");
    }

    #[test]
    fn they_are_the_logarithms_of_the_softmax() {
        let logits = [1.0, 3.0, 2.0, -1.0];
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let RawLogprobs { sampled, top } = logprobs(&logits, Token(2), 3);
        check_close(sampled, (2.0_f64.exp() / sum).ln());
        assert_eq!(top.iter().map(|(token, _)| token.0).collect::<Vec<_>>(), [1, 2, 0]);
        for (token, logprob) in top {
            check_close(logprob, (f64::from(logits[token.0 as usize]).exp() / sum).ln());
        }
        assert!(logprobs(&logits, Token(0), 0).top.is_empty());
    }

    #[test]
    fn the_probabilities_of_all_add_up_to_one() {
        let logits: Vec<f32> = (0..5000_u32).map(|number| (number * 7919 % 5000) as f32 / 250.0 - 10.0).collect();
        let all = logprobs(&logits, Token(0), 5000).top;
        assert_eq!(all.len(), 5000);
        assert!(all.is_sorted_by(|a, b| a.1 >= b.1));
        let sum: f64 = all.iter().map(|&(_, logprob)| f64::from(logprob).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    }

    #[test]
    fn large_logits_and_broken_ones_do_no_harm() {
        let RawLogprobs { sampled, top } = logprobs(&[3e38, 3e38, f32::NAN, f32::INFINITY, -3e38], Token(1), 20);
        check_close(sampled, 0.5_f64.ln());
        assert_eq!(top.iter().map(|(token, _)| token.0).collect::<Vec<_>>(), [0, 1, 4]);
        assert!(top.iter().all(|(_, logprob)| !logprob.is_nan() && *logprob <= 0.0));
        let nothing = logprobs(&[f32::NAN; 3], Token(0), 2);
        assert!(nothing.top.is_empty() && nothing.sampled == f32::NEG_INFINITY);
        assert!(logprobs(&[0.0], Token(9), 1).sampled == f32::NEG_INFINITY);
    }

    #[test]
    fn of_equal_ones_the_first_counts() {
        let top = logprobs(&[1.0, 2.0, 2.0, 2.0], Token(0), 2).top;
        assert_eq!(top.iter().map(|(token, _)| token.0).collect::<Vec<_>>(), [1, 2]);
    }
}
