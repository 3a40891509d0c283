//! Sets of plugins that ours is measured with.

use std::fmt;
use std::path::Path;

/// Which plugins there are, beside the one that renders prompts, which always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugins {
    /// Bundled ones that look at every piece of an answer.
    Filters,
    /// The bundled policy, as its README shows it.
    Policy,
    /// Three that look at every request.
    Policies,
    /// One that is asked before every token, and what it says then.
    Control(&'static str),
    /// One that misbehaves where a header tells it to, in every request.
    Hostile,
    /// All kinds of them, and the one that misbehaves.
    All,
}

const POLICY: &str = r#"
[[plugin]]
name = "prompt-policy"
grants = { modify = ["messages"], headers = ["x-tenant"], kv = ["prompt-policy"] }

[plugin.config]
roles = ["system", "user", "assistant"]
max_tokens = 4000
deny = ["(?i)ignore (all )?previous instructions", "(?i)project heron"]
rate = { requests = 100000000, seconds = 60 }
tenant_header = "x-tenant"
"#;

const FILTERS: &str = r#"
[[plugin]]
name = "redact"

[[plugin]]
name = "stop-words"

[[plugin]]
name = "json-guard"
"#;

/// Changes requests, as `redact` may, and looks for the form that an answer is to have.
const MORE_POLICIES: &str = r#"
[[plugin]]
name = "redact"
stages = { policy = 2 }
grants = { modify = ["messages"] }
config = { request = true }

[[plugin]]
name = "json-guard"
stages = { policy = 3 }
"#;

impl Plugins {
    /// The configuration file. `misbehaving` is the component that does what it is told.
    pub(crate) fn configuration(self, misbehaving: &Path) -> String {
        let component = misbehaving.display();
        let hostile = || {
            format!(
                "[[plugin]]\nname = 'misbehaving'\nfrom = '{component}'\nstages = {{ policy = 5, postprocess = 5 }}\n\
                 grants = {{ headers = ['x-behaviour'] }}\n# It is to run each time, however often it fails.\n\
                 breaker = {{ faults = 0 }}\n"
            )
        };
        match self {
            Self::Filters => FILTERS.to_owned(),
            Self::Policy => POLICY.to_owned(),
            Self::Policies => format!("{POLICY}{MORE_POLICIES}"),
            Self::Control(steps) => format!(
                "[[plugin]]\nname = 'steps'\nfrom = '{component}'\nstages = {{ token-control = 0 }}\n\
                 grants = {{ token-control = true }}\nconfig = {{ steps = '{steps}' }}\n\
                 # `digits` looks through the whole vocabulary in its first step.\n\
                 limits = {{ step_ms = 5000, request_ms = 60000 }}\n"
            ),
            Self::Hostile => hostile(),
            Self::All => format!("{POLICY}{FILTERS}{}", hostile()),
        }
    }
}

impl fmt::Display for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filters => f.write_str("`redact`, `stop-words` and `json-guard`"),
            Self::Policy => f.write_str("`prompt-policy`"),
            Self::Policies => f.write_str("`prompt-policy`, `redact` and `json-guard`"),
            Self::Control(steps) => write!(f, "a controller that says `{steps}`"),
            Self::Hostile => f.write_str("a plugin that misbehaves"),
            Self::All => f.write_str("all kinds of plugins"),
        }
    }
}

/// The header that tells the plugin to misbehave.
pub(crate) const BEHAVIOUR: &str = "x-behaviour";

/// What it is told: each of these ends its request with a fault. Every kind of resource is there, in both stages.
pub(crate) const BEHAVIOURS: [&str; 12] = [
    "loop-in-policy",
    "loop-in-push",
    "panic-in-policy",
    "panic-in-push",
    "memory-in-policy",
    "memory-at-once-in-push",
    "recursion-in-policy",
    "stack-in-push",
    "host-calls-in-policy",
    "huge-argument-in-policy",
    "huge-list",
    "huge-instead",
];
