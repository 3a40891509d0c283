#!/usr/bin/env bash
# From a fresh Debian machine to a streamed answer: installs what is missing, builds, fetches a small model, serves it
# with both bundled plugins, and asks it something.
#
#   examples/quickstart.sh                    two demo questions
#   examples/quickstart.sh "your question"    yours
set -euo pipefail
. "$(dirname "$0")/../tests/setup.sh"
cd "$root"

setup_packages build-essential pkg-config cmake clang libclang-dev ccache curl python3 python3-venv
setup_rust
say "building outrigger (the first time takes some minutes: llama.cpp and wasmtime are compiled)"
cargo build --release -p outrigger
setup_demo_model

log=$cache/quickstart.log
# Port 0: the system picks a free one, and the log says which.
target/release/outrigger serve --model "file:$DEMO_MODEL" --plugin redact --listen 127.0.0.1:0 --log-format json 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT

address=
for _ in $(seq 300); do
    kill -0 "$server" 2>/dev/null || { cat "$log" >&2; fail "outrigger ended before it was ready; its log is above"; }
    address=$(sed -n 's/.*"address":"\([^"]*\)".*/\1/p' "$log" | head -1)
    [ -n "$address" ] && curl -fsS -o /dev/null "http://$address/readyz" 2>/dev/null && break
    sleep 0.1
done
[ -n "$address" ] || { cat "$log" >&2; fail "outrigger was not ready in 30 seconds; its log is above"; }
say "serving SmolLM2-135M-Instruct on http://$address with the plugins chat-template and redact"

ask() {
    say "asking: $1"
    python3 - "$address" "$1" <<'PYTHON'
import json, sys, urllib.request

address, question = sys.argv[1:]
body = {
    "model": "SmolLM2-135M-Instruct.Q4_1",
    "messages": [{"role": "user", "content": question}],
    "stream": True,
    "max_tokens": 120,
    "temperature": 0,
    "stop": ["\n\n"],
}
request = urllib.request.Request(
    f"http://{address}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
)
with urllib.request.urlopen(request, timeout=300) as reply:
    for line in reply:
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:]).get("choices", []):
                print(choice["delta"].get("content") or "", end="", flush=True)
print()
PYTHON
}
if (($#)); then
    ask "$1"
else
    ask "Why is the sea salty?"
    ask "Write a short contact page for the bakery of Joe. His e-mail address is joe@example.org."
fi

cat <<TEXT

Every answer was streamed token by token through two sandboxed WebAssembly plugins: chat-template rendered the
model's own Jinja template, and redact masks e-mail addresses, phone and card numbers, IBANs and API keys.

Try next:
  target/release/outrigger run --model "file:$DEMO_MODEL" "Why is the sky blue?"
  target/release/outrigger serve --model "file:$DEMO_MODEL" --plugin redact
  curl -N http://127.0.0.1:8484/v1/chat/completions -H 'content-type: application/json' \\
    -d '{"model": "SmolLM2-135M-Instruct.Q4_1", "stream": true, "messages": [{"role": "user", "content": "hi"}]}'
  curl http://127.0.0.1:8484/metrics
  target/release/outrigger serve --help
TEXT
