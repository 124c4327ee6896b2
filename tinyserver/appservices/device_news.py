"""What a service is told of encryption (MSC3202): whose devices changed, and what is left of its own devices' keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tinyserver.appservices.interests import Interests
from tinyserver.appservices.services import Service
from tinyserver.encryption.device_keys import counts_of
from tinyserver.storage import (
    appservices,
    device_keys,
    device_lists,
    devices,
    events,
    memberships,
    names,
    one_time_keys,
)
from tinyserver.storage.devices import DeviceRow
from tinyserver.storage.memberships import Membership
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_LEFT = 500
"""Of how many members is said that they need not be followed any more when a service leaves a room. To go on following
somebody does no harm, and each of them is looked up."""
_LISTS = "org.matrix.msc3202.device_lists"
_COUNTS = ("org.matrix.msc3202.device_one_time_keys_count", "org.matrix.msc3202.device_one_time_key_counts")
_UNUSED = "org.matrix.msc3202.device_unused_fallback_key_types"


@dataclass(slots=True)
class _Lists:
    changed: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)


class DeviceNews:
    """Gathers it.

    Args:
        interests: who shares rooms with services.
    """

    def __init__(self, interests: Interests) -> None:
        self._interests = interests
        self._looked: dict[int, int] = {}
        """Up to which position there was nothing to tell, by service."""

    def lists_changed(self, tx: ReadTransaction, service: Service, until: int) -> bool:
        """Whether devices of somebody who is in a room with the service's users have changed, up to a position."""
        if not service.registration.receives_device_news:
            return False
        found = any(True for _ in self._changed(tx, service))
        if not found:
            self._looked[service.nid] = until
        return found

    def take_lists(self, tx: WriteTransaction, service: Service) -> set[int]:
        """The users (nids) of whom that holds; they count as told from now on."""
        if not service.registration.receives_device_news:
            return set()
        changed = set(self._changed(tx, service))
        appservices.set_lists_until(tx, service.nid, tx.next_position())
        return changed

    def _changed(self, tx: ReadTransaction, service: Service) -> Iterable[int]:
        told = appservices.lists_until(tx, service.nid)
        if told is None:
            return ()
        # Who comes into a common room later is told of for that.
        since = max(told, self._looked.get(service.nid, 0))
        changed = device_lists.changed_between(tx, since, 2**62)
        return (user for user in changed if self._interests.share_a_room(tx, service, user))

    def about(
        self,
        tx: ReadTransaction,
        service: Service,
        changed: Iterable[int],
        told: Sequence[StoredEvent],
        receivers: Sequence[DeviceRow],
    ) -> Mapping[str, Any]:
        """The fields of a transaction.

        Args:
            changed: users whose devices changed.
            told: the events of the transaction.
            receivers: the devices that get messages with it.
        """
        lists = _Lists(set(changed))
        for stored in told:
            self._follow_member(tx, service, stored, lists)
        lists.left -= lists.changed
        fields: dict[str, Any] = {
            _LISTS: {
                "changed": sorted(names.texts(tx, lists.changed).values()),
                "left": sorted(names.texts(tx, lists.left).values()),
            }
        }
        keys = _keys_left(tx, self._concerned(tx, service, told, receivers))
        if keys:
            of_users = keys.items()
            counts = {user: {device: left[0] for device, left in found.items()} for user, found in of_users}
            fields |= dict.fromkeys(_COUNTS, counts)
            fields[_UNUSED] = {user: {device: left[1] for device, left in found.items()} for user, found in of_users}
        return fields

    def _follow_member(self, tx: ReadTransaction, service: Service, stored: StoredEvent, lists: _Lists) -> None:
        """Note who has come into a common room by an event, and who has no common room any more."""
        event, user = stored.event, stored.state_key_nid
        if event.type != "m.room.member" or user is None or stored.place is None:
            return
        before = None if stored.replaces is None else events.get(tx, stored.replaces).event.membership
        joins = event.membership == "join" and before != "join"
        leaves = event.membership != "join" and before == "join"
        if not (joins or leaves):
            return
        concerned = {user}
        if service.owns_user(event.state_key or ""):
            # Where it had others of its users all the while, nothing is new.
            if _had_others(tx, service, stored, user):
                return
            concerned |= {member for member, _ in memberships.members(tx, stored.room, Membership.JOIN)}
        if joins:
            if service.nid in self._interests.present_in(tx, stored.room):
                lists.changed |= concerned
            return
        for each in islice(concerned, MAX_LEFT):
            if not self._interests.share_a_room(tx, service, each):
                lists.left.add(each)

    def _concerned(
        self, tx: ReadTransaction, service: Service, told: Sequence[StoredEvent], receivers: Sequence[DeviceRow]
    ) -> Mapping[int, tuple[int, str]]:
        """(user, device ID) of the service's devices, by number, that get messages or are in rooms with encrypted
        ones: they may have lost keys."""
        found = {row.nid: (row.user, row.device_id) for row in receivers}
        for room in {stored.room for stored in told if stored.event.type == "m.room.encrypted"}:
            if service.nid in self._interests.present_in(tx, room):
                for user, device, device_id in devices.in_room(tx, room):
                    if service.owns_user(names.text(tx, user)):
                        found[device] = (user, device_id)
        return found


def _had_others(tx: ReadTransaction, service: Service, stored: StoredEvent, user: int) -> bool:
    """Whether others of a service's users were in a room before an event, and still are."""
    assert stored.place is not None
    for other in memberships.local_members(tx, stored.room):
        if other == user or not service.owns_user(names.text(tx, other)):
            continue
        row = memberships.get(tx, stored.room, other)
        if row is not None and row.position < stored.place:
            return True
    return False


def _keys_left(
    tx: ReadTransaction, concerned: Mapping[int, tuple[int, str]]
) -> dict[str, dict[str, tuple[dict[str, int], tuple[str, ...]]]]:
    """What is left of the keys of devices, by user and device ID; devices without encryption are left out."""
    found: dict[str, dict[str, tuple[dict[str, int], tuple[str, ...]]]] = {}
    for device, (user, device_id) in concerned.items():
        if device_keys.get(tx, device) is not None:
            state = one_time_keys.state(tx, device)
            found.setdefault(names.text(tx, user), {})[device_id] = (counts_of(state), state.unused_fallback)
    return found
