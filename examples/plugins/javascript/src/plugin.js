// House style: tells the model which words to prefer, and replaces the others in its answer.
import config from "outrigger:plugin/config@0.1.0";

import { Rewriter, utf8Length } from "./rewriter.js";

let terms = {};

export const lifecycle = {
  init() {
    terms = JSON.parse(config.all()).terms ?? { utilize: "use" };
    return { name: "house-style", version: "0.1.0" };
  },
};

export const policy = {
  // Needs `grants = { modify = ["messages"] }`.
  inspect(request, _call) {
    if (Object.keys(terms).length === 0) return [{ tag: "accept" }, []];
    const wishes = Object.entries(terms).map(([word, preferred]) => `"${preferred}" instead of "${word}"`);
    const line = { role: "system", name: null, parts: [{ tag: "text", val: `Write ${wishes.join(", ")}.` }] };
    // Behind the application's own system lines: templates want those first.
    const first = request.messages.findIndex(({ role }) => role !== "system");
    request.messages.splice(first < 0 ? request.messages.length : first, 0, line);
    return [{ tag: "replace", val: request }, []];
  },
};

class Filter {
  #rewriter = new Rewriter(terms);

  static open(_call, _choice) {
    const profile = { channels: ["content"], minBytes: 0, maxDelayMs: 0, maxHoldback: 256, wantTokens: false };
    return [new Filter(), profile];
  }

  push({ window, last }) {
    const { done, text } = this.#rewriter.rewrite(window, last);
    const consumed = window.slice(0, done);
    // `null` sends what was consumed as it is, and copies nothing.
    return { consume: utf8Length(consumed), instead: text === consumed ? null : text, stop: null, notes: [] };
  }

  finish(_end, _usage) {
    return [];
  }
}

export const postprocess = { Filter };
