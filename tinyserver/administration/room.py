"""The room where administrators give commands: `#admins` of this server.

Everything that must outlast a stop of the server is on disk, and changed together with what it says: a message is
noted as taken in the commit before its command is done, and the answer is stored in one commit with the note that it
is done. Hence each command is done at most once and each gets one answer, whenever the server is killed; of a command
that was being done just then the answer says so, and it is for the administrator to look whether it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tinyserver.accounts.own import OwnAccount
from tinyserver.accounts.requester import Requester
from tinyserver.administration.commands import Reply
from tinyserver.administration.conversation import Conversation
from tinyserver.administration.links import with_ids
from tinyserver.administration.rendering import html, plain
from tinyserver.bell import Bell
from tinyserver.protocol.errors import Exclusive, MatrixError, RoomInUse
from tinyserver.protocol.relations import THREAD, relation_of
from tinyserver.rooms.creation import InitialState, RoomCreation, RoomRequest
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.member_events import member_draft
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.storage import accounts, events, memberships, names, own_account, reports, room_state, rooms, timeline
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.memberships import Membership
from tinyserver.storage.own_account import OwnAccountRow
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction

log = logging.getLogger(__name__)

ALIAS = "admins"
MAX_ADMINS = 500
_BATCH = 50  # messages looked at together
_MAX_BYTES = 40_000  # of an answer; an event has 64 KiB
_MAX_TEXT = 5_000
_REPORTS_SHOWN = 10
_REPORTS_PAUSE = 30.0  # seconds between two messages about reports: whoever reports much does not make them many
_INTERRUPTED = (
    "The server stopped while it did this. It may be done, or a part of it, or nothing: look, and give the command "
    "again if need be."
)
_FAILED = "This failed inside the server; its log says why."


@dataclass(frozen=True, slots=True)
class _Message:
    """A message in the room that is a command for the server: who says what."""

    stored: StoredEvent
    requester: Requester
    text: str


class AdminRoom:
    """Keeps the room, listens in it and speaks in it.

    Args:
        db: where all of it is stored.
        bell: tells of messages, of new administrators and of reports.
        own: the account that it acts as.
        creation: makes the room.
        pipeline: sends what is said.
        conversation: does what messages say.
        server_name: this server.
    """

    def __init__(
        self,
        db: Database,
        bell: Bell,
        own: OwnAccount,
        creation: RoomCreation,
        pipeline: EventPipeline,
        conversation: Conversation,
        server_name: str,
    ) -> None:
        self._db = db
        self._bell = bell
        self._own = own
        self._creation = creation
        self._pipeline = pipeline
        self._conversation = conversation
        self._server_name = server_name
        self._room: int | None = None
        self._changed: set[int] = set()
        self._members_due = True
        self._reports_from = 0.0
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen, with what was said before."""
        self._unsubscribe = self._bell.subscribe(self._on_commit)
        self._due.set()
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop. A command that is being done is ended; whoever gave it hears of that after the next start."""
        if self._task is not None:
            self._unsubscribe()
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def tell(self, kind: str, text: str, now_ms: int) -> bool:
        """Warn the administrators of something, if there is a room; False if there is none.

        Args:
            kind: what it is about; when that was is noted with it.
        """

        def step(tx: WriteTransaction) -> bool:
            found = self._find_room(tx)
            if found is None:
                return False
            self._say(tx, found[1], {"msgtype": "m.text", "body": text})
            own_account.set_warned(tx, kind, now_ms)
            return True

        return await self._db.write(step)

    def _on_commit(self, commit: Commit) -> None:
        for change in commit.changes:
            if change.topic is Topic.ADMINISTRATION:
                if change.nid:
                    self._changed.add(change.nid)
                    self._members_due = True
                self._due.set()
            elif change.topic is Topic.TIMELINE and change.nid == self._room:
                self._due.set()

    async def _work(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._catch_up()
            except (StorageError, MatrixError) as error:
                log.warning("the administrators' room has to wait: %s", error)
            except Exception:
                log.exception("the administrators' room failed")

    async def _catch_up(self) -> None:
        if self._members_due:
            self._members_due = False
            changed, self._changed = self._changed, set()
            try:
                await self._keep_members(changed)
            except BaseException:  # next time
                self._changed |= changed
                self._members_due = True
                raise
        if self._db.glance(self._find_room) is None:
            return
        await self._answer_interrupted()
        while (message := await self._next()) is not None:
            await self._do(message)
        await self._tell_reports()

    # -- the room and who is in it ---------------------------------------------------------------

    def _find_room(self, tx: ReadTransaction) -> tuple[OwnAccountRow, RoomRow] | None:
        """The room, if the account is in one."""
        own = self._own.find(tx)
        if own is None or own.room is None or not memberships.is_joined(tx, own.room, own.account):
            return None
        self._room = own.room
        return own, rooms.get(tx, own.room)

    async def _keep_members(self, changed: set[int]) -> None:
        """Have all administrators invited, and nobody else in the room.

        Args:
            changed: those (nids) who have become administrators just now, or are none any more.
        """
        wanted = self._db.glance(lambda tx: [row.nid for row in accounts.administrators_after(tx, 0, MAX_ADMINS)])
        if self._db.glance(self._find_room) is None:
            if not wanted:
                return
            await self._make_room()
        await self._db.write(lambda tx: self._set_members(tx, wanted, changed))

    async def _make_room(self) -> None:
        await self._db.write(self._own.ensure)
        request = RoomRequest(
            creator=self._own.user_id,
            preset="private_chat",
            alias_localpart=ALIAS,
            name="Administrators",
            topic=f"Here you administer {self._server_name}. Say: help",
            creation_content={"m.federate": False},
            initial_state=[
                InitialState("m.room.guest_access", {"guest_access": "forbidden"}),
                # Answers may hold passwords: whoever becomes an administrator later need not read them.
                InitialState("m.room.history_visibility", {"history_visibility": "invited"}),
            ],
            power_level_content_override={"invite": 50},
        )
        try:
            await self._creation.create(request, _note_room)
        except (RoomInUse, Exclusive):
            log.warning("the alias #%s is somebody else's: the administrators' room goes without", ALIAS)
            await self._creation.create(replace(request, alias_localpart=None), _note_room)
        self._db.glance(self._find_room)

    def _set_members(self, tx: WriteTransaction, wanted: list[int], changed: set[int]) -> None:
        found = self._find_room(tx)
        if found is None:
            return
        own, room = found
        for user in wanted:
            row = memberships.get(tx, room.nid, user)
            is_out = row is None or row.membership is Membership.LEAVE
            # Whoever has left by themselves is left alone, until they become an administrator again.
            by_us = row is None or events.get(tx, row.event).event.sender == self._own.user_id
            if is_out and (by_us or user in changed):
                self._set_member(tx, room, user, "invite")
        for kind in (Membership.JOIN, Membership.INVITE):
            for user in memberships.local_members(tx, room.nid, kind):
                account = accounts.get(tx, user)
                if user != own.account and (account is None or not account.is_admin):
                    self._set_member(tx, room, user, "leave")

    def _set_member(self, tx: WriteTransaction, room: RoomRow, user: int, membership: str) -> None:
        draft = member_draft(
            tx,
            sender=self._own.user_id,
            target=names.text(tx, user),
            membership=membership,
            with_profile=membership == "invite",
        )
        self._pipeline.send(tx, room.nid, draft)

    # -- commands --------------------------------------------------------------------------------

    async def _next(self) -> _Message | None:
        """The next message that is a command, noted as taken; None when there is none any more."""

        def step(tx: WriteTransaction) -> tuple[_Message | None, bool]:
            found = self._find_room(tx)
            if found is None:
                return None, False
            own, room = found
            nids = timeline.after(tx, room.nid, own.place, _BATCH)
            for nid in nids:
                message = self._message(tx, room, events.get(tx, nid))
                if message is not None:
                    own_account.begin(tx, nid, nid)
                    return message, True
            if nids:
                own_account.pass_over(tx, nids[-1])
            return None, len(nids) == _BATCH

        if not self._db.glance(self._anything_new):
            return None
        await asyncio.to_thread(self._conversation.prepare)
        while True:
            message, there_is_more = await self._db.write(step)
            if message is not None or not there_is_more:
                return message

    def _anything_new(self, tx: ReadTransaction) -> bool:
        """Whether somebody else has said something since."""
        found = self._find_room(tx)
        if found is None:
            return False
        own, room = found
        nids = timeline.after(tx, room.nid, own.place, _BATCH)
        return len(nids) == _BATCH or any(events.get(tx, nid).sender_nid != own.account for nid in nids)

    def _message(self, tx: ReadTransaction, room: RoomRow, stored: StoredEvent) -> _Message | None:
        """A message, if it is one that is obeyed: plain and new, by an administrator who is in the room."""
        event = stored.event
        text = event.content.get("body")
        if event.type != "m.room.message" or event.content.get("msgtype") != "m.text" or not isinstance(text, str):
            return None
        if event.state_key is not None or relation_of(event.content).rel_type == "m.replace":
            return None
        if event.sender == self._own.user_id or room_state.nid_at(tx, room.state, "m.room.encryption") is not None:
            return None
        account = accounts.get(tx, stored.sender_nid)
        if account is None or not account.is_admin or account.is_deactivated:
            return None
        if not memberships.is_joined(tx, room.nid, account.nid):
            return None
        said = with_ids(_without_fallback(text, event.content), event.content).strip().removeprefix("!")
        if not self._conversation.is_for_us(said) and room.joined > 2:
            return None  # administrators may talk with each other
        return _Message(stored, Requester(event.sender, account.nid, is_admin=True), said)

    async def _do(self, message: _Message) -> None:
        try:
            reply = await self._conversation.answer(message.text, message.requester)
        except StorageError as error:
            reply = Reply(f"This could not be stored: {error}")
        except Exception:
            log.exception("a command in the administrators' room failed")
            reply = Reply(_FAILED)
        await self._answer(message.stored, reply)

    async def _answer_interrupted(self) -> None:
        own = self._db.glance(self._own.find)
        running = None if own is None else own.running
        if running is not None:
            stored = self._db.glance(lambda tx: events.get(tx, running))
            await self._answer(stored, Reply(_INTERRUPTED))

    async def _answer(self, stored: StoredEvent, reply: Reply) -> None:
        content = _content(reply) | {"m.mentions": {}, "m.relates_to": _relation(stored)}

        def step(tx: WriteTransaction) -> None:
            found = self._find_room(tx)
            if found is not None:
                self._say(tx, found[1], content)
            own_account.finish(tx)

        await self._db.write(step)

    def _say(self, tx: WriteTransaction, room: RoomRow, content: Mapping[str, Any]) -> None:
        self._pipeline.send(tx, room.nid, EventDraft("m.room.message", self._own.user_id, content))

    # -- reports ---------------------------------------------------------------------------------

    async def _tell_reports(self) -> None:
        """Tell of new reports, several in one message."""
        own = self._db.glance(self._own.find)
        if own is None or not self._db.glance(lambda tx: reports.after(tx, own.reported, 1)):
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._reports_from:
            loop.call_at(self._reports_from, self._due.set)
            return
        self._reports_from = loop.time() + _REPORTS_PAUSE

        def step(tx: WriteTransaction) -> None:
            found = self._find_room(tx)
            if found is None:
                return
            rows = reports.after(tx, found[0].reported, _REPORTS_SHOWN)
            if not rows:
                return
            count, last = reports.count_after(tx, found[0].reported)
            lines = [_reported(row) for row in rows]
            if count > len(rows):
                lines.append(f"... and {count - len(rows)} more: report list")
            self._say(tx, found[1], {"msgtype": "m.text", "body": "\n".join(lines)})
            own_account.set_reported(tx, last)

        await self._db.write(step)


def _note_room(tx: WriteTransaction, room: RoomRow) -> None:
    own_account.set_room(tx, room.nid)


def _reported(row: reports.ReportRow) -> str:
    reason = " ".join((row.reason or "").split())[:200]
    return f"{row.reporter} has reported {row.subject}{f': {reason}' if reason else ''} (report show {row.nid})"


def _content(reply: Reply) -> dict[str, Any]:
    """The answer as a message that is no larger than an event may be."""
    text = reply.text if len(reply.text) <= _MAX_TEXT else f"{reply.text[:_MAX_TEXT]}\n... (cut)"
    rows = reply.rows
    while True:
        cut = "" if len(rows) == len(reply.rows) else "\n(This is not all: ask for less with --limit)"
        shown = Reply(text + cut, reply.columns, rows, reply.more)
        body, formatted = plain(shown), html(shown)
        if not rows or len(body.encode()) + len(formatted.encode()) <= _MAX_BYTES:
            break
        rows = rows[: len(rows) // 2]
    return {
        "msgtype": "m.notice",
        "body": body,
        "format": "org.matrix.custom.html",
        "formatted_body": formatted,
    }


def _relation(stored: StoredEvent) -> dict[str, Any]:
    """What makes a message the answer to another one, in its thread if it is in one."""
    answer: dict[str, Any] = {"m.in_reply_to": {"event_id": stored.event_id}}
    relation = relation_of(stored.event.content)
    if relation.rel_type == THREAD and relation.parent_id is not None:
        answer |= {"rel_type": THREAD, "event_id": relation.parent_id}
    return answer


def _without_fallback(text: str, content: Mapping[str, Any]) -> str:
    """The text of a message, without what older clients quote of the message that they answer to."""
    relates = content.get("m.relates_to")
    if not isinstance(relates, dict) or "m.in_reply_to" not in relates or not text.startswith("> "):
        return text
    lines = text.split("\n")
    while lines and lines[0].startswith("> "):
        del lines[0]
    return "\n".join(lines)
