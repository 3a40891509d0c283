// The official JavaScript client, unchanged: chats, streams, calls, forms, responses, vectors and its own errors.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [base, embeddings] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base, apiKey: "unused", maxRetries: 0, timeout: 120_000 });
const [{ id: model }] = (await client.models.list()).data;
const messages = [
  { role: "system", content: "Answer in one sentence." },
  { role: "user", content: "What is the capital of France?" },
];
const ask = { model, messages, temperature: 0, max_completion_tokens: 48 };

// Answers are compared on a prompt that is known: what is computed anew may differ in a word.
await client.chat.completions.create({ ...ask, max_completion_tokens: 1 });
const whole = await client.chat.completions.create(ask);
const text = whole.choices[0].message.content;
assert.match(text, /Paris/);

const stream = client.chat.completions.stream({ ...ask, stream_options: { include_usage: true } });
let deltas = "";
stream.on("content", (delta) => (deltas += delta));
const final = await stream.finalChatCompletion();
assert.equal(deltas, text);
assert.equal(final.choices[0].message.content, text);
assert.equal(final.usage.completion_tokens, whole.usage.completion_tokens);

const City = z.object({ city: z.enum(["Paris", "Rome"]) });
const formed = await client.chat.completions.parse({ ...ask, response_format: zodResponseFormat(City, "city") });
assert.ok(["Paris", "Rome"].includes(formed.choices[0].message.parsed.city));

const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "London"] } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "get_weather", description: "The weather of a city.", parameters } }];
const tool_choice = { type: "function", function: { name: "get_weather" } };
const called = await client.chat.completions.create({ ...ask, tools, tool_choice });
const [call] = called.choices[0].message.tool_calls;
assert.ok(["Paris", "London"].includes(JSON.parse(call.function.arguments).city));
const calling = client.chat.completions.stream({ ...ask, tools, tool_choice });
const again = (await calling.finalChatCompletion()).choices[0].message.tool_calls[0];
assert.deepEqual([again.function.name, again.function.arguments], [call.function.name, call.function.arguments]);
const answered = await client.chat.completions.create({
  ...ask,
  tools,
  tool_choice: "none",
  messages: [...messages, called.choices[0].message, { role: "tool", tool_call_id: call.id, content: "sunny" }],
});
assert.ok(answered.choices[0].message.content.length > 0);

const response = await client.responses.create({ model, input: messages, temperature: 0, max_output_tokens: 48 });
assert.equal(response.output_text, text);
let said = "";
for await (const event of await client.responses.create({ model, input: messages, temperature: 0, max_output_tokens: 48, stream: true })) {
  if (event.type === "response.output_text.delta") said += event.delta;
}
assert.equal(said, text);

await assert.rejects(client.chat.completions.create({ ...ask, model: "another" }), OpenAI.NotFoundError);
await assert.rejects(client.chat.completions.create({ ...ask, temperature: 9 }), (error) => {
  assert.ok(error instanceof OpenAI.BadRequestError);
  assert.equal(error.param, "temperature");
  assert.equal(error.code, "invalid_value");
  assert.ok(error.requestID);
  return true;
});

// A stream that is left is over for the server too: the next one has the slot.
const left = await client.chat.completions.create({ ...ask, stream: true, max_completion_tokens: 2000, ignore_eos: true });
for await (const _chunk of left) break;
assert.equal((await client.chat.completions.create({ ...ask, max_completion_tokens: 1 })).choices[0].finish_reason, "length");

const encoder = new OpenAI({ baseURL: embeddings, apiKey: "unused", maxRetries: 0 });
const [{ id: encodes }] = (await encoder.models.list()).data;
// It asks for base64 by itself, and decodes it.
const { data } = await encoder.embeddings.create({ model: encodes, input: ["a cat", "a kitten", "tax law"] });
const dot = (a, b) => a.reduce((sum, x, place) => sum + x * b[place], 0);
const [cat, kitten, law] = data.map((item) => item.embedding);
assert.equal(cat.length, 384);
assert.ok(dot(cat, kitten) > dot(cat, law) + 0.2);
