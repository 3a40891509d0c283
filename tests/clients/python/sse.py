"""An SSE parser that nobody here wrote (httpx-sse) reads every form's stream: the same events as are counted in the bytes."""

import json
import sys

import httpx
import httpx_sse

base, model = sys.argv[1], sys.argv[3]
chat = [{"role": "user", "content": "Say \"a\\nb\" and an emoji."}]
forms = {
    "/chat/completions": dict(messages=chat, max_tokens=24, stream_options={"include_usage": True}, n=2),
    "/completions": dict(prompt="Once upon a\r\n\r\ntime", max_tokens=24, echo=True),
    "/messages": dict(messages=chat, max_tokens=24),
    "/responses": dict(input=chat, max_output_tokens=24),
}
for path, body in forms.items():
    body = dict(body, model=model, stream=True, temperature=1)
    with httpx.Client(timeout=120) as client, client.stream("POST", base + path, json=body) as reply:
        assert reply.status_code == 200, (path, reply.read())
        assert reply.headers["content-type"].split(";")[0] == "text/event-stream", reply.headers
        taken = []

        class Copied(httpx.SyncByteStream):
            """What comes, and a copy of it for the count."""

            def __init__(self, stream):
                self.stream = stream

            def __iter__(self):
                for part in self.stream:
                    taken.append(part)
                    yield part

            def close(self):
                self.stream.close()

        reply.stream = Copied(reply.stream)
        events = list(httpx_sse.EventSource(reply).iter_sse())
    text = b"".join(taken).decode()
    assert "\r" not in text and text.endswith("\n\n"), path
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert len(events) == len(blocks) > 10, (path, len(events), len(blocks))
    for event, block in zip(events, blocks):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        assert event.data == lines["data"] and event.event == lines.get("event", "message"), (event, block)
        assert not event.id and event.retry is None, event
    read = [json.loads(event.data) for event in events if event.data != "[DONE]"]
    if path in ("/messages", "/responses"):
        assert all(event.event == part["type"] for event, part in zip(events, read)) and len(read) == len(events), path
    else:
        assert events[-1].data == "[DONE]" and len(read) == len(events) - 1, path
        assert len({part["id"] for part in read}) == 1, path
    if path == "/responses":
        assert [part["sequence_number"] for part in read] == list(range(len(read)))
