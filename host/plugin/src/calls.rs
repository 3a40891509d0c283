//! The typed calls into an instance, stage by stage: which function, under which budget, and what its answer counts as.

use std::sync::Arc;

use inference::Stage;
use telemetry::Outcome;
use wasmtime::component::ResourceAny;

use crate::bindings::exports::outrigger::plugin::{parse, policy, postprocess, prompt, token_control};
use crate::bindings::outrigger::plugin::types;
use crate::budget::Question;
use crate::fault::Failure;
use crate::instance::Instance;

impl Instance {
    pub(crate) fn inspect(
        &mut self,
        request: &types::Request,
        call: &types::Call,
    ) -> Result<(policy::Verdict, types::Annotations), Failure> {
        let outcome = |(verdict, _): &(policy::Verdict, _)| match verdict {
            policy::Verdict::Accept => Outcome::Accept,
            policy::Verdict::Replace(_) => Outcome::Replace,
            policy::Verdict::Reject(_) => Outcome::Reject,
        };
        let cpu_max = self.plugin.owner.limits.policy_cpu_max;
        self.call(Stage::Policy, cpu_max, outcome, |this| {
            let policy = this.exports.policy.as_ref().ok_or_else(missing)?;
            policy.call_inspect(&mut this.store, request, call)
        })
    }

    pub(crate) fn render(
        &mut self,
        messages: &[types::Message],
        options: &prompt::Options,
        call: &types::Call,
    ) -> Result<prompt::Rendered, Failure> {
        let cpu_max = self.plugin.owner.limits.prompt_cpu_max;
        self.call(
            Stage::Prompt,
            cpu_max,
            |_| Outcome::Ok,
            |this| {
                let prompt = this.exports.prompt.as_ref().ok_or_else(missing)?;
                prompt.call_render(&mut this.store, messages, options, call)
            },
        )
    }

    /// Opens a controller. What comes with it: its masks.
    pub(crate) fn open_controller(
        &mut self,
        call: &types::Call,
        choice: u32,
        prompt: &[u32],
        vocabulary_size: u32,
    ) -> Result<(ResourceAny, Vec<Vec<u32>>), Failure> {
        let cpu_max = self.plugin.owner.limits.prompt_cpu_max;
        let controller = self.call(
            Stage::TokenControl,
            cpu_max,
            |_| Outcome::Open,
            |this| {
                let control = this.exports.token_control.as_ref().ok_or_else(missing)?;
                control.controller().call_open(&mut this.store, call, choice, prompt, vocabulary_size)
            },
        )?;
        self.opened.push(controller);
        let masks = self.call(
            Stage::TokenControl,
            cpu_max,
            |_| Outcome::Ok,
            |this| {
                let control = this.exports.token_control.as_ref().ok_or_else(missing)?;
                control.controller().call_masks(&mut this.store, controller).map(Ok)
            },
        )?;
        Ok((controller, masks))
    }

    /// The controller's say behind `appended`. It is stopped where `question` is given up.
    pub(crate) fn step(
        &mut self,
        controller: ResourceAny,
        appended: &[u32],
        question: &Arc<Question>,
    ) -> Result<token_control::Constraint, Failure> {
        self.pushes = self.pushes.saturating_add(1);
        self.store.data_mut().budget.question = Some(Arc::clone(question));
        let outcome = |constraint: &token_control::Constraint| match constraint {
            token_control::Constraint::Free | token_control::Constraint::FreeFor(_) => Outcome::Pass,
            token_control::Constraint::Stop => Outcome::Stop,
            _ => Outcome::Rewrite,
        };
        let cpu_max = self.plugin.owner.limits.step_cpu_max;
        let constraint = self.call(Stage::TokenControl, cpu_max, outcome, |this| {
            let control = this.exports.token_control.as_ref().ok_or_else(missing)?;
            control.controller().call_step(&mut this.store, controller, appended)
        });
        self.store.data_mut().budget.question = None;
        constraint
    }

