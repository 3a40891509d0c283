"""Finds links in a text that comes in pieces. Nothing in here knows of the host, so that it is tested in any Python."""

import re
from urllib.parse import urlsplit

LINK_CHARACTERS_MAX = 1000
"""A link that is longer is judged by its beginning: what is held back has to stay small."""

REMOVED = "[link removed]"

# ASCII: elsewhere "ſ" is an "s" whose case is ignored. A backslash ends a link, since browsers take it for a slash.
LINK = re.compile(r"https?://([^\s<>\"'`)\]}\\]{0,%d})" % LINK_CHARACTERS_MAX, re.IGNORECASE | re.ASCII)
BEGINNING = re.compile(r"h(t(t(p(s?(:/?)?)?)?)?)?\Z", re.IGNORECASE | re.ASCII)


class Guard:
    """Lets links lead only to `hosts` and their subdomains."""

    def __init__(self, hosts: list[str]):
        self.hosts = [host.lower() for host in hosts]

    def allows(self, link: str) -> bool:
        try:
            host = (urlsplit(link).hostname or "").rstrip(".")
        except ValueError:
            return False
        return any(host == allowed or host.endswith("." + allowed) for allowed in self.hosts)

    def check(self, window: str, last: bool) -> tuple[int, str]:
        """How many characters of the window are done with, and what is sent in their place. Only a link whose end is
        not here yet, or what may become one, is left."""
        text, done = [], 0
        for found in LINK.finditer(window):
            link = found.group()
            is_open = found.end() == len(window) and len(found[1]) < LINK_CHARACTERS_MAX
            if is_open and not last:
                return found.start(), "".join(text) + window[done : found.start()]
            link = link.rstrip(".,;:!?")
            text += window[done : found.start()], link if self.allows(link) else REMOVED
            done = found.start() + len(link)
        beginning = None if last else BEGINNING.search(window, done)
        end = beginning.start() if beginning else len(window)
        return end, "".join(text) + window[done:end]
