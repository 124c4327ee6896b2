"""How much memory JSON text will take once it is parsed: an empty object is three bytes of text and more than sixty of
memory, so a bound on the text alone bounds little."""

from __future__ import annotations

import re

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def has_more_values(raw: bytes | bytearray, limit: int) -> bool:
    """Whether a JSON text has more than so many values. Text that is no JSON gets any answer.

    Costs next to nothing for text that has few of the characters that stand between values.
    """
    return _separators(raw) > limit and _separators(_STRING.sub(b"", raw)) > limit


def _separators(raw: bytes | bytearray) -> int:
    """At least the number of values in the text, less one."""
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")
