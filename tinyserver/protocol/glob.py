"""Glob-style matching: ``*`` stands for any run of characters, ``?`` for exactly one; everything else is literal.

Server ACLs, push rules and filters use it. Case-insensitive comparison lowers both sides with :meth:`str.lower`,
one choice for all of tinyserver.

Patterns come from strangers, so a match must never take more than O(len(pattern) * len(text)) steps. A pattern with
``*`` only is matched by looking for its pieces from left to right: after the leftmost place of a piece the rest has
the most room, so there is never a reason to go back. Where ``?`` needs a regular expression, each piece is an atomic
group for the same reason.

spec: appendices#glob-style-matching
"""

import re
from collections.abc import Callable
from typing import Final

Matcher = Callable[[str], bool]

_WORD: Final = "[A-Za-z0-9_]"
_STARTS_AT_BOUNDARY: Final = f"(?<!{_WORD})"
_ENDS_AT_BOUNDARY: Final = f"(?!{_WORD})"
_WORD_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


def has_wildcards(pattern: str) -> bool:
    """Whether the glob ``pattern`` contains ``*`` or ``?``, that is, can match more than one text."""
    return "*" in pattern or "?" in pattern


def matches(pattern: str, text: str) -> bool:
    """Whether the glob ``pattern`` matches the whole of ``text``, ignoring case."""
    return compile_glob(pattern)(text.lower())


def glob_to_regex(pattern: str) -> str:
    """Return a regular expression (for use with ``re.DOTALL``) that matches what the glob matches, whole texts only."""
    first, *rest = [_piece_to_regex(piece) for piece in _pieces(pattern)]
    if not rest:
        return rf"\A{first}\Z"
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    return rf"\A{first}{middle}.*{rest[-1]}\Z"


def compile_glob(pattern: str, *, ignore_case: bool = True, question_mark: bool = True) -> Matcher:
    """Return a function that tells whether a text matches the glob ``pattern`` as a whole.

    With ``ignore_case`` the function wants its text **already lowered**: callers test one text against many patterns
    and lower it once. Without ``question_mark``, ``?`` is an ordinary character (the wildcards of filters).
    """
    if ignore_case:
        pattern = pattern.lower()
    if question_mark and "?" in pattern:
        match = re.compile(glob_to_regex(pattern), re.DOTALL).match
        return lambda text: match(text) is not None
    if "*" not in pattern:
        return pattern.__eq__
    return _star_matcher(pattern)


def compile_word_glob(pattern: str) -> Matcher:
    """Return a function that tells whether a **lowered** text contains a match of ``pattern`` between word boundaries.

    A boundary is the start or the end of the text, or a character outside ``[A-Za-z0-9_]``: this is how push rules
    look at ``content.body``. Case is ignored.

    spec: client-server-api#conditions-1
    """
    pattern = pattern.lower()
    if not has_wildcards(pattern):
        return lambda text: contains_word(text, pattern)
    first, *rest = [_piece_to_regex(piece) for piece in _pieces(pattern)]
    if not rest:
        regex = f"{_STARTS_AT_BOUNDARY}{first}{_ENDS_AT_BOUNDARY}"
    else:
        # If the pieces after the first place of the first piece do not fit, they fit nowhere further right either.
        middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
        regex = rf"\A(?>.*?{_STARTS_AT_BOUNDARY}{first}){middle}.*?{rest[-1]}{_ENDS_AT_BOUNDARY}"
    search = re.compile(regex, re.DOTALL).search
    return lambda text: search(text) is not None


def contains_word(text: str, word: str) -> bool:
    """Whether ``word`` occurs in ``text`` literally, with a word boundary before and after it."""
    length = len(word)
    at = text.find(word)
    while at >= 0:
        end = at + length
        before_is_boundary = at == 0 or text[at - 1] not in _WORD_CHARACTERS
        if before_is_boundary and (end == len(text) or text[end] not in _WORD_CHARACTERS):
            return True
        at = text.find(word, at + 1)
    return False


def _pieces(pattern: str) -> list[str]:
    """Split at runs of ``*``: "a**b*" gives ["a", "b", ""]."""
    return re.sub(r"\*+", "*", pattern).split("*")


def _piece_to_regex(piece: str) -> str:
    return ".".join(re.escape(part) for part in piece.split("?"))


def _star_matcher(pattern: str) -> Matcher:
    first, *middle, last = _pieces(pattern)
    shortest = len(first) + len(last)

    def match(text: str) -> bool:
        end = len(text) - len(last)
        if len(text) < shortest or not text.startswith(first) or not text.endswith(last):
            return False
        position = len(first)
        for piece in middle:
            position = text.find(piece, position, end)
            if position < 0:
                return False
            position += len(piece)
        return True

    return match
