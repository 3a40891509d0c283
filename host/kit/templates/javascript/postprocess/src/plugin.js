// Masks words that the operator does not want to read.
import config from "outrigger:plugin/config@0.1.0";

import { Masker, utf8Length } from "./masker.js";

let words = [];

export const lifecycle = {
  // The first call of every instance. The host has judged the configuration by the schema in plugin.toml.
  init() {
    words = JSON.parse(config.all()).words ?? ["fudge"];
    return { name: "template-name", version: "0.1.0" };
  },
};

// One for each answer.
class Filter {
  #masker = new Masker(words);

  static open(_call, _choice) {
    const profile = { channels: ["content"], minBytes: 0, maxDelayMs: 0, maxHoldback: 256, wantTokens: false };
    return [new Filter(), profile];
  }

  // `window` is all text that is not sent yet.
  push({ window, last }) {
    const { done, text } = this.#masker.mask(window, last);
    const consumed = window.slice(0, done);
    // `null` sends what was consumed as it is, and copies nothing.
    return { consume: utf8Length(consumed), instead: text === consumed ? null : text, stop: null, notes: [] };
  }

  // Notes stand in the host's log, and in the reply.
  finish(_end, _usage) {
    return [["template-name", String(this.#masker.masked)]];
  }
}

export const postprocess = { Filter };
