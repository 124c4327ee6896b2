"""Answers to commands as people read them: as plain text, and as the HTML of a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from tinyserver.administration.commands import Reply, Unit


def moment(ms: int) -> str:
    """A time (ms since 1970), in the server's time zone."""
    try:
        return f"{datetime.fromtimestamp(ms / 1000):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"  # a time of another server, which may be anything


def size(count: int) -> str:
    """A number of bytes."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def listed(facts: Mapping[str, Any]) -> str:
    """A line for each fact; those that are None or empty are left out."""
    return "\n".join(f"{name}: {_on_one_line(value)}" for name, value in facts.items() if value not in (None, ""))


def plain(reply: Reply) -> str:
    """The whole answer as text, the columns of a table below each other."""
    parts = [reply.text] if reply.text else []
    if reply.rows:
        lines = [[column.name for column in reply.columns], *_cells(reply)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(reply.columns))]
        parts += [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
    if reply.more:
        parts.append(f"More: {reply.more}")
    return "\n".join(parts)


def html(reply: Reply) -> str:
    """The whole answer as the `formatted_body` of a message."""
    parts = [_paragraph(reply.text)] if reply.text else []
    if reply.rows:
        head = _row("th", [column.name for column in reply.columns])
        body = "".join(_row("td", line) for line in _cells(reply))
        parts.append(f"<table><thead>{head}</thead><tbody>{body}</tbody></table>")
    if reply.more:
        parts.append(f"<p>More: <code>{escape(reply.more)}</code></p>")
    return "".join(parts)


def _cells(reply: Reply) -> list[list[str]]:
    units = [column.unit for column in reply.columns]
    return [[_cell(value, unit) for value, unit in zip(row, units, strict=True)] for row in reply.rows]


def _cell(value: Any, unit: Unit) -> str:
    if value is None:
        return "-"
    if unit is Unit.TIME:
        return moment(value)
    if unit is Unit.BYTES:
        return size(value)
    return _on_one_line(value)


def _on_one_line(value: Any) -> str:
    """What others have written must not look like a line of its own, nor steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in str(value))


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _paragraph(text: str) -> str:
    return "<p>" + escape(text).replace("\n", "<br>") + "</p>"
