"""Which service is told of what: decided in the step in which it happens, so that it holds for exactly that moment.

spec: application-service-api#registration
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyserver.appservices.services import Service, Services
from tinyserver.protocol.identifiers import domain_of
from tinyserver.storage import appservices, memberships, names, rooms, server_stays
from tinyserver.storage.appservices import Kind
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.receipts import ReceiptKind
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.to_device import Delivery
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_CACHE_BYTES = 500_000
_ENTRY_BYTES = 400

Present = frozenset[int]
"""Services, by their numbers."""


class Interests:
    """Implements the followers of events, receipts and messages to devices: writes down what services are owed.

    Args:
        server_name: this server.
    """

    def __init__(self, services: Services, server_name: str) -> None:
        self._services = services
        self._server_name = server_name
        # A state is never changed, so what is said of one stays true, whatever becomes of the step that asked.
        self._present: BoundedCache[tuple[int, int, int], Present] = BoundedCache(_CACHE_BYTES, lambda _: _ENTRY_BYTES)

    # -- what happens ----------------------------------------------------------------------------

    def note_event(self, tx: WriteTransaction, stored: StoredEvent) -> None:
        """A new event of a timeline, or a membership elsewhere."""
        listening = self._services.listening
        if not listening:
            return
        event = stored.event
        target = event.state_key if event.type == "m.room.member" else None
        interested = self.in_room(tx, stored.room)
        position = stored.nid if stored.place is None else stored.place
        for service in listening:
            if service.nid in interested or (target is not None and service.owns_user(target)):
                appservices.owe(tx, service.nid, position, Kind.EVENT, stored.nid)

    def note_receipt(self, tx: WriteTransaction, room: int, user_id: str, kind: ReceiptKind, position: int) -> None:
        """A receipt has moved."""
        listening = [each for each in self._services.listening if each.registration.receives_ephemeral]
        if not listening:
            return
        interested = self.in_room(tx, room)
        for service in listening:
            if service.nid in interested and (kind is ReceiptKind.READ or service.owns_user(user_id)):
                appservices.owe(tx, service.nid, position, Kind.RECEIPTS, room)

    def note_messages(self, tx: WriteTransaction, deliveries: Sequence[Delivery]) -> None:
        """Messages are about to be queued for devices."""
        listening = [each for each in self._services.listening if receives_messages(each)]
        if not listening:
            return
        for delivery in {each.device: each for each in deliveries}.values():
            user_id = names.text(tx, delivery.user)
            for service in listening:
                if service.owns_user(user_id):
                    appservices.owe(tx, service.nid, tx.next_position(), Kind.MESSAGES, delivery.device)

    # -- who is concerned ------------------------------------------------------------------------

    def in_room(self, tx: ReadTransaction, room: int) -> Present:
        """The services that are told of everything in a room (nid): they have members there, or the room is in their
        namespaces by its ID or an alias."""
        found = self.present_in(tx, room)
        for service in self._services.listening:
            registration = service.registration
            if service.nid in found or not (registration.rooms or registration.aliases):
                continue
            if (registration.rooms and service.owns_room(rooms.room_id(tx, room))) or (
                registration.aliases and any(map(service.owns_alias, rooms.aliases(tx, room)))
            ):
                found |= {service.nid}
        return found

    def present_in(self, tx: ReadTransaction, room: int) -> Present:
        """The services of whose users one is in a room (nid) now."""
        key = (self._services.generation, room, rooms.current_state(tx, room))
        known = self._present.get(key)
        if known is None:
            known = self._look_at_members(tx, room)
            self._present.put(key, known)
        return known

    def share_a_room(self, tx: ReadTransaction, service: Service, user: int) -> bool:
        """Whether a user (nid) of any server is in a room with one of a service's users, or is one of them."""
        user_id = names.text(tx, user)
        if service.owns_user(user_id):
            return True
        server = domain_of(user_id)
        if server == self._server_name:
            shared = memberships.joined_rooms(tx, user)
        else:
            shared = server_stays.rooms_with(tx, server, user)
        return any(service.nid in self.present_in(tx, room) for room in shared)

    def _look_at_members(self, tx: ReadTransaction, room: int) -> Present:
        left = list(self._services.listening)
        found: set[int] = set()
        for user in memberships.local_members(tx, room):
            user_id = names.text(tx, user)
            for service in left:
                if service.owns_user(user_id):
                    found.add(service.nid)
            left = [service for service in left if service.nid not in found]
            if not left:
                break
        return frozenset(found)


def receives_messages(service: Service) -> bool:
    """Whether a service is told of messages to devices of its users (MSC4203)."""
    return service.registration.receives_ephemeral or service.registration.receives_device_news
