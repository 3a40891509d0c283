"""Nothing in here knows of the host, so that it is tested in any Python."""

from collections.abc import Iterable


def characters(texts: Iterable[str]) -> int:
    """Characters of all texts together."""
    return sum(len(text) for text in texts)
