// Rejects requests that are longer than the operator likes.
import config from "outrigger:plugin/config@0.1.0";

import { charactersOf } from "./request.js";

let most = 4096;

export const lifecycle = {
  // The first call of every instance. The host has judged the configuration by the schema in plugin.toml.
  init() {
    most = JSON.parse(config.all()).max_characters ?? most;
    return { name: "template-name", version: "0.1.0" };
  },
};

export const policy = {
  // Runs before anything is computed: a rejection costs no model time.
  inspect(request, _call) {
    const characters = charactersOf(request);
    if (characters > most) {
      const message = `The request has ${characters} characters of text, and ${most} are allowed.`;
      return [{ tag: "reject", val: { status: 413, code: "request_too_long", message, retryAfterMs: null } }, []];
    }
    // Notes stand in the host's log, and in the reply.
    return [{ tag: "accept" }, [["template-name", String(characters)]]];
  },
};
