// Vercel's AI SDK, unchanged, by its provider for OpenAI (chats and responses) and by the one for what is compatible.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, embedMany, generateText, streamText, tool } from "ai";
import { z } from "zod";

const [base, embeddings, name] = process.argv.slice(2);
const openai = createOpenAI({ baseURL: base, apiKey: "unused" });
const compatible = createOpenAICompatible({ name: "outrigger", baseURL: base, includeUsage: true, supportsStructuredOutputs: true });
const usual = { temperature: 0, maxOutputTokens: 48, maxRetries: 0 };
const asked = { ...usual, prompt: "What is the capital of France? Answer in one sentence." };

for (const model of [openai.chat(name), openai.responses(name), compatible(name)]) {
  // Answers are compared on a prompt that is known: what is computed anew may differ in a word.
  await generateText({ ...asked, model });
  const whole = await generateText({ ...asked, model });
  assert.match(whole.text, /Paris/);
  assert.ok(whole.usage.outputTokens > 1, JSON.stringify(whole.usage));

  const streamed = streamText({ ...asked, model });
  let [text, parts] = ["", 0];
  for await (const part of streamed.textStream) {
    text += part;
    parts += 1;
  }
  assert.equal(text, whole.text);
  assert.ok(parts > 3);
  assert.equal((await streamed.usage).outputTokens, whole.usage.outputTokens);
  assert.equal(await streamed.finishReason, whole.finishReason);

  const schema = z.object({ city: z.enum(["Paris", "Rome"]) });
  const formed = await generateText({ ...asked, model, output: Output.object({ schema }) });
  assert.ok(["Paris", "Rome"].includes(formed.output.city));

  const get_weather = tool({
    description: "The weather of a city.",
    inputSchema: z.object({ city: z.enum(["Paris", "London"]) }),
    execute: async ({ city }) => `sunny in ${city}`,
  });
  const called = await generateText({ ...asked, model, tools: { get_weather }, toolChoice: { type: "tool", toolName: "get_weather" } });
  assert.equal(called.toolCalls[0].toolName, "get_weather");
  assert.match(called.toolResults[0].output, /^sunny in (Paris|London)$/);
  assert.equal(called.finishReason, "tool-calls");
}

await assert.rejects(generateText({ ...asked, model: compatible("another") }), (error) => {
  assert.ok(APICallError.isInstance(error), error);
  assert.equal(error.statusCode, 404);
  assert.match(error.message, /is not served here/);
  assert.equal(error.isRetryable, false);
  return true;
});

const encoder = createOpenAICompatible({ name: "outrigger", baseURL: embeddings });
const encodes = (encoder.embeddingModel ?? encoder.textEmbeddingModel)("all-MiniLM-L6-v2.f16");
const { embeddings: vectors } = await embedMany({ model: encodes, values: ["a cat", "a kitten", "tax law"] });
const dot = (a, b) => a.reduce((sum, x, place) => sum + x * b[place], 0);
assert.ok(dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2]) + 0.2);
