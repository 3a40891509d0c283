"""Masks words in a text that comes in pieces. Nothing in here knows of the host, so that it is tested in any Python."""

import re

WORD = re.compile(r"\w+")
ENDS_IN_A_WORD = re.compile(r"\w\Z")


class Masker:
    """Of one answer."""

    def __init__(self, words: list[str]):
        self.words = [word.casefold() for word in words]
        self.masked = 0
        self.inside_word = False
        """Whether what was consumed ended in the middle of a word."""

    def mask(self, window: str, last: bool) -> tuple[int, str]:
        """How many characters of the window are done with, and what is sent in their place. Only a last word that may
        become one of the words is left: the next piece decides what it is."""
        text, done = "", 0
        for found in WORD.finditer(window):
            word = found.group().casefold()
            is_whole = not (found.start() == 0 and self.inside_word)
            is_open = found.end() == len(window) and not last
            if is_whole and is_open and any(masked.startswith(word) for masked in self.words):
                return self.consume(window, found.start(), text + window[done : found.start()])
            if is_whole and not is_open and word in self.words:
                text += window[done : found.start()] + "[…]"
                done = found.end()
                self.masked += 1
        return self.consume(window, len(window), text + window[done:])

    def consume(self, window: str, done: int, text: str) -> tuple[int, str]:
        if done > 0:
            self.inside_word = ENDS_IN_A_WORD.search(window[:done]) is not None
        return done, text
