"""The configuration in words: the commented file that ``tinyserver init`` writes, and the reference in ``docs/``.

Both are made from the dataclasses of :mod:`tinyserver.config.sections`, so no key can be missing in them.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tinyserver.config.sections import Bucket, Config, Listener
from tinyserver.config.values import Portion, key_of

_WIDTH = 100


def render_default_config(
    server_name: str,
    data_dir: Path,
    *,
    listen: str = "127.0.0.1:8008",
    public_url: str = "",
    shared_secret: str = "",
) -> str:
    """The text of a configuration file with every key in it; keys that keep their default are commented out."""
    given = {
        "server_name": server_name,
        "data_dir": str(data_dir),
        "public_url": public_url or None,
        "listen.address": listen,
        "listen.serves": list(Listener().serves),
        "registration.shared_secret": shared_secret or None,
    }
    lines = [
        "# Configuration of tinyserver. Every key is here; a line that starts with # and a key shows its default.",
        "# Sizes are written like 50 MiB, durations like 90s, 1h or 7d. After a change, restart the server.",
        "",
    ]
    for each in _keys(Config):
        lines += [*each.comment(), each.line(given.get(each.key))]
    for section, kind, doc, repeated in _sections():
        lines += ["", *_comment(doc), f"[[{section}]]" if repeated else f"[{section}]"]
        for each in _keys(kind):
            lines += [*each.comment(), each.line(given.get(f"{section}.{each.key}"))]
    return "\n".join(lines) + "\n"


def render_reference() -> str:
    """``docs/configuration.md``: every key with its meaning, its kind and its default."""
    lines = [
        "# Configuration",
        "",
        "tinyserver reads one TOML file, which `tinyserver init` writes with every key and its explanation in it.",
        "This page is made from the same source by `scripts/docs`; a test compares them.",
        "",
        "Sizes are written like `50 MiB` (B, KiB, MiB, GiB), durations like `90s` or `1h` (ms, s, m, h, d, w).",
        "An unknown key is an error that names the nearest known one.",
        "",
        "## At the top of the file",
        "",
        *_table(Config),
    ]
    for section, kind, doc, repeated in _sections():
        lines += ["", f"## `[[{section}]]`" if repeated else f"## `[{section}]`", "", doc, "", *_table(kind)]
    return "\n".join(lines) + "\n"


class _Key:
    """One key of a section as text."""

    def __init__(self, key: str, doc: str, annotation: Any, default: Any) -> None:
        self.key = key
        self.doc = doc
        self._annotation = annotation
        self._default = default

    def comment(self) -> list[str]:
        return _comment(self.doc)

    def line(self, given: Any) -> str:
        """``key = value`` for a given value, ``#key = default`` otherwise."""
        if given is not None:
            return f"{self.key} = {json.dumps(given)}"
        return f"#{self.key} = {self.default}"

    @property
    def default(self) -> str:
        return '""' if self._default is MISSING else _toml(self._annotation, self._default)

    @property
    def required(self) -> bool:
        return self._default is MISSING

    @property
    def kind(self) -> str:
        return _kind(self._annotation)


def _keys(section: Any) -> Iterator[_Key]:
    """The keys of a section that are no sections themselves."""
    types = get_type_hints(section, include_extras=True)
    for each in fields(section):
        if not _is_section(types[each.name]):
            yield _Key(key_of(each), each.metadata["doc"], types[each.name], each.default)


def _sections() -> Iterator[tuple[str, Any, str, bool]]:
    """Name, dataclass, documentation of each section, and whether it can be repeated."""
    types = get_type_hints(Config, include_extras=True)
    for each in fields(Config):
        annotation = types[each.name]
        if _is_section(annotation):
            repeated = get_origin(annotation) is tuple
            kind = get_args(annotation)[0] if repeated else annotation
            yield each.name, kind, kind.__doc__, repeated


def _is_section(annotation: Any) -> bool:
    element = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
    return is_dataclass(element) and element is not Bucket


def _toml(annotation: Any, value: Any) -> str:
    """A default as TOML, quantities in their largest whole unit."""
    if get_origin(annotation) is Annotated:
        units: Mapping[str, int] = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}
        separator = " "
        if get_args(annotation)[1] == "duration":
            units, separator = {"d": 86400, "h": 3600, "m": 60, "s": 1}, ""
        if isinstance(value, Portion):
            value = value.size or 0
        unit = next(unit for unit, size in units.items() if value % size == 0)
        return f'"{round(value / units[unit])}{separator}{unit}"'
    if isinstance(value, Bucket):
        return f"{{ per_second = {value.per_second:g}, burst = {value.burst} }}"
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(str(value) if isinstance(value, Path) else value)


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return str(get_args(annotation)[1])
    if get_origin(annotation) is tuple:
        return f"list of {_kind(get_args(annotation)[0])}"
    if get_origin(annotation) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(annotation))
    return {str: "text", Path: "path", int: "whole number", bool: "true or false", Bucket: "bucket"}[annotation]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2)]


def _table(section: Any) -> list[str]:
    rows = ["| key | kind | default | meaning |", "| --- | --- | --- | --- |"]
    for each in _keys(section):
        default = "required" if each.required else f"`{each.default}`"
        rows.append(f"| `{each.key}` | {each.kind} | {default} | {each.doc} |")
    return rows
