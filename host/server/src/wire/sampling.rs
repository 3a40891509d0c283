//! The members of a chat request that say how tokens are chosen.

use inference::{Dry, Sampling, Token};

use super::Refusal;
use super::members::Member;
use crate::limits;

/// What a request says of sampling, member by member; what it does not say stays as it was.
pub(super) struct SamplingMembers {
    sampling: Sampling,
    /// As `sampling.dry`, which is `None` where this is off.
    dry: Dry,
}

impl SamplingMembers {
    pub(super) fn new(defaults: &Sampling) -> Self {
        Self { sampling: defaults.clone(), dry: defaults.dry.clone().unwrap_or_default() }
    }

    /// Takes a member. `false`: it is none of these.
    pub(super) fn take(&mut self, name: &str, value: &Member<'_>) -> Result<bool, Refusal> {
        let Self { sampling, dry } = self;
        match name {
            "temperature" => sampling.temperature = value.number(limits::TEMPERATURE)?,
            "top_k" => sampling.top_k = value.count(0..=limits::TOP_K_MAX)?,
            "top_p" => sampling.top_p = value.number(limits::PROBABILITY)?,
            "min_p" => sampling.min_p = value.number(limits::PROBABILITY)?,
            "typical_p" => sampling.typical_p = value.number(limits::PROBABILITY)?,
            "presence_penalty" => sampling.presence_penalty = value.number(limits::PENALTY)?,
            "frequency_penalty" => sampling.frequency_penalty = value.number(limits::PENALTY)?,
            "repeat_penalty" | "repetition_penalty" => {
                sampling.repeat_penalty = value.number(limits::REPEAT_PENALTY)?;
            }
            "dry_multiplier" => dry.multiplier = value.number(limits::DRY_MULTIPLIER)?,
            "dry_base" => dry.base = value.number(limits::DRY_BASE)?,
            "dry_allowed_length" => dry.allowed_length = value.count(0..=limits::DRY_LENGTH_MAX)?,
            "dry_sequence_breakers" => dry.sequence_breakers = parse_breakers(value)?,
            "logit_bias" => sampling.logit_bias = parse_logit_bias(value)?,
            "seed" => sampling.seed = Some(value.integer(0..=u64::MAX)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn finish(self) -> Sampling {
        let dry = (self.dry.multiplier > 0.0).then_some(self.dry);
        Sampling { dry, ..self.sampling }
    }
}

/// OpenAI's map from a token's number, as text, to what is added to its logit.
fn parse_logit_bias(biases: &Member<'_>) -> Result<Vec<(Token, f32)>, Refusal> {
    let biases = biases.entries(limits::LOGIT_BIASES_MAX, "tokens")?;
    let bias = |(name, bias): &(String, Member<'_>)| Ok((parse_token(name, bias)?, bias.number(limits::LOGIT_BIAS)?));
    let mut biases: Vec<(Token, f32)> = biases.iter().map(bias).collect::<Result<_, Refusal>>()?;
    biases.sort_unstable_by_key(|&(token, _)| token.0);
    Ok(biases)
}

/// A token's number, written as numbers are: two names for one token would be two readings of one request.
fn parse_token(name: &str, member: &Member<'_>) -> Result<Token, Refusal> {
    let token = name.parse().ok().filter(|token: &u32| token.to_string() == name);
    token.map(Token).ok_or_else(|| member.wrong("must be named by the number of a token of the model's vocabulary"))
}

/// Numbers of tokens.
pub(super) fn parse_stop_tokens(tokens: &Member<'_>) -> Result<Vec<Token>, Refusal> {
    let tokens = tokens.array(limits::STOP_TOKENS_MAX)?;
    tokens.iter().map(|token| Ok(Token(token.count(0..=u64::from(u32::MAX))?))).collect()
}

fn parse_breakers(breakers: &Member<'_>) -> Result<Vec<String>, Refusal> {
    let text = |member: &Member<'_>| match member.text(limits::DRY_BREAKER_BYTES_MAX)? {
        text if text.is_empty() => Err(member.wrong("must not be empty: every text would break every sequence")),
        text => Ok(text),
    };
    breakers.array(limits::DRY_BREAKERS_MAX)?.iter().map(text).collect()
}

#[cfg(test)]
mod tests;
