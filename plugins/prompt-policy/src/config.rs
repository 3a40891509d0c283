//! The plugin's `[config]` table: rules for everybody, and for some tenants rules that differ.

use std::collections::BTreeMap;
use std::fmt;

use outrigger_plugin::prelude::*;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::limits::{PATTERNS_MAX, TENANT_WEIGHT_MAX, TENANTS_MAX, WINDOW_SECONDS_MAX};
use crate::patterns::weigh;

/// What may be asked; README.md explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Who may speak in a conversation.
    pub roles: Vec<RoleName>,
    /// Messages of a conversation.
    pub max_messages: Option<usize>,
    /// Bytes of text in one message.
    pub max_message_bytes: Option<usize>,
    /// Bytes of text in all messages.
    pub max_bytes: Option<usize>,
    /// Tokens of the text of all messages.
    pub max_tokens: Option<u64>,
    /// What must not be there.
    pub deny: Vec<Pattern>,
    /// Each message has to have one of these.
    pub allow: Vec<Pattern>,
    /// What becomes of a request with tools.
    pub tools: Tools,
    /// Members that `chat_template_kwargs` may have; `None`: any.
    pub template_arguments: Option<Vec<String>>,
    /// What the model is told first.
    pub system_prompt: Option<SystemPrompt>,
    /// Requests in a time.
    pub rate: Option<Rate>,
    /// Tokens in a time, of prompts and answers.
    pub quota: Option<Quota>,
    /// How a rejection looks, by its cause.
    pub rejections: BTreeMap<Cause, Rejecting>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            roles: RoleName::ALL.to_vec(),
            max_messages: None,
            max_message_bytes: None,
            max_bytes: None,
            max_tokens: None,
            deny: Vec::new(),
            allow: Vec::new(),
            tools: Tools::default(),
            template_arguments: None,
            system_prompt: None,
            rate: None,
            quota: None,
            rejections: BTreeMap::new(),
        }
    }
}

/// What becomes of a request with tools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tools {
    /// They are judged as text, like everything that a model reads.
    #[default]
    Allow,
    /// It is rejected.
    Reject,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the roles of the API, by their names")]
pub enum RoleName {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

impl RoleName {
    /// Everybody.
    pub const ALL: [Self; 5] = [Self::System, Self::Developer, Self::User, Self::Assistant, Self::Tool];

    /// The contract's word for it.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::System => Role::System,
            Self::Developer => Role::Developer,
            Self::User => Role::User,
            Self::Assistant => Role::Assistant,
            Self::Tool => Role::Tool,
        }
    }

    /// Its name in a request.
    #[must_use]
    pub fn of(role: Role) -> &'static str {
        match role {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A regular expression: alone as a text, or a table with more said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The expression.
    pub pattern: String,
    /// What it is called in notes.
    pub name: Option<String>,
    /// In whose messages it is looked for; `None`: what is denied in everybody's, what is allowed in the user's.
    pub roles: Option<Vec<RoleName>>,
    /// What the client is told, where the pattern is denied.
    pub message: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatternTable {
    pattern: String,
    name: Option<String>,
    roles: Option<Vec<RoleName>>,
    message: Option<String>,
}

impl From<PatternTable> for Pattern {
    fn from(table: PatternTable) -> Self {
        Self { pattern: table.pattern, name: table.name, roles: table.roles, message: table.message }
    }
}

// By hand: an untagged enum would not say which key of a table is wrong.
impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl<'de> Visitor<'de> for Form {
            type Value = PatternTable;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a pattern: a text, or a table with `pattern`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PatternTable, E> {
                Ok(PatternTable { pattern: text.to_owned(), name: None, roles: None, message: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PatternTable, A::Error> {
                PatternTable::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(Form).map(Self::from)
    }
}

/// A system prompt of the operator's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemPrompt {
    /// Its text.
    pub text: String,
    /// What becomes of the client's.
    #[serde(default)]
    pub mode: Mode,
}

/// How an operator's system prompt and a client's go together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The operator's, then the client's.
    #[default]
    Prepend,
    /// The client's, then the operator's.
    Append,
    /// The operator's alone.
    Replace,
}

/// So many requests in so many seconds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests.
    pub requests: u32,
    /// In this time.
    pub seconds: u32,
}

/// So many tokens in so many seconds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Tokens of prompts and answers.
    pub tokens: u32,
    /// In this time.
    pub seconds: u32,
}

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A message of a role that may not speak.
    Role,
    /// Too many messages, bytes or tokens.
    Size,
    /// A pattern of `deny` is there.
    Denied,
    /// No pattern of `allow` is there.
    NotAllowed,
    /// Tools, where there may be none.
    Tools,
    /// A template argument that is not among those that may be.
    TemplateArguments,
    /// Too many requests.
    Rate,
    /// Too many tokens.
    Quota,
    /// A tenant that has no rules, where each has to have some.
    Tenant,
}

/// How a rejection looks; what is left out is as usual.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rejecting {
    /// 400 to 499.
    pub status: Option<u16>,
    /// For programs.
    pub code: Option<String>,
    /// For people.
    pub message: Option<String>,
}

