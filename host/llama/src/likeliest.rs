//! The likeliest tokens of a vocabulary, without looking at each of them twice.
//!
//! The decode thread chooses for every stream in turn while all other processors wait, and llama.cpp's `top_k` first makes
//! a candidate of every token (12 bytes each) and sorts by buckets. Here the logits are read once for the largest of each
//! block; the `k`-th largest of these maxima is a bound that at least `k` tokens reach, and only blocks that reach it are
//! read again.

use llama_cpp_sys_2 as sys;

/// Logits whose largest one is found together: some hundred blocks of a usual vocabulary, four cache lines each.
const BLOCK: usize = 64;

/// Puts the `count` likeliest tokens into `candidates`, likeliest first, of equal ones the first first; fewer where fewer
/// logits are numbers. `maxima` is room to work in.
pub(crate) fn likeliest(
    logits: &[f32],
    count: usize,
    maxima: &mut Vec<f32>,
    candidates: &mut Vec<sys::llama_token_data>,
) {
    candidates.clear();
    let bound = bound(logits, count, maxima);
    for (number, block) in logits.chunks(BLOCK).enumerate().filter(|&(number, _)| maxima[number] >= bound) {
        let reaching = block.iter().enumerate().filter(|&(_, &logit)| logit >= bound && logit.is_finite());
        candidates.extend(reaching.map(|(place, &logit)| sys::llama_token_data {
            id: i32::try_from(number * BLOCK + place).expect("llama.cpp counts tokens in 32 bits"),
            logit,
            p: 0.0,
        }));
    }
    keep(count, candidates);
}

/// Keeps the `count` likeliest of the candidates, likeliest first, of equal ones the first first. Their logits are numbers.
pub(crate) fn keep(count: usize, candidates: &mut Vec<sys::llama_token_data>) {
    let order =
        |a: &sys::llama_token_data, b: &sys::llama_token_data| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id));
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, order);
        candidates.truncate(count);
    }
    candidates.sort_unstable_by(order);
}

/// A logit that at least `count` tokens reach; the least there is where a block or more would be needed whole, or where an
/// infinity would count for a token that cannot be chosen.
fn bound(logits: &[f32], count: usize, maxima: &mut Vec<f32>) -> f32 {
    // Written so that it becomes one instruction for several logits; what is not a number is never larger.
    let largest = |a: f32, &b: &f32| if b > a { b } else { a };
    let lanes = |block: &[f32]| {
        let mut lanes = [f32::NEG_INFINITY; 8];
        let (whole, rest) = block.as_chunks::<8>();
        for chunk in whole {
            for (lane, logit) in lanes.iter_mut().zip(chunk) {
                *lane = largest(*lane, logit);
            }
        }
        lanes.iter().chain(rest).fold(f32::NEG_INFINITY, largest)
    };
    maxima.clear();
    maxima.extend(logits.chunks(BLOCK).map(lanes));
    if count == 0 || count > maxima.len() || maxima.contains(&f32::INFINITY) {
        return f32::NEG_INFINITY;
    }
    let mut ordered = maxima.clone();
    let (_, &mut bound, _) = ordered.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    bound
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every token made a candidate, and all sorted.
    fn plainly(logits: &[f32], count: usize) -> Vec<(i32, f32)> {
        let mut all: Vec<(i32, f32)> =
            (0..).zip(logits.iter().copied()).filter(|(_, logit)| logit.is_finite()).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(count);
        all
    }

    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => -30.0_f32..30.0,
            // Ties.
            4 => (-3_i8..3).prop_map(f32::from),
            1 => Just(f32::NEG_INFINITY),
            1 => prop::sample::select(vec![f32::INFINITY, f32::NAN, 0.0, -0.0, f32::MAX, f32::MIN]),
        ]
    }

    proptest! {
        #[test]
        fn the_same_as_sorting_all(
            logits in prop_oneof![
                prop::collection::vec(logit(), 0..700),
                prop::collection::vec(-30.0_f32..30.0, 0..3000),
            ],
            count in prop_oneof![0_usize..60, 0_usize..3000],
        ) {
            let (mut maxima, mut found) = (Vec::new(), Vec::new());
            likeliest(&logits, count, &mut maxima, &mut found);
            let found: Vec<(i32, f32)> = found.iter().map(|token| (token.id, token.logit)).collect();
            prop_assert_eq!(found, plainly(&logits, count));
        }
    }
}
