//! What a loaded model does: it answers chats, or it encodes.

use std::sync::Arc;

use inference::{EncodingEngine, EncodingTask, ModelCard, Progress, Prompt, Segment, Token, Vocabulary};

use super::{ChatError, Serving};

/// A loaded model, with what belongs to it.
#[derive(Clone)]
pub(super) enum Loaded {
    Chat(Serving),
    Encoder(Arc<dyn EncodingEngine>),
}

/// What a served model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Answers in conversations.
    Chat,
    /// Vectors of texts.
    Embedding {
        /// Numbers of each.
        dimensions: u32,
    },
    /// Scores of documents.
    Rerank,
}

impl Loaded {
    pub(super) fn card(&self) -> &ModelCard {
        match self {
            Self::Chat(serving) => serving.engine.card(),
            Self::Encoder(engine) => engine.card(),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        match self {
            Self::Chat(serving) => serving.engine.progress(),
            Self::Encoder(engine) => engine.progress(),
        }
    }

    pub(super) fn vocabulary(&self) -> &dyn Vocabulary {
        match self {
            Self::Chat(serving) => &**serving.engine.vocabulary(),
            Self::Encoder(engine) => &**engine.vocabulary(),
        }
    }

    /// The tokens of a text, as the model reads it when it is asked with nothing else.
    pub(super) fn framed(&self, text: &str) -> Vec<Token> {
        match self {
            Self::Chat(_) => {
                let segments = vec![Segment::Content(text.to_owned())];
                Prompt { segments, ..Prompt::default() }.tokenize(self.vocabulary())
            }
            Self::Encoder(engine) => engine.facts().frame.text(text, None, self.vocabulary()),
        }
    }

    pub(super) fn capability(&self) -> Capability {
        match self {
            Self::Chat(_) => Capability::Chat,
            Self::Encoder(engine) => match engine.facts().task {
                EncodingTask::Embedding { dimensions } => Capability::Embedding { dimensions },
                EncodingTask::Ranking => Capability::Rerank,
            },
        }
    }

    /// What answers chats.
    pub(super) fn chat(self) -> Result<Serving, ChatError> {
        match self {
            Self::Chat(serving) => Ok(serving),
            Self::Encoder(_) => Err(self.other_task()),
        }
    }

    /// Whether the service alone has it.
    pub(super) fn is_held_by_nobody_else(&self) -> bool {
        match self {
            Self::Chat(serving) => Arc::strong_count(&serving.engine) == 1,
            Self::Encoder(engine) => Arc::strong_count(engine) == 1,
        }
    }

    pub(super) fn encoder(&self) -> Option<Arc<dyn EncodingEngine>> {
        match self {
            Self::Chat(_) => None,
            Self::Encoder(engine) => Some(Arc::clone(engine)),
        }
    }

    /// What is said to whoever asks it for something else.
    pub(super) fn other_task(&self) -> ChatError {
        let (does, path) = match self.capability() {
            Capability::Chat => ("answers chats and does not encode", "/v1/chat/completions"),
            Capability::Embedding { .. } => ("makes vectors of texts and nothing else", "/v1/embeddings"),
            Capability::Rerank => ("ranks documents and does nothing else", "/v1/rerank"),
        };
        ChatError::OtherTask { model: self.card().id.clone(), does, path }
    }
}
