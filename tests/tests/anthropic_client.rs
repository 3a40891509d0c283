//! The official `anthropic` Python client against the real model.

use tests::host::{Host, demo_model, run_python};

#[test]
fn the_official_client_streams_and_does_not_stream() {
    run_python("anthropic_messages.py", &Host::serve(&demo_model(), &["--plugin=redact"]));
}
