//! From the form that an answer must have to a grammar that the engine follows.

use std::sync::{Arc, Mutex, PoisonError};

use grammar::{Author, Compiler};
use inference::{ChatRequest, Grammar, OutputFormat, Tool, ToolChoice, Vocabulary};

use super::ChatError;
use super::off_thread::{Hold, off_thread};

/// The compiler for the model that is loaded, with what it has compiled.
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
        request: &ChatRequest,
        prompt: Option<&OutputFormat>,
        hold: &Hold,
    ) -> Result<Option<Grammar>, ChatError> {
        let (form, calls) = form_and_calls(request, prompt.is_some())?;
        let author = if form.is_some() { Author::Client } else { Author::Prompt };
        let Some(format) = wanted(form, prompt)? else { return Ok(None) };
        let compiler = self.compiler(vocabulary);
        if let Some(grammar) = compiler.cached(format, author) {
            return Ok(Some(grammar));
        }
        let format = format.clone();
        // Here, where the error still knows which function it is about.
        let tools = if calls.is_some() { request.tools.clone() } else { Vec::new() };
        let choice = request.tool_choice.clone();
        let work = move |_: &dyn Fn() -> bool| {
            if let Some(member) = calls {
                check_schemas(member, &tools, &choice)?;
            }
            compiler.compile(&format, author).map(Some).map_err(|reason| match (calls, author) {
                (Some(member), _) => ChatError::Calls { member, reason },
                (None, Author::Client) => ChatError::Format(reason),
                (None, Author::Prompt) => ChatError::PromptFormat(reason),
            })
        };
        off_thread("compile the answer's grammar", hold.clone(), work).await?
    }

    /// Lets go of the vocabulary, and of what was compiled for it.
    pub(super) fn forget(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
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

/// The form that the request wants of its text, and the member of it that asks of its calls what only the prompt's grammar can
/// promise. There has to be one then, and no other form beside it.
fn form_and_calls(
    request: &ChatRequest,
    has_grammar: bool,
) -> Result<(Option<&OutputFormat>, Option<&'static str>), ChatError> {
    let may_answer = match request.tool_choice {
        _ if request.tools.is_empty() => return Ok((request.format.as_ref(), None)),
        ToolChoice::None => return Ok((request.format.as_ref(), None)),
        ToolChoice::Auto => true,
        ToolChoice::Required | ToolChoice::Named(_) => false,
    };
    if let Some(form) = request.format.as_ref().filter(|_| may_answer) {
        return Err(ChatError::CallsOrFormat { form: form.kind() });
    }
    // A form is about what is said beside calls, and nothing will be.
    match request.calls_to_enforce() {
        Some(member) if !has_grammar => Err(ChatError::CallsUnbound { member }),
        member => Ok((None, member)),
    }
}

/// Whether the functions' schemas can be enforced, as far as they have to be.
fn check_schemas(member: &'static str, tools: &[Tool], choice: &ToolChoice) -> Result<(), ChatError> {
    let counts = |tool: &&Tool| match choice {
        ToolChoice::Required => true,
        ToolChoice::Named(name) => tool.name == *name,
        ToolChoice::Auto | ToolChoice::None => tool.strict,
    };
    tools.iter().filter(counts).try_for_each(|tool| {
        grammar::check_schema(&tool.schema_json).map_err(|reason| ChatError::CallSchema {
            member,
            function: tool.name.clone(),
            reason,
        })
    })
}

/// What both ask for. Two different forms at once cannot be enforced, as one of them would be broken.
fn wanted<'a>(
    request: Option<&'a OutputFormat>,
    prompt: Option<&'a OutputFormat>,
) -> Result<Option<&'a OutputFormat>, ChatError> {
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
        let regex = OutputFormat::Regex("a".to_owned());
        let regex = Some(&regex);
        assert_eq!(wanted(None, None), Ok(None));
        assert_eq!(wanted(regex, None), Ok(regex));
        assert_eq!(wanted(None, regex), Ok(regex));
        assert_eq!(wanted(regex, regex), Ok(regex));
        let error = wanted(Some(&OutputFormat::JsonObject), regex).unwrap_err();
        assert_eq!(error, ChatError::TwoFormats { request: "JSON object", prompt: "regular expression" });
    }
}
