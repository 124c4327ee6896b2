"""What a client asks of sliding sync, made ready for use.

spec: MSC4186
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tinyserver.sync.requests import Reader
from tinyserver.sync.sliding.required_state import RoomConfig

ALL_FIELDS = "*"
"""Stands for all fields of profiles; none has this name."""


@dataclass(frozen=True, slots=True)
class ListFilters:
    """Which rooms are in a list; what is None does not matter. In sets of room types None stands for no type."""

    is_dm: bool | None = None
    is_encrypted: bool | None = None
    is_invite: bool | None = None
    spaces: frozenset[str] | None = None
    room_types: frozenset[str | None] | None = None
    not_room_types: frozenset[str | None] | None = None
    tags: frozenset[str] | None = None
    not_tags: frozenset[str] | None = None
    room_name_like: str | None = None

    @property
    def asks_for_facts(self) -> bool:
        """Whether something of the rooms' state must be known."""
        return not (
            self.is_encrypted is None
            and self.spaces is None
            and self.room_types is None
            and self.not_room_types is None
            and self.room_name_like is None
        )

    @property
    def asks_for_tags(self) -> bool:
        """Whether the user's tags must be known."""
        return self.tags is not None or self.not_tags is not None


@dataclass(frozen=True, slots=True)
class ListSpec:
    """A list: `ranges` of its rooms (first and last index, both included; None: all) are wanted."""

    config: RoomConfig
    ranges: Sequence[tuple[int, int]] | None = None
    filters: ListFilters = field(default_factory=ListFilters)


@dataclass(frozen=True, slots=True)
class Scope:
    """For which rooms an extension is wanted: those of lists (by name) and those subscribed to (by ID); None: all."""

    lists: frozenset[str] | None = None
    rooms: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ToDeviceRequest:
    """Messages after a position are wanted, so many at most: those up to it have arrived."""

    since: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class ProfilesRequest:
    """These fields of profiles are wanted; None: all."""

    fields: frozenset[str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What is remembered of it."""
        return (ALL_FIELDS,) if self.fields is None else tuple(sorted(self.fields))


@dataclass(frozen=True, slots=True)
class StickyRequest:
    """Sticky events after a position are wanted, so many at most."""

    since: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Extensions:
    """What is wanted besides rooms; None or False: not that. `threads` is how many thread subscriptions at most."""

    to_device: ToDeviceRequest | None = None
    e2ee: bool = False
    account_data: Scope | None = None
    receipts: Scope | None = None
    typing: Scope | None = None
    threads: int | None = None
    profiles: ProfilesRequest | None = None
    sticky: StickyRequest | None = None


@dataclass(frozen=True, slots=True)
class SlidingRequest:
    """One call of sliding sync. `timeout` is in seconds; `stable` says that the answer is to have the accepted form."""

    reader: Reader
    conn_id: str = ""
    pos: str | None = None
    timeout: float = 0.0
    set_presence: str = "online"
    lists: Mapping[str, ListSpec] = field(default_factory=dict)
    subscriptions: Mapping[str, RoomConfig] = field(default_factory=dict)
    extensions: Extensions = field(default_factory=Extensions)
    stable: bool = False
