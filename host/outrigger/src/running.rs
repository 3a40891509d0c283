//! What a `[[plugin]]` table says of how it is run, and for which models.

use std::time::Duration;

use anyhow::bail;
use plugin::{BreakerConfig, Reuse};

use crate::config::{BreakerTable, InstanceTable};

/// When a plugin is given up for a while; what is not said is as usual.
pub(crate) fn breaker(said: &BreakerTable) -> BreakerConfig {
    let usual = BreakerConfig::default();
    let time = |said: Option<u64>, usual: Duration| said.map_or(usual, Duration::from_millis);
    let pause_min = time(said.pause_ms, usual.pause_min);
    BreakerConfig {
        faults_max: said.faults.unwrap_or(usual.faults_max),
        window: time(said.within_ms, usual.window),
        pause_min,
        pause_max: time(said.pause_max_ms, usual.pause_max).max(pause_min),
    }
}

/// Whether a plugin's instances are reused, and how.
pub(crate) fn reuse(said: &InstanceTable) -> anyhow::Result<Option<Reuse>> {
    let InstanceTable { reuse, idle, requests, growth_bytes, idle_ms } = *said;
    if !reuse {
        if idle.is_some() || requests.is_some() || growth_bytes.is_some() || idle_ms.is_some() {
            bail!("`instance` says how instances are reused, and not that they are; add `reuse = true` to it");
        }
        return Ok(None);
    }
    let usual = Reuse::default();
    Ok(Some(Reuse {
        idle_max: idle.unwrap_or(usual.idle_max),
        requests_max: requests.unwrap_or(usual.requests_max),
        growth_bytes_max: growth_bytes
            .map_or(usual.growth_bytes_max, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        idle_time_max: idle_ms.map_or(usual.idle_time_max, Duration::from_millis),
    }))
}

/// Whether a plugin is there for a model: by name, or by a pattern in which `*` stands for any text. Without patterns it is
/// there for all.
pub(crate) fn applies(patterns: Option<&[String]>, model: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern, model)))
}

fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        // The first place leaves the most for what follows.
        let Some(place) = text.find(part) else { return false };
        text = &text[place + part.len()..];
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &[&str], model: &str, expected: bool) {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        assert_eq!(applies(Some(&patterns), model), expected, "{patterns:?} {model}");
    }

    #[test]
    fn patterns_name_models() {
        check(&["smol"], "smol", true);
        check(&["smol"], "smol-2", false);
        check(&["*"], "", true);
        check(&["org/*"], "org/smol", true);
        check(&["org/*"], "other/org/smol", false);
        check(&["*-chat"], "smol-chat", true);
        check(&["a*b*c"], "a-b-b-c", true);
        check(&["a*b*c"], "a-c-b", false);
        check(&["a*a"], "a", false);
        check(&["x", "sm*"], "smol", true);
        check(&[], "smol", false);
        assert!(applies(None, "smol"));
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        assert_eq!(breaker(&BreakerTable::default()), BreakerConfig::default());
        let long = BreakerTable { pause_ms: Some(600_000), ..BreakerTable::default() };
        assert_eq!(breaker(&long).pause_max, Duration::from_mins(10), "no shorter than the first pause");
        assert_eq!(reuse(&InstanceTable::default()).expect("it is sound"), None);
        let on = InstanceTable { reuse: true, ..InstanceTable::default() };
        assert_eq!(reuse(&on).expect("it is sound"), Some(Reuse::default()));
        let off = InstanceTable { idle: Some(1), ..InstanceTable::default() };
        assert!(reuse(&off).expect_err("nothing would be reused").to_string().contains("`reuse = true`"));
    }
}
