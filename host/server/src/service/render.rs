//! The prompt that a request would become, shown instead of completed.

use std::num::NonZeroU32;

use inference::{Annotations, Call, Finish, Prompt, Token};
use telemetry::Endpoint;

use super::admission::Terms;
use super::{Asked, ChatError, Service};

/// What a request would become.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The model that would answer.
    pub model: String,
    /// Tokens that its context holds, prompt and answer together.
    pub context_length: u32,
    /// The prompt.
    pub prompt: Prompt,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// What the plugins noted.
    pub annotations: Annotations,
}

impl Service {
    /// Takes a request through the plugins as far as its prompt: admitted, judged and counted like any other. The future may
    /// be dropped at any point.
    pub async fn render(
        &self,
        asked: Asked,
        call: Call,
        terms: &Terms,
        endpoint: Endpoint,
    ) -> Result<Rendered, ChatError> {
        let deadline = self.deadline(terms);
        let (pass, _, mut record) = self.within(deadline, self.pass(asked, call, endpoint)).await?;
        let (model, context_length) = (pass.model().to_owned(), pass.serving.engine.card().context_length);
        let rendered = async {
            let hold = self.admit(terms, Some(&mut record)).await?;
            // It would be the same for more of them.
            let ready = pass.prepare(0, NonZeroU32::MIN, &hold, record.tally()).await?;
            // Nothing was generated, and nobody waits for more: that is how it ends for the plugins.
            let annotations = ready.run(0)?.finish(Finish::Cancelled, record.tally().usage()).await?;
            Ok(Rendered { model, context_length, prompt: ready.prompt, tokens: ready.tokens, annotations })
        };
        match self.within(deadline, rendered).await {
            Ok(rendered) => {
                record.rendered(rendered.annotations.clone());
                Ok(rendered)
            }
            Err(error) => {
                record.failed(&error);
                Err(error)
            }
        }
    }
}
