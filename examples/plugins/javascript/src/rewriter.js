// Replaces words in a text that comes in pieces. Nothing in here knows of the host, so that it is tested in Node.

const WORD = /[\p{L}\p{M}\p{N}_]+/gu;
const ENDS_IN_A_WORD = /[\p{L}\p{M}\p{N}_]$/u;

// Upper case: a lower-case sigma depends on what follows it, and what follows may not be here yet.
const folded = (word) => word.toUpperCase();

export class Rewriter {
  // Whether what was consumed ended in the middle of a word.
  #insideWord = false;
  #terms;

  constructor(terms) {
    this.#terms = new Map(Object.entries(terms).map(([word, preferred]) => [folded(word), preferred]));
  }

  // `window` is all text that was not consumed yet. Answers how many UTF-16 units of it are done with, and what is sent
  // in their place. Only a last word that is a term so far is left: the next piece decides what it is.
  rewrite(window, last) {
    let text = "";
    let done = 0;
    // Not `matchAll`, which compiles the expression anew for every call: that takes longer than all the rest.
    WORD.lastIndex = 0;
    for (let found; (found = WORD.exec(window)) !== null; ) {
      const { 0: word, index } = found;
      const whole = !(index === 0 && this.#insideWord);
      const open = index + word.length === window.length && !last;
      if (whole && open && this.#mayBecomeTerm(word)) {
        text += window.slice(done, index);
        return this.#consume(window, index, text);
      }
      const preferred = whole && !open ? this.#terms.get(folded(word)) : undefined;
      text += window.slice(done, index) + (preferred ?? word);
      done = index + word.length;
    }
    return this.#consume(window, window.length, text + window.slice(done));
  }

  #mayBecomeTerm(word) {
    const start = folded(word);
    return [...this.#terms.keys()].some((term) => term.startsWith(start));
  }

  #consume(window, done, text) {
    if (done > 0) this.#insideWord = ENDS_IN_A_WORD.test(window.slice(0, done));
    return { done, text };
  }
}

// The host counts bytes of UTF-8, JavaScript units of UTF-16.
export function utf8Length(text) {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0);
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}
