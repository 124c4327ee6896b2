"""What an event of another server stands on: its parents and auth events, and the state before it where that was told.

spec: server-server-api#checks-performed-on-receipt-of-a-pdu
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tinyserver.protocol.events import Event
from tinyserver.rooms import partial_state
from tinyserver.storage import events, state_trie
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


class MissingAncestors(Exception):
    """An event cannot be admitted before others have come: `event_ids` names them."""

    def __init__(self, event_ids: Sequence[str]) -> None:
        super().__init__(f"{len(event_ids)} ancestors are missing")
        self.event_ids = list(event_ids)


def ancestors_of(
    tx: ReadTransaction, room_nid: int, event: Event, *, is_told: bool
) -> tuple[Sequence[StoredEvent], Collection[StoredEvent]]:
    """The auth events of an event, and its parents.

    Args:
        is_told: the state before it was told by another server, so parents may be missing.

    Raises:
        MissingAncestors: some are not here.
    """
    wanted = event.auth_event_ids if is_told else [*event.auth_event_ids, *event.prev_event_ids]
    ancestors = events.find_many(tx, [*event.auth_event_ids, *event.prev_event_ids])
    if any(event_id not in ancestors for event_id in wanted):
        raise MissingAncestors([event_id for event_id in wanted if event_id not in ancestors])
    auth = list(events.get_many(tx, {ancestors[event_id] for event_id in event.auth_event_ids}).values())
    parent_nids = {ancestors[event_id] for event_id in event.prev_event_ids if event_id in ancestors}
    parents = events.get_many(tx, parent_nids).values()
    placeless = [parent.event_id for parent in parents if parent.state is None]
    if placeless and not is_told:  # known for their content alone
        raise MissingAncestors(placeless)
    elsewhere = [parent.event_id for parent in parents if parent.room != room_nid]
    if elsewhere:  # in this room there are no such events, and the state of another room is none of its business
        raise MissingAncestors(elsewhere)
    return auth, parents


def told_root(tx: WriteTransaction, room: RoomRow, state: Sequence[int] | None, *, assumed: bool) -> int | None:
    """The root of the state before an event where it does not follow from its parents, else None."""
    if state is not None:
        return told_state(tx, room.nid, state)
    return partial_state.assumed_root(tx, room) if assumed else None


def told_state(tx: WriteTransaction, room: int, nids: Sequence[int]) -> int:
    """The root of a state as another server told it; of two events for one key (which no honest server tells) one."""
    return state_trie.build(tx, dict(events.state_entries(tx, room, nids)).items())
