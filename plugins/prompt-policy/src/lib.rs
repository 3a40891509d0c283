//! Says what may be asked: who may speak, how much, what must and must not be there, what the model is told first, how
//! often, and all of that by tenant. A request that is rejected costs no model time.

mod besides;
mod budget;
mod config;
mod judge;
mod limits;
mod patterns;
mod system;

use std::time::Duration;

use budget::{Budget, Spent};
pub use config::{
    Cause, Config, Mode, Pattern, Quota, Rate, Rejecting, RoleName, Rules, SystemPrompt, Tools, UnknownTenant,
};
use judge::Refusal;
use outrigger_plugin::prelude::*;
use patterns::Both;

/// The plugin.
#[derive(Debug)]
pub struct PromptPolicy {
    config: Config,
    /// Those of the rules for everybody.
    patterns: Both,
}

impl Plugin for PromptPolicy {
    fn new(cx: &Context) -> Result<Self> {
        let config = Config::read(cx)?;
        let counts = |rules: &Rules| rules.rate.is_some() || rules.quota.is_some();
        if counts(&config.rules) || config.tenants.values().any(counts) {
            // Better found when the plugin is loaded than by the first request.
            Budget { store: &config.store, tenant: "" }.check()?;
        }
        Ok(Self { patterns: Both::of(&config.rules)?, config })
    }
}

impl PromptPolicy {
    /// The name of the request's tenant, and the rules that hold for it; `None` where it needs some and has none.
    fn rules(&self, call: &Call) -> Option<(String, &Rules)> {
        let header = self.config.tenant_header.as_deref();
        let named = header.and_then(|header| call.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(header)));
        let Some((_, tenant)) = named else {
            return (self.config.unknown_tenant == UnknownTenant::Allow).then(|| (String::new(), &self.config.rules));
        };
        match self.config.tenants.get(tenant) {
            Some(rules) => Some((tenant.clone(), rules)),
            None if self.config.unknown_tenant == UnknownTenant::Reject => None,
            // Names that nobody configured are the client's invention: they share one budget.
            None => Some((String::new(), &self.config.rules)),
        }
    }

    fn spent(&self, rules: &Rules, tenant: &str) -> Result<Option<(Refusal, Duration)>> {
        let budget = Budget { store: &self.config.store, tenant };
        if let Some(quota) = rules.quota
            && let Some(Spent(left)) = budget.tokens_left(quota)?
        {
            return Ok(Some((Refusal::new(Cause::Quota, "All tokens of this time are used."), left)));
        }
        if let Some(rate) = rules.rate
            && let Some(Spent(left)) = budget.request(rate)?
        {
            return Ok(Some((Refusal::new(Cause::Rate, "Too many requests in this time."), left)));
        }
        Ok(None)
    }
}

impl Policy for PromptPolicy {
    fn inspect(&mut self, mut request: Request, call: &Call) -> Result<Decision> {
        let Some((tenant, rules)) = self.rules(call) else {
            let refusal = Refusal::new(Cause::Tenant, "Requests have to name a tenant that is known here.");
            return Ok(reject(&self.config.rules, refusal));
        };
        let own = Both::own(rules, &self.config.rules)?;
        if let Some(refusal) = judge::judge(rules, &own.or(&self.patterns), &request) {
            return Ok(reject(rules, refusal));
        }
        // Last: only what is asked for rightly is counted.
        if let Some((refusal, left)) = self.spent(rules, &tenant)? {
            return Ok(reject(rules, refusal).retry_after(left));
        }
        match &rules.system_prompt {
            None => Ok(Decision::accept()),
            Some(prompt) => {
                system::inject(prompt, &mut request.messages);
                Ok(Decision::replace(request))
            }
        }
    }
}

impl Audit for PromptPolicy {
    fn completed(&mut self, call: &Call, _end: Finish, usage: Usage, _notes: &[(String, String)]) {
        let Some((tenant, rules)) = self.rules(call) else { return };
        let Some(quota) = rules.quota else { return };
        let budget = Budget { store: &self.config.store, tenant: &tenant };
        if let Err(error) = budget.used(quota, usage) {
            log::warn("the tokens of a request were not counted", &[("error", &format!("{error:?}"))]);
        }
    }
}

fn reject(rules: &Rules, refusal: Refusal) -> Decision {
    let (status, code) = match refusal.cause {
        Cause::Role => (400, "role_not_allowed"),
        Cause::Size => (400, "request_too_large"),
        Cause::Denied => (403, "content_denied"),
        Cause::NotAllowed => (403, "content_not_allowed"),
        Cause::Tools => (400, "tools_not_allowed"),
        Cause::TemplateArguments => (400, "template_argument_not_allowed"),
        Cause::Rate => (429, "rate_limit_exceeded"),
        Cause::Quota => (429, "quota_exceeded"),
        Cause::Tenant => (403, "unknown_tenant"),
    };
    let said = rules.rejections.get(&refusal.cause).cloned().unwrap_or_default();
    let decision = Decision::reject(
        said.status.unwrap_or(status),
        said.code.unwrap_or_else(|| code.to_owned()),
        said.message.unwrap_or(refusal.message),
    );
    decision.note("prompt-policy", refusal.pattern.unwrap_or_else(|| code.to_owned()))
}

outrigger_plugin::export!(PromptPolicy: Policy, Audit);
