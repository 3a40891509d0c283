import assert from "node:assert/strict";
import test from "node:test";

import { Rewriter, utf8Length } from "./rewriter.js";

const TERMS = { utilize: "use", utility: "tool", "ΟΔΟΣ": "street" };

// What the host does: shows what is not consumed, and sends what comes of it.
function streamed(pieces) {
  const rewriter = new Rewriter(TERMS);
  let [window, sent] = ["", ""];
  pieces.forEach((piece, number) => {
    window += piece;
    const { done, text } = rewriter.rewrite(window, number === pieces.length - 1);
    sent += text;
    window = window.slice(done);
  });
  assert.equal(window, "");
  return sent;
}

test("whole words are replaced, in any case", () => {
  assert.equal(streamed(["Utilize it; we utilized a UTILITY. οδος Οδοσα"]), "use it; we utilized a tool. street Οδοσα");
});

test("every way to cut a text in three gives the same", () => {
  const text = "Utilize überutilize 🙂utility! util utilize";
  const whole = streamed([text]);
  const characters = [...text];
  for (let first = 0; first <= characters.length; first++) {
    for (let second = first; second <= characters.length; second++) {
      const cut = [characters.slice(0, first), characters.slice(first, second), characters.slice(second)];
      assert.equal(streamed(cut.map((piece) => piece.join(""))), whole);
    }
  }
});

test("only what may become a term is held back", () => {
  const done = (window) => new Rewriter(TERMS).rewrite(window, false).done;
  assert.deepEqual([done("we util"), done("we utter"), done("we utilize "), done("we utilize")], [3, 8, 11, 3]);
});

test("lengths are those of UTF-8", () => {
  for (const text of ["", "aß€🙂"]) assert.equal(utf8Length(text), Buffer.byteLength(text));
});
