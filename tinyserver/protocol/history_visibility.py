"""Who may see which event of a room's history.

What counts is the state of the room *at the event*: the history visibility that was in force and the membership that
the reader had then. Only ``shared`` also asks whether the reader joined at any time after it.

spec: client-server-api#room-history-visibility
"""

from typing import Any, Final

from tinyserver.protocol.events import Event

WORLD_READABLE: Final = "world_readable"
SHARED: Final = "shared"
INVITED: Final = "invited"
JOINED: Final = "joined"

_KNOWN: Final = frozenset((WORLD_READABLE, SHARED, INVITED, JOINED))
_MEMBERSHIPS: Final = frozenset(("join", "invite", "knock", "leave", "ban"))


def visibility_in(content: Any) -> str:
    """The history visibility that the content of an ``m.room.history_visibility`` event sets.

    ``content`` may be None (the room has no such event) or malformed: what is not understood means ``shared``.
    """
    value = content.get("history_visibility") if isinstance(content, dict) else None
    return value if isinstance(value, str) and value in _KNOWN else SHARED


def membership_in(content: Any) -> str:
    """The membership that the content of an ``m.room.member`` event sets; ``leave`` for None or an unknown value."""
    value = content.get("membership") if isinstance(content, dict) else None
    return value if isinstance(value, str) and value in _MEMBERSHIPS else "leave"


def is_visible(visibility: str, membership: str, *, joined_later: bool) -> bool:
    """The five rules, for one history visibility and one membership at an event.

    ``joined_later``: whether the reader joined the room at any point after the event was sent.
    """
    if visibility == WORLD_READABLE or membership == "join":
        return True
    if visibility == INVITED:
        return membership == "invite"
    if visibility == JOINED:
        return False
    return joined_later


def is_event_visible(event: Event, user_id: str, *, visibility: str, membership: str, joined_later: bool) -> bool:
    """Whether ``user_id`` may see ``event``.

    ``visibility`` and ``membership`` are the room's history visibility and the user's membership in the state *before*
    the event (:func:`visibility_in` and :func:`membership_in` of its events). An event that itself changes one of the
    two is visible if the value before *or* after it allows that.
    """
    if is_visible(visibility, membership, joined_later=joined_later):
        return True
    if event.type == "m.room.history_visibility" and event.state_key == "":
        return is_visible(visibility_in(event.content), membership, joined_later=joined_later)
    if event.type == "m.room.member" and event.state_key == user_id:
        return is_visible(visibility, membership_in(event.content), joined_later=joined_later)
    return False
