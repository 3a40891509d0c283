//! From the form that an answer must have to a grammar that the engine follows.

use std::sync::{Arc, Mutex, PoisonError};

use grammar::Compiler;
use inference::{Grammar, OutputFormat, Vocabulary};

use super::ChatError;

/// The compiler for the model that is served, with what it has compiled.
#[derive(Default)]
pub(super) struct Grammars {
    current: Mutex<Option<Current>>,
}

struct Current {
    vocabulary: Arc<dyn Vocabulary>,
    compiler: Arc<Compiler>,
}

impl Grammars {
    /// The grammar of what the request and its prompt ask for. A new one is compiled off the async threads.
    pub(super) async fn compile(
        &self,
        vocabulary: &Arc<dyn Vocabulary>,
        request: Option<OutputFormat>,
        prompt: Option<OutputFormat>,
    ) -> Result<Option<Grammar>, ChatError> {
        let is_clients = request.is_some();
        let Some(format) = wanted(request, prompt)? else { return Ok(None) };
        let compiler = self.compiler(vocabulary);
        if let Some(grammar) = compiler.cached(&format) {
            return Ok(Some(grammar));
        }
        let work = tokio::task::spawn_blocking(move || compiler.compile(&format)).await;
        let grammar = work.map_err(|_| ChatError::Internal { attempted: "compile the answer's grammar" })?;
        grammar.map(Some).map_err(if is_clients { ChatError::Format } else { ChatError::PromptFormat })
    }

    fn compiler(&self, vocabulary: &Arc<dyn Vocabulary>) -> Arc<Compiler> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(current) if Arc::ptr_eq(&current.vocabulary, vocabulary) => Arc::clone(&current.compiler),
            _ => {
                let compiler = Arc::new(Compiler::new(Arc::clone(vocabulary)));
                *current = Some(Current { vocabulary: Arc::clone(vocabulary), compiler: Arc::clone(&compiler) });
                compiler
            }
        }
    }
}

/// What both ask for. Two different forms at once cannot be enforced, as one of them would be broken.
fn wanted(request: Option<OutputFormat>, prompt: Option<OutputFormat>) -> Result<Option<OutputFormat>, ChatError> {
    match (request, prompt) {
        (Some(request), Some(prompt)) if request != prompt => {
            Err(ChatError::TwoFormats { request: request.kind(), prompt: prompt.kind() })
        }
        (Some(format), _) | (None, Some(format)) => Ok(Some(format)),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_forms_are_one_too_many() {
        let regex = || Some(OutputFormat::Regex("a".to_owned()));
        assert_eq!(wanted(None, None), Ok(None));
        assert_eq!(wanted(regex(), None), Ok(regex()));
        assert_eq!(wanted(None, regex()), Ok(regex()));
        assert_eq!(wanted(regex(), regex()), Ok(regex()));
        let error = wanted(Some(OutputFormat::JsonObject), regex()).unwrap_err();
        assert_eq!(error, ChatError::TwoFormats { request: "JSON object", prompt: "regular expression" });
    }
}
