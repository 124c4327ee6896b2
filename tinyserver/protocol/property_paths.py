r"""Dot-separated property paths such as ``content.m\.relates_to.rel_type``, used by push conditions and filters.

spec: appendices#dot-separated-property-paths
"""

from typing import Any

MISSING: Any = object()
"""What :func:`look_up` returns for a property that is not there (``None`` is JSON's ``null``)."""


def split_path(path: str) -> tuple[str, ...]:
    r"""Split a path at its unescaped dots; ``\.`` and ``\\`` become ``.`` and ``\``, other backslashes stay.

    >>> split_path(r"content.m\.relates_to")
    ('content', 'm.relates_to')
    """
    if "\\" not in path:
        return tuple(path.split("."))
    names: list[str] = []
    name: list[str] = []
    characters = iter(path)
    for character in characters:
        if character == ".":
            names.append("".join(name))
            name = []
        elif character == "\\":
            escaped = next(characters, "")
            name.append(escaped if escaped in (".", "\\") else character + escaped)
        else:
            name.append(character)
    names.append("".join(name))
    return tuple(names)


def look_up(value: Any, names: tuple[str, ...]) -> Any:
    """Follow ``names`` down through nested objects; :data:`MISSING` where one is absent or no object is met."""
    for name in names:
        if not isinstance(value, dict):
            return MISSING
        value = value.get(name, MISSING)
    return value
