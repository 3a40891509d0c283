// An SSE parser that nobody here wrote (eventsource-parser) is fed every stream byte by byte: the same events as in one piece.
import assert from "node:assert/strict";
import { createParser } from "eventsource-parser";

const [base, , model] = process.argv.slice(2);
const chat = [{ role: "user", content: "Say an emoji." }];
const forms = {
  "/chat/completions": { messages: chat, max_tokens: 24 },
  "/completions": { prompt: "Once upon a time", max_tokens: 24 },
  "/messages": { messages: chat, max_tokens: 24 },
  "/responses": { input: chat, max_output_tokens: 24 },
};

function read(bytes, size) {
  const [events, comments, decoder] = [[], [], new TextDecoder()];
  const parser = createParser({
    onEvent: (event) => events.push(event),
    onComment: (comment) => comments.push(comment),
    onError: (error) => assert.fail(error),
  });
  for (let at = 0; at < bytes.length; at += size) {
    parser.feed(decoder.decode(bytes.subarray(at, at + size), { stream: true }));
  }
  return { events, comments };
}

for (const [path, body] of Object.entries(forms)) {
  const reply = await fetch(base + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, model, stream: true, temperature: 1 }),
  });
  assert.equal(reply.status, 200, path);
  const bytes = new Uint8Array(await reply.arrayBuffer());
  const { events } = read(bytes, 1);
  assert.deepEqual(events, read(bytes, bytes.length).events, path);
  const counted = new TextDecoder().decode(bytes).split("\n").filter((line) => line.startsWith("data: ")).length;
  assert.equal(events.length, counted, path);
  assert.ok(counted > 10, `${path}: ${counted} events`);
  for (const event of events) {
    if (event.data === "[DONE]") continue;
    const data = JSON.parse(event.data);
    assert.equal(event.event, event.event === undefined ? undefined : data.type, path);
  }
}
