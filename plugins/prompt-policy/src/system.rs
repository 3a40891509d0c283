//! The operator's system prompt beside the client's.

use outrigger_plugin::prelude::*;

use crate::config::{Mode, SystemPrompt};

/// Puts the prompt where it belongs. Most templates know one system message, the first: where the client has one there,
/// both become one.
pub(crate) fn inject(prompt: &SystemPrompt, messages: &mut Vec<Message>) {
    let text = || Part::Text(prompt.text.clone());
    if prompt.mode == Mode::Replace {
        messages.retain(|message| !is_system(message));
    }
    match messages.first_mut().filter(|message| is_system(message)) {
        None => messages.insert(0, Message { role: Role::System, name: None, parts: vec![text()] }),
        Some(first) => {
            let gap = Part::Text("\n\n".to_owned());
            if prompt.mode == Mode::Prepend {
                first.parts.splice(0..0, [text(), gap]);
            } else {
                first.parts.extend([gap, text()]);
            }
        }
    }
}

fn is_system(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}
