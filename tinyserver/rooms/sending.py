"""Sending messages, state and redactions into rooms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from tinyserver.protocol import canonical_json
from tinyserver.protocol.auth_rules import AuthError
from tinyserver.protocol.errors import (
    BadJson,
    DuplicateAnnotation,
    Forbidden,
    InvalidParam,
    NotFound,
    TooLarge,
    Unknown,
)
from tinyserver.protocol.identifiers import domain_of
from tinyserver.protocol.power_level_rules import check_form
from tinyserver.protocol.relations import ANNOTATION, THREAD, may_root_thread, relation_of
from tinyserver.protocol.sticky import MAX_DURATION_MS
from tinyserver.rooms.access import check_user_id, known_room, room_of_member
from tinyserver.rooms.canonical_aliases import check_aliases
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.guests import remove_guests
from tinyserver.rooms.membership import RoomMembership
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.predecessors import carry_settings
from tinyserver.rooms.suspension import is_suspended
from tinyserver.rooms.visibility import ALWAYS, NEVER
from tinyserver.storage import events, relations, room_state, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_MAX_BYTES = 255
_MAX_TXN_ID = 255
MAX_RELATED_REDACTED = 100
"""How many events that relate to a redacted one are redacted with it: the newest."""
_WITH_RELATIONS = ("with_rel_types", "org.matrix.msc3912.with_relations")


class Sending:
    """Sends what local users say.

    Args:
        db: where rooms are stored.
        pipeline: makes events.
        membership: knows what member events have to pass.
        server_name: this server.
    """

    def __init__(self, db: Database, pipeline: EventPipeline, membership: RoomMembership, server_name: str) -> None:
        self._db = db
        self._pipeline = pipeline
        self._membership = membership
        self._server_name = server_name

    async def message(
        self,
        sender: str,
        room_id: str,
        event_type: str,
        content: dict[str, Any],
        *,
        is_admin: bool = False,
        device: int | None = None,
        txn_id: str | None = None,
        timestamp: int | None = None,
        sticky: int | None = None,
    ) -> str:
        """Send a message event; a redaction among them goes the way of `redact`.

        Args:
            is_admin: as for `redact`.
            device, txn_id: the same pair gives the same event, however often it is sent.
            timestamp: when it was sent (ms since 1970), for those who may say so.
            sticky: for how many milliseconds it is sticky (MSC4354); None: not at all.

        Returns:
            The event ID.

        Raises:
            Forbidden: the sender is not in the room or may not.
            DuplicateAnnotation: the sender has annotated the event with this key before.
            BadJson, TooLarge, InvalidParam: the event is malformed.

        spec: client-server-api#sending-events-to-a-room
        """
        if event_type == "m.room.redaction":
            redacts = content.get("redacts")
            if not isinstance(redacts, str):
                raise BadJson("A redaction needs to say in redacts which event it is about")
            return await self.redact(sender, room_id, redacts, content, is_admin=is_admin, device=device, txn_id=txn_id)
        check_txn_id(txn_id)
        check_names(event_type, None)
        check_sticky(sticky)
        draft = EventDraft(
            event_type,
            sender,
            content,
            device=device,
            txn_id=txn_id,
            origin_server_ts=timestamp,
            sticky=sticky,
        )

        def step(tx: WriteTransaction) -> str:
            known = self._sent_before(tx, room_id, draft)
            if known is not None:
                return known
            room = room_of_member(tx, room_id, sender)
            _check_relation(tx, room, draft)
            return self._pipeline.send(tx, room.nid, draft).event_id

        return await self._db.write(step)

    def _sent_before(self, tx: WriteTransaction, room_id: str, draft: EventDraft) -> str | None:
        """A request that is sent again gets the same answer, also when it would not be allowed any more."""
        room = rooms.find(tx, room_id)
        known = None if room is None else self._pipeline.sent_before(tx, room.nid, draft)
        return None if known is None else known.event_id

    async def state(
        self,
        sender: str,
        room_id: str,
        event_type: str,
        state_key: str,
        content: dict[str, Any],
        *,
        is_guest: bool = False,
        device: int | None = None,
        txn_id: str | None = None,
        timestamp: int | None = None,
        sticky: int | None = None,
    ) -> str:
        """Set a state event. Setting what is set already sends nothing.

        Args:
            device, txn_id: the same pair gives the same event, however often it is sent.

        Member events pass the checks that the membership endpoints make.

        Returns:
            The event ID.

        Raises:
            Forbidden: the sender is not in the room or may not.
            BadAlias: a canonical alias does not point to this room.
            BadJson, TooLarge, InvalidParam: the event is malformed.

        spec: client-server-api#sending-events-to-a-room
        """
        check_names(event_type, state_key)
        check_sticky(sticky)
        draft = EventDraft(
            event_type,
            sender,
            content,
            state_key=state_key,
            device=device,
            txn_id=txn_id,
            origin_server_ts=timestamp,
            sticky=sticky,
        )
        if event_type == "m.room.member" and content.get("membership") == "invite":
            check_user_id(state_key)
            if self._membership.is_elsewhere(state_key):
                return await self._invite_elsewhere(room_id, draft)
            await self._membership.look_for([state_key])

        def step(tx: WriteTransaction) -> str:
            known = self._sent_before(tx, room_id, draft)
            if known is not None:
                return known
            if event_type == "m.room.member":
                return self._member(tx, known_room(tx, room_id), draft, is_guest)
            room = room_of_member(tx, room_id, sender)
            current = room_state.event_at(tx, room.state, event_type, state_key)
            if sticky is None and current is not None and _says_the_same(current, draft):
                return current.event_id
            if event_type == "m.room.power_levels":
                _check_levels(room, content)
            if event_type == "m.room.canonical_alias":
                check_aliases(tx, room, {} if current is None else current.event.content, content, self._server_name)
            stored = self._pipeline.send(tx, room.nid, draft)
            if event_type == "m.room.guest_access":
                remove_guests(tx, self._pipeline, rooms.get(tx, room.nid))
            return stored.event_id

        return await self._membership.partial.write(room_id, step)

    async def _invite_elsewhere(self, room_id: str, draft: EventDraft) -> str:
        def checked(tx: ReadTransaction) -> tuple[RoomRow, EventDraft]:
            room = known_room(tx, room_id)
            return room, self._membership.checks.checked(tx, room, draft)

        await self._membership.partial.whole(room_id)
        return await self._membership.invite_elsewhere(*self._db.glance(checked))

    def _member(self, tx: WriteTransaction, room: RoomRow, draft: EventDraft, is_guest: bool) -> str:
        checked = self._membership.checks.checked(tx, room, draft, is_guest=is_guest)
        current = room_state.event_at(tx, room.state, "m.room.member", draft.state_key or "")
        if current is not None and _says_the_same(current, checked):
            return current.event_id
        was_in = current is not None and current.event.membership == "join"
        stored = self._pipeline.send(tx, room.nid, checked)
        if stored.event.membership == "join" and not was_in:
            carry_settings(tx, room, draft.sender)
        return stored.event_id

    async def redact(
        self,
        sender: str,
        room_id: str,
        event_id: str,
        content: dict[str, Any],
        *,
        is_admin: bool = False,
        device: int | None = None,
        txn_id: str | None = None,
    ) -> str:
        """Redact an event.

        Args:
            content: `reason` and whatever else the client adds; with `with_rel_types` (MSC3912, also under its unstable
                name) events that relate to the event in one of these ways are redacted, too, as far as the sender may.
            is_admin: the sender administers this server, hence may redact what its users sent.

        Returns:
            The ID of the redaction event.

        Raises:
            NotFound: there is no such event in the room.
            Forbidden: the sender may not redact it.

        spec: client-server-api#redactions
        """
        check_txn_id(txn_id)
        if not isinstance(content.get("reason", ""), str):
            raise BadJson("The reason must be a text")
        rel_types = _rel_types(content)
        draft = EventDraft(
            "m.room.redaction",
            sender,
            {key: value for key, value in content.items() if key not in ("redacts", *_WITH_RELATIONS)},
            redacts=event_id,
            device=device,
            txn_id=txn_id,
        )

        def step(tx: WriteTransaction) -> str:
            known = self._sent_before(tx, room_id, draft)
            if known is not None:
                return known
            room = room_of_member(tx, room_id, sender)
            target = self._redactable(tx, room, sender, event_id, is_admin=is_admin)
            stored = self._pipeline.send(tx, room.nid, draft)
            if target.event.type == "m.room.guest_access":
                remove_guests(tx, self._pipeline, rooms.get(tx, room.nid))
            if rel_types:
                self._redact_related(tx, room, event_id, rel_types, replace(draft, device=None, txn_id=None))
            return stored.event_id

        return await self._db.write(step)

    def _redactable(
        self, tx: ReadTransaction, room: RoomRow, sender: str, event_id: str, *, is_admin: bool
    ) -> StoredEvent:
        """An event that somebody may redact."""
        target = events.by_id(tx, event_id)
        if target is None or target.room != room.nid or target.place is None:
            raise NotFound(f"There is no event {event_id[:255]} in this room")
        if target.event.type == "m.room.create":
            raise Forbidden("The event that made the room cannot be redacted")
        own = target.event.sender == sender
        local = is_admin and domain_of(target.event.sender) == self._server_name
        if not own and not local:
            levels = room_state.power_levels(tx, room.state)
            if levels.user_level(sender) < levels.redact:
                raise Forbidden("You may only redact your own messages in this room")
        return target

    def _redact_related(
        self, tx: WriteTransaction, room: RoomRow, event_id: str, rel_types: Collection[str], draft: EventDraft
    ) -> None:
        """Redact the events that relate to an event, those that the sender may not redact aside."""
        levels = room_state.power_levels(tx, room.state)
        may_redact_others = levels.user_level(draft.sender) >= levels.redact and not is_suspended(tx, draft.sender)
        for entry in relations.before(tx, room.nid, event_id, ALWAYS, MAX_RELATED_REDACTED, after=NEVER):
            child = events.get(tx, entry.nid)
            wanted = "*" in rel_types or relation_of(child.event.content).rel_type in rel_types
            if wanted and (may_redact_others or child.event.sender == draft.sender):
                self._pipeline.send(tx, room.nid, replace(draft, redacts=child.event_id))


def _rel_types(content: Mapping[str, Any]) -> frozenset[str]:
    """The kinds of relations whose children are to be redacted, too.

    Raises:
        BadJson: it is no list of texts.
    """
    given = next((content[key] for key in _WITH_RELATIONS if key in content), None)
    if given is None:
        return frozenset()
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise BadJson("The types of relations must be a list of texts")
    return frozenset(given)


def check_txn_id(txn_id: str | None) -> None:
    """Refuse transaction IDs that are no opaque identifiers of sane length.

    Raises:
        InvalidParam: it is too long or empty.
    """
    if txn_id is not None and not 0 < len(txn_id.encode("utf-8", "surrogatepass")) <= _MAX_TXN_ID:
        raise InvalidParam(f"A transaction ID has 1 to {_MAX_TXN_ID} bytes")


def check_sticky(sticky: int | None) -> None:
    """Refuse durations for which no event can be sticky.

    Raises:
        InvalidParam: it is not from 0 to an hour.
    """
    if sticky is not None and not 0 <= sticky <= MAX_DURATION_MS:
        raise InvalidParam(f"An event is sticky for 0 to {MAX_DURATION_MS} milliseconds")


def check_names(event_type: str, state_key: str | None) -> None:
    """Refuse event types and state keys that no event can have.

    Raises:
        TooLarge: one of them is too long.
    """
    for text, what in ((event_type, "event type"), (state_key or "", "state key")):
        if len(text.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
            raise TooLarge(f"The {what} is longer than {_MAX_BYTES} bytes")


def _check_levels(room: RoomRow, content: dict[str, Any]) -> None:
    try:
        check_form(content, room.version)
    except AuthError as error:
        raise BadJson(error.message) from error


def _says_the_same(current: StoredEvent, draft: EventDraft) -> bool:
    """Whether a draft would only repeat what its sender has set already."""
    event = current.event
    if event.sender != draft.sender or event.content != draft.content:
        return False
    # Python finds True, 1 and 1.0 equal; JSON does not.
    try:
        return canonical_json.encode_lenient(event.content) == canonical_json.encode_lenient(draft.content)
    except canonical_json.CanonicalJsonError:
        return False


def _check_relation(tx: ReadTransaction, room: RoomRow, draft: EventDraft) -> None:
    """Nobody annotates an event twice with the same key, or starts a thread at an event that is itself a child.

    spec: client-server-api#avoiding-duplicate-annotations, client-server-api#validation-of-mthread-relationships
    """
    relation = relation_of(draft.content)
    if relation.parent_id is None:
        return
    if relation.rel_type == THREAD:
        root = events.by_id(tx, relation.parent_id)
        if root is not None and root.room == room.nid and not may_root_thread(root.event):
            raise Unknown("A thread cannot start at an event that itself relates to another one", status=400)
    if relation.rel_type != ANNOTATION:
        return
    earlier = relations.related_by(tx, room.nid, relation.parent_id, ANNOTATION, draft.type, draft.sender)
    if any(relation_of(stored.event.content).key == relation.key for stored in earlier):
        raise DuplicateAnnotation("You have reacted to this event with the same key already")
