//! The official `openai` Python client against the real model.

use tests::host::{Host, demo_model, run_python};

#[test]
fn the_official_client_streams_and_does_not_stream() {
    run_python("openai_client.py", &Host::serve(&demo_model(), &["--plugin=redact"]));
}

#[test]
fn the_official_client_completes_prompts() {
    run_python("openai_completions.py", &Host::serve(&demo_model(), &["--max-concurrency=2"]));
}

#[test]
fn the_official_client_gets_responses() {
    run_python("openai_responses.py", &Host::serve(&demo_model(), &["--plugin=redact"]));
}

#[test]
fn the_official_client_gets_several_answers_and_log_probabilities() {
    run_python("openai_choices.py", &Host::serve(&demo_model(), &["--max-concurrency=2"]));
}
