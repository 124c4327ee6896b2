"""Regular expressions that take time linear in the text, whoever wrote the expression and whoever chose the text.

Python's own engine tries alternatives one after the other, and some expressions make it try exponentially many. Here
all alternatives are followed at once. The notation is Python's, without what needs more than that: back-references
and looking around.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

MAX_LENGTH = 4096
"""Characters of an expression."""
MAX_STATES = 5000
"""How large an expression may become when its counted repetitions are written out."""

_Test = Callable[[str], bool]
_CATEGORIES: dict[str, _Test] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_NOT_DIGIT": lambda character: not character.isdecimal(),
    "CATEGORY_WORD": lambda character: character.isalnum() or character == "_",
    "CATEGORY_NOT_WORD": lambda character: not (character.isalnum() or character == "_"),
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda character: not character.isspace(),
}
_STARTS = ("AT_BEGINNING", "AT_BEGINNING_STRING")
_ENDS = ("AT_END", "AT_END_STRING")
_START, _END = 1, 2


class PatternError(ValueError):
    """The expression is malformed, too large, or needs what is not offered here."""


class LinearPattern:
    """A compiled expression.

    Raises:
        PatternError: it cannot be compiled.
    """

    __slots__ = ("_accept", "_begin", "_edges", "_free", "_tests", "text")

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise PatternError(f"it has more than {MAX_LENGTH} characters")
        self.text = text
        parser: Any = import_module("re._parser")
        try:
            parsed = parser.parse(text)
        except (re.error, RecursionError, OverflowError) as error:
            raise PatternError(str(error)) from error
        if parsed.state.flags & ~re.UNICODE:
            raise PatternError("flags such as (?i) are not supported")
        self._tests: list[_Test | None] = []
        self._edges: list[int] = []
        self._free: list[list[tuple[int, int]]] = []
        self._begin = self._state()
        try:
            self._accept = self._sequence(parsed, self._begin)
        except RecursionError as error:
            raise PatternError("it is nested too deeply") from error

    def matches(self, value: str) -> bool:
        """Whether the expression matches at the beginning of a text; it need not match all of it."""
        current = self._closure({self._begin}, at_start=True, at_end=not value)
        for index, character in enumerate(value):
            if self._accept in current:
                return True
            following = set()
            for state in current:
                test = self._tests[state]
                if test is not None and test(character):
                    following.add(self._edges[state])
            if not following:
                return False
            current = self._closure(following, at_start=False, at_end=index + 1 == len(value))
        return self._accept in current

    def _closure(self, states: Iterable[int], *, at_start: bool, at_end: bool) -> set[int]:
        here = (_START if at_start else 0) | (_END if at_end else 0)
        found = set(states)
        todo = list(found)
        while todo:
            for target, needed in self._free[todo.pop()]:
                if target not in found and needed & here == needed:
                    found.add(target)
                    todo.append(target)
        return found

    # -- building --------------------------------------------------------------------------------

    def _state(self) -> int:
        if len(self._tests) >= MAX_STATES:
            raise PatternError("it is too large with its repetitions written out")
        self._tests.append(None)
        self._edges.append(0)
        self._free.append([])
        return len(self._tests) - 1

    def _sequence(self, items: Any, state: int) -> int:
        for operation, argument in items:
            state = self._item(str(operation), argument, state)
        return state

    def _item(self, operation: str, argument: Any, state: int) -> int:
        """Add one item that begins at a state; the state behind it."""
        if operation == "SUBPATTERN":
            _, added, removed, inner = argument
            if added or removed:
                raise PatternError("flags such as (?i) are not supported")
            return self._sequence(inner, state)
        if operation == "BRANCH":
            end = self._state()
            for alternative in argument[1]:
                begin = self._state()
                self._free[state].append((begin, 0))
                self._free[self._sequence(alternative, begin)].append((end, 0))
            return end
        if operation in ("MAX_REPEAT", "MIN_REPEAT"):
            return self._repeat(argument[0], argument[1], argument[2], state)
        if operation == "AT":
            needed = _START if str(argument) in _STARTS else _END if str(argument) in _ENDS else 0
            if not needed:
                raise PatternError("of all anchors only ^ and $ are supported")
            end = self._state()
            self._free[state].append((end, needed))
            return end
        end = self._state()
        begin = self._state()
        self._free[state].append((begin, 0))
        self._tests[begin] = _test(operation, argument)
        self._edges[begin] = end
        return end

    def _repeat(self, least: int, most: Any, inner: Any, state: int) -> int:
        # Each repetition has a state of its own, also one of nothing: so all of them together are bounded.
        for _ in range(least):
            state = self._sequence(inner, self._after(state))
        if str(most) == "MAXREPEAT":
            begin, end = self._state(), self._state()
            self._free[state] += [(begin, 0), (end, 0)]
            self._free[self._sequence(inner, begin)] += [(begin, 0), (end, 0)]
            return end
        end = self._state()
        self._free[state].append((end, 0))
        for _ in range(most - least):
            state = self._sequence(inner, self._after(state))
            self._free[state].append((end, 0))
        return end

    def _after(self, state: int) -> int:
        following = self._state()
        self._free[state].append((following, 0))
        return following


def _test(operation: str, argument: Any) -> _Test:
    """What a single character must be."""
    if operation == "ANY":
        return lambda character: character != "\n"
    if operation == "LITERAL":
        return chr(argument).__eq__
    if operation == "NOT_LITERAL":
        return chr(argument).__ne__
    if operation == "RANGE":
        low, high = map(chr, argument)
        return lambda character: low <= character <= high
    if operation == "CATEGORY" and str(argument) in _CATEGORIES:
        return _CATEGORIES[str(argument)]
    if operation == "IN":
        negated = str(argument[0][0]) == "NEGATE"
        tests = [_test(str(kind), value) for kind, value in argument[negated:]]
        return lambda character: any(test(character) for test in tests) is not negated
    raise PatternError("back-references, looking around and possessive groups are not supported")
