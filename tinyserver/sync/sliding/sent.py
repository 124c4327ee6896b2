"""What a client has been sent on one connection, so that each answer is what it lacks.

There is one order of everything, so for each room it takes one number: up to where the client has it. Most have been
sent up to the position in the client's own token (`LIVE`); only of a room that changed while the client was not looking
is it remembered where it stood. So nothing changes here with a mere message, and what changes is small.

A client may ask again with the token that it asked with before, when the answer was lost. So two generations are kept,
that of the token which certainly arrived, and that of the newest answer.
"""

from __future__ import annotations

import msgspec

from tinyserver.sync.sliding.required_state import NOTHING_WANTED, RoomConfig

LIVE = 0
"""Sent up to the position in the client's token."""
NEVER = -1
"""Not sent at all."""
MAX_PATTERNS_REMEMBERED = 30
"""Of a room that the client does not look at, it is remembered what it wanted there if that was not more than this."""


class SentRoom(msgspec.Struct, frozen=True, array_like=True):
    """Up to which position a client has a room and its receipts (`LIVE`, `NEVER`, or a position), whether it has its
    account data, and what it wanted of the room when it was last sent."""

    room: int = NEVER
    receipts: int = NEVER
    account_data: bool = False
    config: RoomConfig = NOTHING_WANTED


NOT_SENT = SentRoom()


def is_long(config: RoomConfig) -> bool:
    """Whether a wish is too long to be remembered of a room that the client does not look at."""
    return sum(len(part.include) + len(part.exclude) for part in config.state) > MAX_PATTERNS_REMEMBERED


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """What was sent on a connection with one answer and all before it. Never changed in place."""

    generation: int = 0
    rooms: dict[int, SentRoom] = {}
    account_data: bool = False
    """Whether the client has its global account data."""
    threads: bool = False
    """Whether it has been told of its thread subscriptions."""
    profiles: tuple[str, ...] | None = None
    """Of which fields of profiles it has been told; None: of no profiles."""
    has_long_wishes: bool = True
    """Whether what is wanted of a room may be too long to be remembered when the client does not look at it."""

    def same_as(self, other: Sent) -> bool:
        """Whether it is the same but for its number."""
        mine = (self.account_data, self.threads, self.profiles, self.rooms)
        return mine == (other.account_data, other.threads, other.profiles, other.rooms)


NOTHING_SENT = Sent()


class _Stored(msgspec.Struct, array_like=True):
    """How a connection is stored: configurations by their number, and rooms as (room, room, receipts, account data,
    number of the configuration)."""

    configs: list[RoomConfig]
    generations: list[tuple[int, bool, bool, tuple[str, ...] | None, list[tuple[int, int, int, bool, int]]]]


_DECODER = msgspec.msgpack.Decoder(_Stored)


def encode(generations: list[Sent]) -> bytes:
    """The compact form of what was sent."""
    numbers: dict[RoomConfig, int] = {}
    stored = [
        (
            sent.generation,
            sent.account_data,
            sent.threads,
            sent.profiles,
            [
                (room, each.room, each.receipts, each.account_data, numbers.setdefault(each.config, len(numbers)))
                for room, each in sent.rooms.items()
            ],
        )
        for sent in generations
    ]
    return msgspec.msgpack.encode(_Stored(list(numbers), stored))


def decode(stored: bytes) -> list[Sent]:
    """What `encode` made compact."""
    form = _DECODER.decode(stored)
    shared: dict[tuple[int, int, bool, int], SentRoom] = {}
    found = []
    for generation, account_data, threads, profiles, rows in form.generations:
        rooms = {}
        for room, until, receipts, data, config in rows:
            key = (until, receipts, data, config)
            if key not in shared:
                shared[key] = SentRoom(until, receipts, data, form.configs[config])
            rooms[room] = shared[key]
        found.append(Sent(generation, rooms, account_data, threads, profiles))
    return found
