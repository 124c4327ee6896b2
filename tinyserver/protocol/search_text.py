"""What of an event can be searched for, cut into words.

The words are made here, for the index and for what somebody looks for alike: without case and accents, and runs of
characters of languages that put no spaces between words as overlapping pairs.

spec: client-server-api#server-side-search
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from tinyserver.protocol.relations import relation_of

KEYS: Mapping[str, str] = {
    "m.room.message": "content.body",
    "m.room.name": "content.name",
    "m.room.topic": "content.topic",
}
"""The key of an event of each searchable type that is searched."""
MAX_WORD = 40
"""Characters of a word that count."""
MAX_WORDS = 5_000
"""Words of an event that are looked at."""
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(rf"([{_UNSPACED}]+)")
_USUAL_LENGTH = 12.0
_SATURATION = 1.2
_LENGTH_WEIGHT = 0.75


def searchable_text(event_type: str, content: Mapping[str, Any]) -> str | None:
    """The text of an event that can be searched for; of an edit the new text. None: there is none."""
    key = KEYS.get(event_type)
    if key is None:
        return None
    new_content = content.get("m.new_content")
    source = new_content if relation_of(content).is_edit and isinstance(new_content, dict) else content
    text = source.get(key.removeprefix("content."))
    return text if isinstance(text, str) and text else None


def words(text: str) -> list[str]:
    """The words of a text in their order, some perhaps more than once."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(char for char in decomposed if not unicodedata.category(char).startswith("M"))
    found: list[str] = []
    for word in _WORD.findall(text.casefold()):
        if word.isascii():
            found.append(word[:MAX_WORD])
        else:
            found += _pieces(word)
        if len(found) >= MAX_WORDS:
            break
    return found[:MAX_WORDS]


def _pieces(word: str) -> list[str]:
    pieces: list[str] = []
    for part in _RUN.split(word):
        if not part:
            continue
        if _RUN.match(part):
            pieces += [part[start : start + 2] for start in range(max(len(part) - 1, 1))]
        else:
            pieces.append(part[:MAX_WORD])
    return pieces


def score(wanted: Sequence[str], found: Sequence[str]) -> float:
    """How well the words of a text fit those that somebody looks for: from 0 to their number (BM25 without regard to
    how rare the words are, since all of them must be there)."""
    length = 1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * len(found) / _USUAL_LENGTH
    total = 0.0
    for word in wanted:
        count = found.count(word)
        total += count / (count + _SATURATION * length)
    return total
