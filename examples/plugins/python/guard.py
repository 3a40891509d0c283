"""Finds links in a text that comes in pieces. Nothing in here knows of the host, so that it is tested in any Python.

A link is what browsers take for one that begins with `http:` or `https:`, or with `//` where Markdown has a target. Elsewhere, as in
HTML that somebody renders, `//host` is a link too, and is not found; nor is one whose letters Markdown reads from `&#104;`. Where all
of that matters, it is the rendered page that has to be looked at."""

import re

AUTHORITY_CHARACTERS_MAX = 300
"""What lies between the slashes: a name has 253 characters at most, and a port. A longer one leads nowhere good."""

PATH_CHARACTERS_MAX = 700
"""A link that is longer is judged by its beginning: what is held back has to stay small."""

REMOVED = "[link removed]"

# ASCII: elsewhere "ſ" is an "s" whose case is ignored. Browsers take a backslash for a slash, and one or many for two. Quotes and
# brackets end a path, and not what comes before it: there they may be part of a user's name, behind which another host stands.
LINK = re.compile(
    r"((?:\(|\]:)\s{0,8}<?)?"  # in front of Markdown's targets, and of its definitions
    r"((?(1)[/\\]{2,8}|https?(?::|\\:|&(?:#0{0,5}58|#x0{0,5}3a|colon);)[/\\]{0,8}))"
    r"([^\s<>/?#]{0,%d})([/?#][^\s<>\"'`)\]}\\]{0,%d})?" % (AUTHORITY_CHARACTERS_MAX, PATH_CHARACTERS_MAX),
    re.IGNORECASE | re.ASCII,
)
BEGINNING = re.compile(
    r"(h(t(t(ps?(\\|&[#a-z0-9]{0,9})?)?)?)?|(\(|\]:)\s{0,8}<?[/\\]?|\])\Z", re.IGNORECASE | re.ASCII
)
AUTHORITY = re.compile(r"([a-z0-9.-]+)(:[0-9]*)?", re.IGNORECASE | re.ASCII)


class Guard:
    """Lets links lead only to `hosts` and their subdomains."""

    def __init__(self, hosts: list[str]):
        self.hosts = [host.lower() for host in hosts]

    def judge(self, authority: str) -> tuple[bool, int]:
        """Whether links may lead there, and how much of it is the link's in any case."""
        found = AUTHORITY.match(authority)
        rest = authority[found.end() :] if found else authority
        # Without these, what stands behind a quote or a bracket makes no name that anybody could own.
        if found is None or not rest.isascii() or any(character in rest for character in ".@\\%&"):
            return False, len(authority)
        host = found[1].lower().rstrip(".")
        is_allowed = any(host == allowed or host.endswith("." + allowed) for allowed in self.hosts)
        return is_allowed and len(authority) < AUTHORITY_CHARACTERS_MAX, found.end()

    def check(self, window: str, last: bool) -> tuple[int, str]:
        """How many characters of the window are done with, and what is sent in their place. Only a link whose end is
        not here yet, or what may become one, is left."""
        text, done = [], 0
        for found in LINK.finditer(window):
            start, authority, path = found[2], found[3], found[4] or ""
            is_cut = len(authority) == AUTHORITY_CHARACTERS_MAX or len(path) > PATH_CHARACTERS_MAX
            if found.end() == len(window) and not is_cut and not last:
                # With what is in front of slashes, without which they are none of a link.
                return found.start(), "".join(text) + window[done : found.start()]
            if not authority and not path and (found[1] or start[-2:].strip("/\\")):
                continue
            if not path:
                authority = authority.rstrip(".,;:!?")
            is_allowed, length = self.judge(authority)
            begin = found.start(2)
            end = begin + len(start) + (len(authority + path.rstrip(".,;:!?")) if path else length)
            text += window[done:begin], window[begin:end] if is_allowed else REMOVED
            done = end
        beginning = None if last else BEGINNING.search(window, done)
        end = beginning.start() if beginning else len(window)
        return end, "".join(text) + window[done:end]