/// Everything that is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// The header that names a request's tenant.
    pub tenant_header: Option<String>,
    /// Whether a tenant needs rules of its own.
    pub unknown_tenant: UnknownTenant,
    /// The store of the host in which requests and tokens are counted.
    pub store: String,
    /// For everybody else.
    pub rules: Rules,
    /// For these.
    pub tenants: BTreeMap<String, Rules>,
}

/// What becomes of a request whose tenant has no rules of its own, or none is named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownTenant {
    /// The rules for everybody hold.
    #[default]
    Allow,
    /// It is rejected.
    Reject,
}

/// The keys that are not rules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Frame {
    tenant_header: Option<String>,
    unknown_tenant: UnknownTenant,
    store: String,
    tenants: BTreeMap<String, Map<String, Value>>,
}

impl Default for Frame {
    fn default() -> Self {
        let store = env!("CARGO_PKG_NAME").to_owned();
        Self { tenant_header: None, unknown_tenant: UnknownTenant::default(), store, tenants: BTreeMap::new() }
    }
}

const FRAME: [&str; 4] = ["tenant_header", "unknown_tenant", "store", "tenants"];

impl Config {
    /// Reads the table; the error says what is wrong with it.
    pub fn read(cx: &Context) -> Result<Self> {
        let mut table: Map<String, Value> = cx.config()?;
        let frame: Map<String, Value> =
            FRAME.iter().filter_map(|&key| Some((key.to_owned(), table.remove(key)?))).collect();
        let frame: Frame = parse(Value::Object(frame), "")?;
        if frame.tenants.len() > TENANTS_MAX {
            return Err(format!("{} tenants are configured; at most {TENANTS_MAX} may be", frame.tenants.len()).into());
        }
        if frame.tenant_header.is_none() && (!frame.tenants.is_empty() || frame.unknown_tenant == UnknownTenant::Reject)
        {
            return Err("tenants are told apart by a header: say which with `tenant_header`".into());
        }
        let rules = rules_of(table.clone(), "")?;
        let tenants = frame.tenants.into_iter().map(|(name, own)| {
            let (mut merged, whose) = (table.clone(), format!("tenant `{name}`: "));
            merged.extend(own);
            let own = rules_of(merged, &whose)?;
            check_weights(&own, &rules, &whose)?;
            Ok((name, own))
        });
        let tenants = tenants.collect::<Result<_>>()?;
        let Frame { tenant_header, unknown_tenant, store, .. } = frame;
        let tenant_header = tenant_header.map(|header| header.to_ascii_lowercase());
        Ok(Self { tenant_header, unknown_tenant, store, rules, tenants })
    }
}

/// The rules. Their patterns are not looked at: those for everybody are compiled next, and those of a tenant are weighed.
fn rules_of(table: Map<String, Value>, whose: &str) -> Result<Rules> {
    let rules: Rules = parse(Value::Object(table), whose)?;
    let refuse = |what: &str| Err(format!("the plugin's configuration is wrong: {whose}{what}").into());
    if rules.deny.len() > PATTERNS_MAX || rules.allow.len() > PATTERNS_MAX {
        return refuse(&format!("`deny` and `allow` may have {PATTERNS_MAX} patterns each"));
    }
    let windows = [rules.rate.map(|rate| rate.seconds), rules.quota.map(|quota| quota.seconds)];
    if windows.into_iter().flatten().any(|seconds| !(1..=WINDOW_SECONDS_MAX).contains(&seconds)) {
        return refuse(&format!("`seconds` must be from 1 to {WINDOW_SECONDS_MAX}"));
    }
    if rules.rejections.values().any(|rejecting| rejecting.status.is_some_and(|status| !(400..=499).contains(&status)))
    {
        return refuse("the `status` of a rejection must be from 400 to 499");
    }
    Ok(rules)
}

/// Lists of a tenant's own are compiled when its request is there, where nobody hears that they cannot be.
fn check_weights(own: &Rules, usual: &Rules, whose: &str) -> Result<()> {
    let weight = |own: &[Pattern], usual: &[Pattern]| if own == usual { Ok(0) } else { weigh(own) };
    let weights = weight(&own.deny, &usual.deny).and_then(|deny| Ok([deny, weight(&own.allow, &usual.allow)?]));
    let weights = weights.map_err(|problem| format!("the plugin's configuration is wrong: {whose}{problem}"))?;
    let weight = weights[0].saturating_add(weights[1]);
    if weight <= TENANT_WEIGHT_MAX {
        return Ok(());
    }
    Err(format!(
        "the plugin's configuration is wrong: {whose}its own patterns are too large together to be compiled for each of its requests: \
         they weigh {weight}, and {TENANT_WEIGHT_MAX} is the most; have fewer of them, or `[0-9A-Za-z_]` for `\\w`, which has the letters \
         of all scripts and weighs some hundred times as much"
    )
    .into())
}

fn parse<T: serde::de::DeserializeOwned>(value: Value, whose: &str) -> Result<T> {
    serde_json::from_value(value).map_err(|error| format!("the plugin's configuration is wrong: {whose}{error}").into())
}
