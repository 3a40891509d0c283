// Masks words in a text that comes in pieces. Nothing in here knows of the host, so that it is tested in Node.

const WORD = /[\p{L}\p{M}\p{N}_]+/gu;
const ENDS_IN_A_WORD = /[\p{L}\p{M}\p{N}_]$/u;

// Upper case: a lower-case sigma depends on what follows it, and what follows may not be here yet.
const folded = (word) => word.toUpperCase();

export class Masker {
  masked = 0;
  // Whether what was consumed ended in the middle of a word.
  #insideWord = false;
  #words;

  constructor(words) {
    this.#words = words.map(folded);
  }

  // `window` is all text that was not consumed yet. Answers how many UTF-16 units of it are done with, and what is sent in
  // their place. Only a last word that may become one of the words is left: the next piece decides what it is.
  mask(window, last) {
    let text = "";
    let done = 0;
    // Not `matchAll`, which compiles the expression anew for every call: that takes longer than all the rest.
    WORD.lastIndex = 0;
    for (let found; (found = WORD.exec(window)) !== null; ) {
      const { 0: word, index } = found;
      const whole = !(index === 0 && this.#insideWord);
      const open = index + word.length === window.length && !last;
      if (whole && open && this.#words.some((masked) => masked.startsWith(folded(word)))) {
        return this.#consume(window, index, text + window.slice(done, index));
      }
      if (whole && !open && this.#words.includes(folded(word))) {
        text += window.slice(done, index) + "[…]";
        done = index + word.length;
        this.masked += 1;
      }
    }
    return this.#consume(window, window.length, text + window.slice(done));
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
