import assert from "node:assert/strict";
import test from "node:test";

import { charactersOf } from "./request.js";

test("characters of all texts are counted", () => {
  const message = (val) => ({ role: "user", name: null, parts: [{ tag: "text", val }] });
  assert.equal(charactersOf({ messages: [message("Hi 🙂"), message("ß")] }), 5);
  const result = { tag: "tool-result", val: { id: "1", content: "18 °C" } };
  assert.equal(charactersOf({ messages: [{ role: "tool", name: null, parts: [result] }] }), 5);
});
