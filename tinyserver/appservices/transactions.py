"""Puts what a service is owed into transactions.

A transaction is made in one step: what it tells leaves the queue, and its body is stored before it is sent for the
first time. So every try, also after a crash, says the same under the same ID, and a service that knows the IDs it had
takes everything exactly once.

spec: application-service-api#pushing-events
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyserver.appservices.device_news import DeviceNews
from tinyserver.appservices.interests import Interests
from tinyserver.appservices.services import Service
from tinyserver.clock import Clock
from tinyserver.encryption.device_news import shown_message
from tinyserver.rooms.rendering import EventRenderer, json_text
from tinyserver.storage import appservices, devices, events, names, receipts, rooms, to_device
from tinyserver.storage.appservices import Kind, Owed, StoredTransaction
from tinyserver.storage.devices import DeviceRow
from tinyserver.storage.receipts import ReceiptKind
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction
from tinyserver.sync.stripped import stripped_room
from tinyserver.sync.v3 import receipt_contents

MAX_EVENTS = 100
"""How many events, and how many messages to devices, a transaction has."""
MAX_BYTES = 1024 * 1024
"""When a transaction has so many bytes, nothing more is put into it."""
_EVER = 2**62


class TransactionMaker:
    """Makes transactions.

    Args:
        clock: for the age of events.
        interests: who shares rooms with services.
    """

    def __init__(self, clock: Clock, interests: Interests) -> None:
        self._clock = clock
        self._news = DeviceNews(interests)

    def is_owed(self, tx: ReadTransaction, service: Service, until: int) -> bool:
        """Whether there is anything that must not be lost to put into a new transaction.

        Args:
            until: a position up to which the transaction sees everything.
        """
        return bool(appservices.owed(tx, service.nid, 1)) or self._news.lists_changed(tx, service, until)

    def next(self, tx: WriteTransaction, service: Service, ephemeral: Sequence[bytes]) -> StoredTransaction | None:
        """A new transaction, stored; none is under way. None: there is nothing to tell.

        Args:
            ephemeral: EDUs that it also tells.
        """
        lists = self._news.take_lists(tx, service)
        content = _Content(tx, self._clock.now_ms(), service)
        while content.is_empty and (owed := appservices.owed(tx, service.nid, MAX_EVENTS)):
            self._fill(tx, service, content, owed)
        if content.is_empty and not lists:
            return None
        content.ephemeral += ephemeral
        if service.registration.receives_device_news:
            content.others |= self._news.about(tx, service, lists, content.events_told, content.receivers)
        # A database that was restored from a copy gives positions out again: the time tells the IDs apart.
        made = StoredTransaction(f"{tx.next_position()}-{self._clock.now_ms()}", content.body())
        appservices.begin_transaction(tx, service.nid, made)
        return made

    @staticmethod
    def _fill(tx: WriteTransaction, service: Service, content: _Content, owed: Sequence[Owed]) -> None:
        for row in owed:
            content.add(row)
            if content.is_full:
                break
        appservices.take(tx, service.nid, content.until)
        for device, position in content.left_over:
            appservices.owe(tx, service.nid, position, Kind.MESSAGES, device)


def ephemeral_body(service: Service, ephemeral: Sequence[bytes]) -> bytes:
    """The body of a transaction that tells nothing but EDUs."""
    return b"{%b}" % b",".join([b'"events":[]', *_ephemeral_fields(service, ephemeral)])


def _ephemeral_fields(service: Service, ephemeral: Sequence[bytes]) -> list[bytes]:
    told = b",".join(ephemeral)
    return [b"%b:[%b]" % (json_text(key), told) for key in service.registration.ephemeral_keys]


class _Content:
    """What a transaction tells."""

    def __init__(self, tx: WriteTransaction, now_ms: int, service: Service) -> None:
        self._tx = tx
        self._service = service
        self._now_ms = now_ms
        self._size = 0
        self.until = 0
        """The position of the last row that is in it."""
        self.events: list[bytes] = []
        self.events_told: list[StoredEvent] = []
        self.ephemeral: list[bytes] = []
        self.messages: list[bytes] = []
        self.receivers: list[DeviceRow] = []
        """The devices that get messages."""
        self.left_over: list[tuple[int, int]] = []
        """Devices with more messages than there was room for, and the position of the last one that is in it."""
        self.others: dict[str, Any] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.events or self.ephemeral or self.messages)

    @property
    def is_full(self) -> bool:
        return self._size >= MAX_BYTES or max(len(self.events), len(self.messages)) >= MAX_EVENTS

    def add(self, row: Owed) -> None:
        self.until = row.position
        if row.kind is Kind.EVENT:
            self._add_event(row.ref)
        elif row.kind is Kind.RECEIPTS:
            self._add_receipts(row.ref, row.position - 1)
        else:
            self._add_messages(row.ref, row.position)

    def body(self) -> bytes:
        fields = [b'"events":[%b]' % b",".join(self.events)]
        if self.ephemeral:
            fields += _ephemeral_fields(self._service, self.ephemeral)
        if self.messages:
            fields.append(b'"de.sorunome.msc2409.to_device":[%b]' % b",".join(self.messages))
        fields += [json_text(name) + b":" + json_text(value) for name, value in self.others.items()]
        return b"{%b}" % b",".join(fields)

    def _add_event(self, nid: int) -> None:
        stored = events.get_many(self._tx, [nid], keep=False).get(nid)
        if stored is None:
            return  # it has turned out not to be part of its room
        room_id = rooms.room_id(self._tx, stored.room)
        renderer = EventRenderer(self._tx, self._now_ms, None, room_id=room_id)
        if stored.event.membership == "invite" and self._service.owns_user(stored.event.state_key or ""):
            position = stored.nid if stored.place is None else stored.place
            shown = stripped_room(self._tx, stored.room, room_id, stored, position)
            text = renderer.event_with(stored, {"invite_room_state": list(shown.state)})
        else:
            text = renderer.timeline_event(stored, None, None)
        self.events.append(text)
        self.events_told.append(stored)
        self._size += len(text)

    def _add_receipts(self, room: int, after: int) -> None:
        moved = [
            receipt
            for receipt in receipts.moved(self._tx, room, after, _EVER)
            if receipt.kind is ReceiptKind.READ or self._service.owns_user(receipt.user_id)
        ]
        room_id = rooms.room_id(self._tx, room)
        for content in receipt_contents(moved):
            text = json_text({"type": "m.receipt", "room_id": room_id, "content": content})
            self.ephemeral.append(text)
            self._size += len(text)

    def _add_messages(self, device: int, after: int) -> None:
        row = devices.get(self._tx, device)
        if row is None:
            return  # it is gone, and its messages with it
        limit = MAX_EVENTS - len(self.messages)
        waiting = to_device.waiting(self._tx, device, after, _EVER, limit + 1)
        user_id = names.text(self._tx, row.user)
        for message in waiting[:limit]:
            to = b',"to_user_id":%b,"to_device_id":%b}' % (json_text(user_id), json_text(row.device_id))
            text = shown_message(message)[:-1] + to
            self.messages.append(text)
            self._size += len(text)
        if not waiting:
            return
        self.receivers.append(row)
        last = waiting[:limit][-1].position
        if len(waiting) > limit:
            self.left_over.append((device, last))
        if self._service.reserves_user(user_id):
            # Nobody but the service can act for the device. In other namespaces the device may sync by itself.
            to_device.remove(self._tx, device, last)
