//! Prompts that are computed before anybody asks, so that the first request with them starts where they end.

use std::sync::Arc;

use inference::{Call, ChatRequest, GenerationEvent, GenerationRequest, Message, RequestId, Role, Token};

use super::off_thread::Hold;
use super::pass::tokenize;
use super::{ChatError, Serving};

/// What a user might say, twice: what two prompts with the same system text have in common is what every prompt with it
/// begins with, whatever the chat template puts around the text.
const PROBES: [&str; 2] = ["a", "Zebra crossings?"];

impl Serving {
    /// Computes what every conversation with the system text `system` begins with, and leaves it in the engine's memory.
    /// Returns how many tokens that is; 0 where such conversations have no beginning in common.
    ///
    /// The plugins see such a request as any other, under the name `id`.
    pub async fn warm(&self, id: RequestId, system: &str) -> Result<usize, ChatError> {
        let [one, other] = PROBES.map(|probe| self.render(id.clone(), system, probe));
        let (one, other) = (one.await?, other.await?);
        let shared = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
        if shared == 0 {
            return Ok(0);
        }
        let mut generation = self.engine.submit(GenerationRequest::new(id, one[..shared].to_vec(), 1))?;
        loop {
            match generation.next().await {
                GenerationEvent::Piece { .. } => {}
                GenerationEvent::Finished(_) => return Ok(shared),
                GenerationEvent::Failed(fault) => return Err(fault.into()),
            }
        }
    }

    /// The tokens of a conversation's first prompt.
    async fn render(&self, id: RequestId, system: &str, user: &str) -> Result<Vec<Token>, ChatError> {
        let model = self.engine.card().id.clone();
        let messages = vec![Message::text(Role::System, system), Message::text(Role::User, user)];
        let request = ChatRequest { max_tokens: Some(1), ..ChatRequest::new(model.clone(), messages) };
        let call = Call { request_id: id, traceparent: None, model, headers: Vec::new(), choice: 0 };
        let prepared = self.pipeline.begin(call).prepare(request).await?;
        let (tokens, _) = tokenize(prepared.prompt, Arc::clone(self.engine.vocabulary()), &Hold::default()).await?;
        Ok(tokens)
    }
}
