"""Figures of one run and their rendering as a Markdown table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured number; `goal` is the bound that tinyserver sets itself (None: only to be known)."""

    value: float
    unit: str
    goal: float | None = None
    more_is_better: bool = False


@dataclass
class Results:
    """Figures by label, per server; labels keep the order in which they first came. `versions`: by server, in order."""

    versions: dict[str, str] = field(default_factory=dict)
    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, server: str, label: str, figure: Figure) -> None:
        self.figures.setdefault(label, {})[server] = figure

    def markdown(self) -> str:
        """One row per label: the goal, each server's figure, and how many times better the first is than the second."""
        compared = len(self.versions) == 2
        names = [f"{server} {version}" for server, version in self.versions.items()]
        head = ["what", "goal", *names, *(["ratio"] if compared else [])]
        rows = [head, ["---", *("---:" for _ in head[1:])]]
        for label, by_server in self.figures.items():
            unit = next(iter(by_server.values()))
            goal = "" if unit.goal is None else number(unit.goal)
            cells = [number(by_server[name].value) if name in by_server else "-" for name in self.versions]
            rows.append([f"{label}, {unit.unit}", goal, *cells, *([self._ratio(by_server)] if compared else [])])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def _ratio(self, by_server: dict[str, Figure]) -> str:
        if any(name not in by_server for name in self.versions):
            return ""
        ours, other = (by_server[name] for name in self.versions)
        above, below = (ours.value, other.value) if ours.more_is_better else (other.value, ours.value)
        return f"{number(above / below)} x" if below > 0 else ""

    def json(self) -> dict[str, Any]:
        return {
            "versions": self.versions,
            "figures": [
                {
                    "label": label,
                    "server": server,
                    "value": figure.value,
                    "unit": figure.unit,
                    "goal": figure.goal,
                    "more_is_better": figure.more_is_better,
                }
                for label, by_server in self.figures.items()
                for server, figure in by_server.items()
            ],
            "failures": self.failures,
        }


def number(value: float) -> str:
    """Three significant digits, thousands separated, as a person reads it."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, digits):,.{digits}f}" if digits else f"{round(value):,}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
