//! Decode speed under a plugin that is asked before every token, against none.

use super::{Bench, filters};
use crate::plugins::Plugins;
use crate::report::Row;
use crate::server::Contender;

/// It says nothing; it gives a mask of the vocabulary, which leaves it whole but for a token, or nothing but digits.
const STEPS: [&str; 3] = ["free", "deny 0", "digits"];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for steps in STEPS {
        let contender = Contender::OutriggerWith(Plugins::Control(steps));
        rows.extend(filters::against_none(bench, &format!("a controller, `{steps}`"), contender, 10).await?);
    }
    Ok(rows)
}
