"""The tokens that clients hold: points in the order of events.

A sync token (`next_batch`) is `s<position>_<moment>.<tag>`: everything stored up to the position and, if the tag is
that of the running process, everything that is not stored (typing, presence) up to the moment. It ends in `-<place>`
for a device with more to-device messages than fitted into the answer: it has those up to that place. The `pos` of
sliding sync is one with `~<number>` at its end, which says what was sent on the connection before. A pagination token
(`prev_batch`, `start`, `end`) is `t<place>`: the point just after the event of a room with that place. Both name a
point of a room's order, so each is accepted where the other is.

spec: client-server-api#syncing, client-server-api#pagination
"""

from __future__ import annotations

import re

import msgspec

from tinyserver.protocol.errors import InvalidParam

_SYNC = re.compile(r"s(\d{1,18})(?:_(\d{1,18})\.([A-Za-z0-9]{1,16}))?(?:-(\d{1,18}))?(?:~\d{1,16})?", re.ASCII)
_PAGINATION = re.compile(r"t(-?\d{1,18})", re.ASCII)


class Point(msgspec.Struct, frozen=True, gc=False):
    """A point of the one order: after everything with this position (or place) or a lower one.

    `moment` and `tag` are those of a sync token, for what is not stored; a pagination token has none.
    """

    position: int
    moment: int = 0
    tag: str | None = None
    messages: int | None = None
    """The device has its to-device messages only up to this position, not up to `position`."""

    def __str__(self) -> str:
        """The token: a pagination token, or a sync token if there is a tag."""
        if self.tag is None:
            return f"t{self.position}"
        more = "" if self.messages is None else f"-{self.messages}"
        return f"s{self.position}_{self.moment}.{self.tag}{more}"


def pagination_token(place: int) -> str:
    """The token for the point just after the event with this place."""
    return f"t{place}"


def parse_token(token: str, parameter: str = "from") -> Point:
    """The point that a sync or pagination token names.

    Args:
        parameter: the name of the query parameter that it came in, for the error message.

    Raises:
        InvalidParam: it is no token of this server.
    """
    sync = _SYNC.fullmatch(token)
    if sync is not None:
        return Point(int(sync[1]), int(sync[2] or 0), sync[3], None if sync[4] is None else int(sync[4]))
    pagination = _PAGINATION.fullmatch(token)
    if pagination is not None:
        return Point(int(pagination[1]))
    raise InvalidParam(f"The value of '{parameter}' is not a token that this server gave out.")
