"""State resolution: one state of the room out of several that have come apart.

Written for conflicts, not for whole states: the caller compares the states and hands over the keys on which they
differ, with a way to look up a key of the rest. Events are named by integers (``nid``) in the order in which the server
stored them, and an event is always stored after its auth events: along every auth edge ``nid`` decreases. Events are
parsed only where the algorithm needs their content.

- ``model``: what the resolver asks of the outside;
- ``v1``: the algorithm of room version 1;
- ``v2``: that of versions 2 to 11 (algorithm 2) and 12 (algorithm 2.1), with ``auth_difference``, ``ordering`` and
  ``auth_checks`` for its steps.

spec: rooms/v1#state-resolution, rooms/v2#state-resolution, rooms/v12#state-resolution
"""

from tinyserver.protocol.auth_state import StateMapKey
from tinyserver.protocol.room_versions import RoomVersion, StateResolution
from tinyserver.protocol.state_resolution.model import EventHeader, EventSource, StateSets
from tinyserver.protocol.state_resolution.v1 import resolve_v1
from tinyserver.protocol.state_resolution.v2 import resolve_v2

__all__ = ["EventHeader", "EventSource", "StateSets", "resolve"]


def resolve(version: RoomVersion, state_sets: StateSets, source: EventSource) -> dict[StateMapKey, int | None]:
    """Resolve several states of one room into one.

    :param version: the room's version; it names the algorithm.
    :param state_sets: where the states differ, and what they have in common.
    :param source: the events of the room and their auth edges.
    :return: for every conflicted key the event that holds it in the resolved state, ``None`` if none does. In rare
        cases there are further keys: an event that no state holds (any more) comes back through the auth difference.
        Keys on which all states agree are never among them.
    """
    if version.state_resolution is StateResolution.V1:
        return resolve_v1(state_sets, source)
    return resolve_v2(version, state_sets, source)
