import assert from "node:assert/strict";
import test from "node:test";

import { Masker, utf8Length } from "./masker.js";

test("words are masked in any case, and parts of words are not", () => {
  const masker = new Masker(["heck"]);
  assert.equal(masker.mask("Oh HECK! I checked.", true).text, "Oh […]! I checked.");
  assert.equal(masker.masked, 1);
});

test("only what may become one of the words is held back", () => {
  const done = (window) => new Masker(["heck"]).mask(window, false).done;
  assert.deepEqual([done("oh he"), done("oh hex"), done("oh heck"), done("oh heck ")], [3, 6, 3, 8]);
});

test("lengths are those of UTF-8", () => {
  for (const text of ["", "aß€🙂"]) assert.equal(utf8Length(text), Buffer.byteLength(text));
});
