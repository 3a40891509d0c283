//! The parts of a request that have no field in the WIT file: they travel as named JSON in `request.extra`.

use inference::{ChatRequest, Sampling};

use crate::fault::Fault;

const TEMPLATE_ARGUMENTS: &str = "chat_template_kwargs";

/// The penalties, by their names in a request body.
type Penalty = (&'static str, fn(&mut Sampling) -> &mut f32);
const PENALTIES: [Penalty; 3] = [
    ("presence_penalty", |sampling| &mut sampling.presence_penalty),
    ("frequency_penalty", |sampling| &mut sampling.frequency_penalty),
    ("repeat_penalty", |sampling| &mut sampling.repeat_penalty),
];

/// What a request has beyond the contract's fields. What is as usual is left out.
pub(crate) fn of(request: &ChatRequest) -> Vec<(String, String)> {
    let mut extra = Vec::new();
    if !matches!(request.template_arguments.trim(), "" | "{}") {
        extra.push((TEMPLATE_ARGUMENTS.to_owned(), request.template_arguments.clone()));
    }
    let (mut sampling, mut usual) = (request.sampling.clone(), Sampling::default());
    for (name, penalty) in PENALTIES {
        let value = *penalty(&mut sampling);
        if value.to_bits() != penalty(&mut usual).to_bits() {
            extra.push((name.to_owned(), value.to_string()));
        }
    }
    extra
}

/// Sets what `extra` says; what it leaves out is as usual again.
pub(crate) fn apply(extra: &[(String, String)], request: &mut ChatRequest) -> Result<(), Fault> {
    let mut usual = Sampling::default();
    "{}".clone_into(&mut request.template_arguments);
    for (_, penalty) in PENALTIES {
        *penalty(&mut request.sampling) = *penalty(&mut usual);
    }
    for (name, json) in extra {
        let refuse = |what: &str| Err(Fault::contract(format!("a replaced request has `{name}` as {what}")));
        if name == TEMPLATE_ARGUMENTS {
            if !serde_json::from_str::<serde_json::Value>(json).is_ok_and(|value| value.is_object()) {
                return refuse("something that is not a JSON object");
            }
            request.template_arguments.clone_from(json);
        } else if let Some((_, penalty)) = PENALTIES.iter().find(|(known, _)| known == name) {
            let Ok(value) = json.parse::<f32>() else { return refuse("something that is not a number") };
            *penalty(&mut request.sampling) = value;
        } else {
            return refuse("an extra member, which this host does not know");
        }
    }
    Ok(())
}
