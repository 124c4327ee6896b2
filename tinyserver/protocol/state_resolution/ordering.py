"""The two orders of state resolution: reverse topological power ordering and mainline ordering.

spec: rooms/v12#state-resolution (definitions)
"""

from collections.abc import Callable, Collection, Mapping
from heapq import heapify, heappop, heappush
from sys import maxsize
from typing import Final

from tinyserver.protocol.auth_state import POWER_LEVELS
from tinyserver.protocol.state_resolution.model import AuthGraph, EventHeader

NOT_ON_MAINLINE: Final = maxsize


def reverse_topological_power_ordering(
    nids: Collection[int], graph: AuthGraph, sender_level: Callable[[int], int], headers: Mapping[int, EventHeader]
) -> list[int]:
    """Sort events so that each comes after its auth events; where there is a choice, the greater power goes first.

    Kahn's algorithm, with the candidates in a heap.

    :param sender_level: the power level of an event's sender according to the event's own auth events.
    """
    chosen = set(nids)
    waits_for: dict[int, int] = {}
    cited_by: dict[int, list[int]] = {}
    candidates = []
    for nid in chosen:
        cited = {auth for auth in graph.edges(nid) if auth in chosen}
        waits_for[nid] = len(cited)
        for auth in cited:
            cited_by.setdefault(auth, []).append(nid)
        if not cited:
            candidates.append((-sender_level(nid), headers[nid], nid))
    heapify(candidates)
    ordered = []
    while candidates:
        nid = heappop(candidates)[2]
        ordered.append(nid)
        for citer in cited_by.get(nid, ()):
            waits_for[citer] -= 1
            if not waits_for[citer]:
                heappush(candidates, (-sender_level(citer), headers[citer], citer))
    return ordered


class Mainline:
    """The mainline of a power levels event, followed only as far back as somebody asks.

    Along auth edges numbers decrease; so an event can be on the mainline only before the mainline has gone below it.
    """

    __slots__ = ("_graph", "_known", "_next", "_positions")

    def __init__(self, power_levels: int | None, graph: AuthGraph) -> None:
        self._graph = graph
        self._next = power_levels
        self._positions: dict[int, int] = {}
        self._known: dict[int, int] = {}

    def position(self, nid: int) -> int:
        """The *mainline position* of an event, :data:`NOT_ON_MAINLINE` for infinity."""
        passed = []
        power_levels = self._graph.cited(nid, POWER_LEVELS)
        position = NOT_ON_MAINLINE
        while power_levels is not None:
            if power_levels in self._known:
                position = self._known[power_levels]
                break
            passed.append(power_levels)
            self._follow_down_to(power_levels)
            if power_levels in self._positions:
                position = self._positions[power_levels]
                break
            power_levels = self._graph.cited(power_levels, POWER_LEVELS)
        for each in passed:
            self._known[each] = position
        return position

    def _follow_down_to(self, nid: int) -> None:
        while self._next is not None and self._next >= nid:
            self._positions[self._next] = len(self._positions)
            self._next = self._graph.cited(self._next, POWER_LEVELS)


def mainline_ordering(
    nids: Collection[int], power_levels: int | None, graph: AuthGraph, headers: Mapping[int, EventHeader]
) -> list[int]:
    """Sort events by the mainline of a power levels event: those that rest on an older part of it go first.

    :param power_levels: the event that the mainline starts from, if there is one.
    """
    mainline = Mainline(power_levels, graph)
    return sorted(nids, key=lambda nid: (-mainline.position(nid), headers[nid]))