    pub(crate) fn open_parser(
        &mut self,
        call: &types::Call,
        choice: u32,
        tools: &[types::Tool],
        prefix: &str,
    ) -> Result<ResourceAny, Failure> {
        let cpu_max = self.plugin.owner.limits.push_cpu_max;
        let parser = self.call(
            Stage::Parse,
            cpu_max,
            |_| Outcome::Open,
            |this| {
                let parse = this.exports.parse.as_ref().ok_or_else(missing)?;
                parse.parser().call_open(&mut this.store, call, choice, tools, prefix)
            },
        )?;
        self.opened.push(parser);
        Ok(parser)
    }

    pub(crate) fn parse(&mut self, parser: ResourceAny, text: &str, last: bool) -> Result<Vec<parse::Event>, Failure> {
        self.pushes = self.pushes.saturating_add(1);
        let cpu_max = self.plugin.owner.limits.push_cpu_max;
        self.call(
            Stage::Parse,
            cpu_max,
            |_| Outcome::Ok,
            |this| {
                let parse = this.exports.parse.as_ref().ok_or_else(missing)?;
                parse.parser().call_push(&mut this.store, parser, text, last)
            },
        )
    }

    pub(crate) fn open_filter(
        &mut self,
        call: &types::Call,
        choice: u32,
    ) -> Result<(ResourceAny, postprocess::Profile), Failure> {
        let cpu_max = self.plugin.owner.limits.push_cpu_max;
        let (filter, profile) = self.call(
            Stage::Postprocess,
            cpu_max,
            |_| Outcome::Open,
            |this| {
                let postprocess = this.exports.postprocess.as_ref().ok_or_else(missing)?;
                postprocess.filter().call_open(&mut this.store, call, choice)
            },
        )?;
        self.opened.push(filter);
        Ok((filter, profile))
    }

    /// `is_first`: of those that one push of the host's leads to, which add to the request's CPU time together.
    pub(crate) fn filter(
        &mut self,
        filter: ResourceAny,
        chunk: &postprocess::Chunk,
        is_first: bool,
    ) -> Result<postprocess::Output, Failure> {
        self.pushes = self.pushes.saturating_add(u32::from(is_first));
        let outcome = |output: &postprocess::Output| match output {
            postprocess::Output { stop: Some(_), .. } => Outcome::Stop,
            postprocess::Output { instead: Some(_), .. } => Outcome::Rewrite,
            postprocess::Output { consume, .. } if (*consume as usize) < chunk.window.len() => Outcome::Hold,
            _ => Outcome::Pass,
        };
        let cpu_max = self.plugin.owner.limits.push_cpu_max;
        self.call(Stage::Postprocess, cpu_max, outcome, |this| {
            let postprocess = this.exports.postprocess.as_ref().ok_or_else(missing)?;
            postprocess.filter().call_push(&mut this.store, filter, chunk)
        })
    }

    pub(crate) fn finish_filter(
        &mut self,
        filter: ResourceAny,
        finish: types::Finish,
        usage: types::Usage,
    ) -> Result<types::Annotations, Failure> {
        let cpu_max = self.plugin.owner.limits.finish_cpu_max;
        self.call(
            Stage::Postprocess,
            cpu_max,
            |_| Outcome::Finish,
            |this| {
                let postprocess = this.exports.postprocess.as_ref().ok_or_else(missing)?;
                postprocess.filter().call_finish(&mut this.store, filter, finish, usage)
            },
        )
    }

    pub(crate) fn audit(
        &mut self,
        call: &types::Call,
        finish: types::Finish,
        usage: types::Usage,
        notes: &types::Annotations,
    ) -> Result<(), Failure> {
        let cpu_max = self.plugin.owner.limits.finish_cpu_max;
        self.call(
            Stage::Audit,
            cpu_max,
            |()| Outcome::Ok,
            |this| {
                let audit = this.exports.audit.as_ref().ok_or_else(missing)?;
                audit.call_completed(&mut this.store, call, finish, usage, notes).map(Ok)
            },
        )
    }
}

/// A stage was called that was not loaded: a mistake of ours that must not become a panic.
fn missing() -> wasmtime::Error {
    wasmtime::Error::msg("the host called a stage that this plugin does not have or that was not opened")
}
