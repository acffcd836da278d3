"""How code that prints nothing passes remarks on to the user: it calls a function with each line."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]


def unheard(line: str) -> None:
    """Pass a remark on to nobody."""
