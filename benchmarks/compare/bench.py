"""What a scenario gets: a server that is configured but not started, the run's options, and where figures go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .http import Http
from .results import Figure, Results
from .server import Server


@dataclass(frozen=True)
class Options:
    """`seconds`: length of one timed phase; `members`: size of the big room."""

    seconds: float
    room_version: str
    members: int
    events: int


@dataclass(frozen=True)
class Bench:
    """One scenario's run against one server on an empty database."""

    server: Server
    options: Options
    results: Results

    @property
    def http(self) -> Http:
        return self.server.http

    def record(
        self, label: str, value: float, unit: str, *, goal: float | None = None, more_is_better: bool = False
    ) -> None:
        self.results.add(self.server.name, label, Figure(value, unit, goal, more_is_better))


@dataclass(frozen=True)
class Scenario:
    """A named measurement. `limit`: seconds at the default options; `default`: runs unless others are asked for."""

    name: str
    run: Callable[[Bench], Awaitable[None]]
    limit: float
    default: bool = True
    tinyserver_only: bool = False
