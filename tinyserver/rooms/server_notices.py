"""Notices of the server to its users, each in a room of their own that is marked by a tag.

A notice to everybody is one row and a worker that goes from user to user: what one user gets and how far it has come
is one commit, so that everybody gets it once, whenever the server is killed, and nobody else waits long meanwhile.

spec: client-server-api#server-notices
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import orjson

from tinyserver.accounts.account_data import tag_room
from tinyserver.accounts.own import OwnAccount
from tinyserver.directory.descriptions import describe
from tinyserver.protocol.errors import InvalidParam, LimitExceeded, MatrixError, NotFound, TooLarge, UserInUse
from tinyserver.rooms.creation import InitialState, RoomCreation, RoomRequest
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.member_events import member_draft
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.storage import accounts, memberships, names, rooms, server_notices
from tinyserver.storage.accounts import UserRow
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.server_notices import NoticeRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

TAG = "m.server_notice"
ANNOUNCEMENT = "tinyserver.announcement"
"""The type of notices that administrators write."""
MAX_WAITING = 100
"""Notices that are being sent at the same time."""
MAX_TEXT = 20_000
_BATCH = 50  # users looked up together
_RETRY = 60.0  # seconds until it goes on after the disk was full


class ServerNotices:
    """Sends notices.

    Args:
        db: where they wait, and the rooms for them.
        own: the account that sends them.
        creation: makes the rooms.
        pipeline: sends events.
        server_name: this server.
        contact: how people reach the administrator (a URI), "" for not at all.
    """

    def __init__(
        self,
        db: Database,
        own: OwnAccount,
        creation: RoomCreation,
        pipeline: EventPipeline,
        server_name: str,
        contact: str,
    ) -> None:
        self._db = db
        self._own = own
        self._creation = creation
        self._pipeline = pipeline
        self._server_name = server_name
        self._contact = contact
        self._task: asyncio.Task[None] | None = None
        self._is_running = False

    async def send(self, text: str, user_id: str | None) -> int:
        """Send a notice to a user, or (None) to everybody who has an account with a password.

        It is on disk when this returns, and sent soon.

        Returns:
            Its number.

        Raises:
            InvalidParam: the text is too long or empty.
            NotFound: there is no such user, or the account is closed.
            UserInUse: the server's own account is somebody else's.
            LimitExceeded: many notices are being sent already.
        """
        if not text.strip() or len(text) > MAX_TEXT:
            raise InvalidParam(f"A notice has 1 to {MAX_TEXT} characters.")
        content = self._content(text)

        def step(tx: WriteTransaction) -> int:
            recipient = None
            if user_id is not None:
                account = accounts.find(tx, user_id)
                if account is None or not _gets_notices(account) or user_id == self._own.user_id:
                    raise NotFound("There is no such account.")
                recipient = account.nid
            if len(server_notices.oldest(tx, MAX_WAITING)) >= MAX_WAITING:
                raise LimitExceeded(60_000, "Many notices are being sent already: wait for these")
            self._own.ensure(tx)
            return server_notices.add(tx, content, recipient)

        number = await self._db.write(step)
        self._wake()
        return number

    def say_farewell(self, tx: WriteTransaction, room: RoomRow, since: int, reason: str) -> None:
        """Tell those who had to leave a room after a position why, in a step."""
        try:
            self._own.ensure(tx)
        except UserInUse as error:
            log.warning("nobody hears why they had to leave %s: %s", room.room_id, error.message)
            return
        name = describe(tx, room).name
        text = f"The administrators have closed the room {name or room.room_id}: {reason}"
        server_notices.add(tx, self._content(text), None, room=room.nid, since=since)
        tx.on_commit(self._wake)

    def _content(self, text: str) -> str:
        content = {"msgtype": "m.server_notice", "body": text, "server_notice_type": ANNOUNCEMENT}
        if self._contact:
            content["admin_contact"] = self._contact
        return orjson.dumps(content).decode()

    async def waiting(self) -> Sequence[NoticeRow]:
        """The notices that are being sent, the oldest first."""
        return await self._db.read(lambda tx: server_notices.oldest(tx, MAX_WAITING))

    async def cancel(self, number: int) -> None:
        """Send a notice to nobody else. Raises NotFound where it is not being sent."""
        if not await self._db.write(lambda tx: server_notices.remove(tx, number)):
            raise NotFound("There is no such notice that is being sent.")

    def start(self) -> None:
        """Begin to send, and go on with what a stop interrupted."""
        self._is_running = True
        if self._db.glance(lambda tx: server_notices.oldest(tx, 1)):
            self._wake()

    async def close(self) -> None:
        """Stop; what is not sent yet is sent after the next start."""
        self._is_running = False
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    # -- sending ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._is_running and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while True:
            found = self._db.glance(lambda tx: server_notices.oldest(tx, 1))
            if not found:
                return
            try:
                await self._send(found[0])
            except StorageError as error:
                log.warning("notices have to wait: %s", error)
                await asyncio.sleep(_RETRY)
            except Exception:
                log.exception("notices cannot be sent")
                await asyncio.sleep(_RETRY)

    async def _send(self, notice: NoticeRow) -> None:
        """Send a notice to some users more; it goes when there are none."""
        users = self._db.glance(lambda tx: _recipients(tx, notice))
        for user in users:
            try:
                await self._send_to(user, notice)
            except MatrixError as error:
                log.warning("a notice could not be sent to the user number %d: %s", user, error.message)
                await self._db.write(lambda tx, user=user: server_notices.advance(tx, notice.nid, user, sent=False))  # type: ignore[misc]
        if not users:
            await self._db.write(lambda tx: server_notices.remove(tx, notice.nid))
            log.info("a notice was sent to %d users, %d could not get it", notice.sent, notice.failed)

    async def _send_to(self, user: int, notice: NoticeRow) -> None:
        if self._db.glance(lambda tx: server_notices.get(tx, notice.nid)) is None:
            return  # taken back meanwhile
        if self._db.glance(lambda tx: self._room_of(tx, user)) is None:
            await self._make_room(user)

        def step(tx: WriteTransaction) -> None:
            now = server_notices.get(tx, notice.nid)
            room, account = self._room_of(tx, user), accounts.get(tx, user)
            if now is None or now.sent_to >= user or room is None or account is None:
                return  # or the room was closed just now: then there is another one in the next round
            if not _gets_notices(account):
                server_notices.advance(tx, notice.nid, user, sent=False)
                return
            row = memberships.get(tx, room.nid, user)
            if row is None or row.membership is Membership.LEAVE:
                self._invite(tx, room, user)
            content: dict[str, Any] = orjson.loads(notice.content)
            self._pipeline.send(tx, room.nid, EventDraft("m.room.message", self._own.user_id, content))
            server_notices.advance(tx, notice.nid, user, sent=True)

        await self._db.write(step)

    def _room_of(self, tx: ReadTransaction, user: int) -> RoomRow | None:
        """The room of a user, if the server's own account is in it."""
        room, own = server_notices.room_of(tx, user), self._own.find(tx)
        if room is None or own is None or not memberships.is_joined(tx, room, own.account):
            return None
        return rooms.get(tx, room)

    async def _make_room(self, user: int) -> None:
        """Make the room of a user and invite them, in one commit with the note that it is theirs."""
        request = RoomRequest(
            creator=self._own.user_id,
            preset="private_chat",
            name=f"Notices of {self._server_name}",
            topic=f"What the administrators of {self._server_name} have to tell you.",
            creation_content={"m.federate": False},
            initial_state=[InitialState("m.room.guest_access", {"guest_access": "forbidden"})],
            # Nobody but the server says or changes anything.
            power_level_content_override={"users_default": -10},
        )

        def then(tx: WriteTransaction, room: RoomRow) -> None:
            server_notices.set_room(tx, user, room.nid)
            self._invite(tx, room, user)

        await self._creation.create(request, then)

    def _invite(self, tx: WriteTransaction, room: RoomRow, user: int) -> None:
        """Invite a user, and see that clients know what room it is.

        Those who want no invites are invited as well, though sync shows it only when they want some again.
        """
        target = names.text(tx, user)
        draft = member_draft(tx, sender=self._own.user_id, target=target, membership="invite", with_profile=True)
        self._pipeline.send(tx, room.nid, draft)
        with contextlib.suppress(TooLarge):
            tag_room(tx, user, room.room_id, TAG)


def _recipients(tx: ReadTransaction, notice: NoticeRow) -> list[int]:
    """The next users who are to get a notice."""
    if notice.recipient is not None:
        return [notice.recipient] if notice.sent_to < notice.recipient else []
    if notice.room is not None:
        return memberships.left_after(tx, notice.room, notice.since or 0, notice.sent_to, _BATCH)
    return [row.nid for row in accounts.people_after(tx, notice.sent_to, _BATCH)]


def _gets_notices(account: UserRow) -> bool:
    return not account.is_deactivated and not account.is_guest
