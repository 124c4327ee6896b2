"""Sending messages, state and redactions into rooms."""

from __future__ import annotations

from typing import Any

from tinyserver.protocol.errors import BadAlias, BadJson, Forbidden, InvalidParam, NotFound, TooLarge
from tinyserver.protocol.identifiers import domain_of, is_valid_room_alias
from tinyserver.rooms.access import check_user_id, known_room, room_of_member
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.guests import remove_guests
from tinyserver.rooms.member_events import profile_of
from tinyserver.rooms.membership import RoomMembership
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.storage import events, room_state, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.transaction import WriteTransaction

_MAX_BYTES = 255
_MAX_TXN_ID = 255


class Sending:
    """Sends what local users say.

    Args:
        db: where rooms are stored.
        pipeline: makes events.
        membership: knows who can be invited.
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
        device: int | None = None,
        txn_id: str | None = None,
    ) -> str:
        """Send a message event.

        Args:
            device, txn_id: the same pair gives the same event, however often it is sent.

        Returns:
            The event ID.

        Raises:
            Forbidden: the sender is not in the room or may not.
            BadJson, TooLarge, InvalidParam: the event is malformed.

        spec: client-server-api#sending-events-to-a-room
        """
        check_txn_id(txn_id)
        _check_name(event_type, "event type")
        redacts = None
        if event_type == "m.room.redaction" and isinstance(content.get("redacts"), str):
            redacts = content["redacts"]
            content = {key: value for key, value in content.items() if key != "redacts"}
        draft = EventDraft(event_type, sender, content, redacts=redacts, device=device, txn_id=txn_id)

        def step(tx: WriteTransaction) -> str:
            return self._pipeline.send(tx, known_room(tx, room_id).nid, draft).event_id

        return await self._db.write(step)

    async def state(self, sender: str, room_id: str, event_type: str, state_key: str, content: dict[str, Any]) -> str:
        """Set a state event. Setting what is set already sends nothing.

        Returns:
            The event ID.

        Raises:
            Forbidden: the sender is not in the room or may not.
            BadAlias: a canonical alias does not point to this room.
            BadJson, TooLarge, InvalidParam: the event is malformed.

        spec: client-server-api#sending-events-to-a-room
        """
        _check_name(event_type, "event type")
        _check_name(state_key, "state key")
        if event_type == "m.room.member":
            self._check_member(state_key, content)

        def step(tx: WriteTransaction) -> str:
            room = known_room(tx, room_id)
            current = room_state.event_at(tx, room.state, event_type, state_key)
            if current is not None and current.event.sender == sender and current.event.content == content:
                room_of_member(tx, room_id, sender)
                return current.event_id
            if event_type == "m.room.canonical_alias":
                before = {} if current is None else current.event.content
                _check_aliases(tx, room, before, content, self._server_name)
            filled = content
            if event_type == "m.room.member" and content["membership"] in ("join", "invite", "knock"):
                filled = {**profile_of(tx, state_key), **content}
            stored = self._pipeline.send(tx, room.nid, EventDraft(event_type, sender, filled, state_key=state_key))
            if event_type == "m.room.guest_access":
                remove_guests(tx, self._pipeline, rooms.get(tx, room.nid))
            return stored.event_id

        return await self._db.write(step)

    def _check_member(self, user_id: str, content: dict[str, Any]) -> None:
        check_user_id(user_id)
        membership = content.get("membership")
        if membership not in ("join", "invite", "leave", "ban", "knock"):
            raise BadJson("A member event needs a membership: join, invite, leave, ban or knock")
        if membership == "invite":
            self._membership.check_reachable(user_id)

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
            content: `reason` and whatever else the client adds.
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
        draft = EventDraft(
            "m.room.redaction",
            sender,
            {key: value for key, value in content.items() if key != "redacts"},
            redacts=event_id,
            device=device,
            txn_id=txn_id,
        )

        def step(tx: WriteTransaction) -> str:
            if device is not None and txn_id is not None:
                known = events.of_transaction(tx, device, txn_id)
                if known is not None:
                    return known.event_id
            room = room_of_member(tx, room_id, sender)
            target = events.by_id(tx, event_id)
            if target is None or target.room != room.nid:
                raise NotFound(f"There is no event {event_id[:255]} in this room")
            own = target.event.sender == sender
            local = is_admin and domain_of(target.event.sender) == self._server_name
            if not own and not local:
                levels = room_state.power_levels(tx, room.state)
                if levels.user_level(sender) < levels.redact:
                    raise Forbidden("You may only redact your own messages in this room")
            return self._pipeline.send(tx, room.nid, draft).event_id

        return await self._db.write(step)


def check_txn_id(txn_id: str | None) -> None:
    """Refuse transaction IDs that are no opaque identifiers of sane length.

    Raises:
        InvalidParam: it is too long or empty.
    """
    if txn_id is not None and not 0 < len(txn_id.encode("utf-8", "surrogatepass")) <= _MAX_TXN_ID:
        raise InvalidParam(f"A transaction ID has 1 to {_MAX_TXN_ID} bytes")


def _check_name(text: str, what: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
        raise TooLarge(f"The {what} is longer than {_MAX_BYTES} bytes")


def _check_aliases(
    tx: WriteTransaction, room: RoomRow, before: dict[str, Any], content: dict[str, Any], server_name: str
) -> None:
    """New aliases in `m.room.canonical_alias` must be aliases, and the local ones must point to the room."""
    known = _aliases_in(before, strict=False)
    for alias in _aliases_in(content, strict=True) - known:
        if not is_valid_room_alias(alias):
            raise InvalidParam(f"{alias[:255]!r} is not a room alias; one looks like #name:{server_name}")
        found = rooms.of_alias(tx, alias)
        if found is None or found[0] != room.nid:
            raise BadAlias(f"The alias {alias} does not point to this room; add it to the room first")


def _aliases_in(content: dict[str, Any], *, strict: bool) -> set[str]:
    alternatives = content.get("alt_aliases", [])
    canonical = content.get("alias")
    named = [*(alternatives if isinstance(alternatives, list) else [alternatives])]
    if canonical not in (None, ""):
        named.append(canonical)
    if strict and not (isinstance(alternatives, list) and all(isinstance(alias, str) for alias in named)):
        raise InvalidParam("alias must be a text and alt_aliases a list of texts")
    return {alias for alias in named if isinstance(alias, str)}
