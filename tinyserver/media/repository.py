"""The media repository: files that people send, taken in as a stream, kept once, found again by their mxc:// URI.

spec: client-server-api#content-repository
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from tinyserver.accounts.requester import Requester
from tinyserver.clock import Clock
from tinyserver.media.blobs import Blob, Blobs, Incoming
from tinyserver.media.names import check_uri, clean_name, clean_type
from tinyserver.protocol.errors import CannotOverwriteMedia, Forbidden, LimitExceeded, NotFound, NotYetUploaded
from tinyserver.storage import media, names
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageFull
from tinyserver.storage.media import MediaRow, ThumbnailKey, UploadRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

ANNOUNCED_LIFETIME_MS = 24 * 3600 * 1000
"""How long an announced upload is waited for."""
MAX_ANNOUNCED = 100
"""Announced uploads of one user at the same time."""
USE_PRECISION_MS = 24 * 3600 * 1000
"""The time of the last use is written no more often than this: it costs the card a commit."""
_PATIENCE = 5.0
_SWEEP = 50  # files that are removed in one go


@dataclass(frozen=True, slots=True)
class FoundMedia:
    """A file that can be served."""

    row: MediaRow
    digest: bytes
    blob_nid: int


class Elsewhere(Protocol):
    """Gets files of other servers."""

    async def fetch(self, origin: str, media_id: str, timeout: float) -> None:
        """Have the repository take in a copy.

        Args:
            timeout: seconds to wait for it; the transfer itself may go on.

        Raises:
            MatrixError: it is not to be had, or not yet.
        """
        ...


class MediaRepository:
    """Takes files in, and finds them.

    Args:
        db: what is known of them.
        blobs: their bytes.
        clock: for ages.
        server_name: this server.
        max_upload: bytes of one file.
        quota: bytes of all uploads of one user together, 0 for no limit.

    `elsewhere` gets files of other servers; None: there are none.
    """

    def __init__(
        self,
        db: Database,
        blobs: Blobs,
        clock: Clock,
        *,
        server_name: str,
        max_upload: int,
        quota: int,
    ) -> None:
        self._db = db
        self.blobs = blobs
        self._clock = clock
        self._server_name = server_name
        self.max_upload = max_upload
        self._quota = quota
        self.elsewhere: Elsewhere | None = None
        self.on_stored: Callable[[], None] = lambda: None
        """Called when there is one more file, or one more thumbnail."""
        # One at a time: keeping a file and removing the same content because nothing used it until now.
        self._files = asyncio.Lock()
        self._arrivals: dict[str, set[asyncio.Event]] = {}

    # -- uploads ---------------------------------------------------------------------------------

    async def upload(
        self, requester: Requester, content_type: str | None, file_name: str | None, content: AsyncIterable[bytes]
    ) -> str:
        """Take in a file; its mxc:// URI.

        Raises:
            Forbidden: the user's quota is used up.
            StorageError: there is no space, or the disk fails.
        """
        media_id, user, kind, name = _new_id(), requester.user_nid, clean_type(content_type), clean_name(file_name)
        self._check_quota(user, 0)

        def add(tx: WriteTransaction) -> int:
            return media.add_upload(tx, self._server_name, media_id, user, kind, name, self._clock.now_ms())

        async with self._received(content, user) as incoming:
            await self._keep(incoming, add)
        return f"mxc://{self._server_name}/{media_id}"

    async def announce(self, requester: Requester) -> tuple[str, int]:
        """An mxc:// URI whose file comes later, and until when (ms since 1970).

        Raises:
            LimitExceeded: the user has announced many and uploaded none of them.
        """
        media_id, now = _new_id(), self._clock.now_ms()
        expires = now + ANNOUNCED_LIFETIME_MS

        def step(tx: WriteTransaction) -> None:
            if media.announced(tx, requester.user_nid, now) >= MAX_ANNOUNCED:
                raise LimitExceeded(60_000, "Upload the files that you have announced first")
            media.announce(tx, self._server_name, media_id, requester.user_nid, now, expires)

        await self._db.write(step)
        return f"mxc://{self._server_name}/{media_id}", expires

    async def fill(
        self,
        requester: Requester,
        server_name: str,
        media_id: str,
        content_type: str | None,
        file_name: str | None,
        content: AsyncIterable[bytes],
    ) -> None:
        """Take in the file of a URI that was announced.

        Raises:
            NotFound: it was not announced, or too long ago.
            Forbidden: it was announced by somebody else, or the user's quota is used up.
            CannotOverwriteMedia: its file is there already.
            StorageError: there is no space, or the disk fails.
        """
        check_uri(server_name, media_id)
        user, kind, name = requester.user_nid, clean_type(content_type), clean_name(file_name)

        def awaited(tx: ReadTransaction) -> int:
            row = media.get(tx, server_name, media_id)
            if row is None or server_name != self._server_name:
                raise NotFound("No such file was announced")
            if row.uploader != user:
                raise Forbidden("Somebody else has announced this file")
            if row.expires is None:
                raise CannotOverwriteMedia
            if row.expires <= self._clock.now_ms():
                raise NotFound("This file was announced too long ago")
            return row.nid

        def describe(tx: WriteTransaction) -> int:
            nid = awaited(tx)
            media.describe(tx, nid, kind, name)
            return nid

        self._db.glance(awaited)
        self._check_quota(user, 0)
        async with self._received(content, user) as incoming:
            await self._keep(incoming, describe)
        for arrived in self._arrivals.get(media_id, ()):
            arrived.set()

    # -- copies of other servers' files ----------------------------------------------------------

    async def take_copy(
        self, origin: str, media_id: str, content_type: str | None, file_name: str | None, content: AsyncIterable[bytes]
    ) -> None:
        """Take in another server's file. Raises StorageError, and what the content raises."""
        kind, name = clean_type(content_type), clean_name(file_name)

        def add(tx: WriteTransaction) -> int | None:
            known = media.get(tx, origin, media_id)
            if known is not None and (known.blob is not None or known.quarantined):
                return None
            return media.add_copy(tx, origin, media_id, kind, name, self._clock.now_ms())

        async with self._received(content, None) as incoming:
            await self._keep(incoming, add)

    async def keep_picture(self, incoming: Incoming, content_type: str, file_name: str) -> str:
        """Keep a picture that belongs to nobody as long as there is room; its mxc:// URI. Raises StorageError."""
        media_id, kind, name = _new_id(), clean_type(content_type), clean_name(file_name)
        await self._keep(
            incoming,
            lambda tx: media.add_copy(tx, self._server_name, media_id, kind, name, self._clock.now_ms()),
        )
        return f"mxc://{self._server_name}/{media_id}"

    # -- finding ---------------------------------------------------------------------------------

    async def find(self, origin: str, media_id: str, *, wait: float, allow_remote: bool = True) -> FoundMedia:
        """A file that can be served.

        Args:
            wait: seconds to wait for a file that is not there yet.
            allow_remote: whether another server may be asked for it.

        Raises:
            NotFound: there is none.
            NotYetUploaded: it was announced and does not come in time.
            MatrixError: another server does not give it.
        """
        check_uri(origin, media_id)
        found = self._known(origin, media_id)
        if found is None and origin != self._server_name and allow_remote and self.elsewhere is not None:
            await self.elsewhere.fetch(origin, media_id, wait)
            found = self._known(origin, media_id)
        elif found is None and origin == self._server_name and self._is_awaited(media_id):
            await self._arrival(media_id, wait)
            found = self._known(origin, media_id)
        if found is None:
            raise NotFound("There is no such file")
        await self._note_use(found.row)
        return found

    async def open(self, digest: bytes) -> Blob:
        """The bytes of a file. Raises NotFound if they are gone, StorageError if the disk fails."""
        blob = await self.blobs.open(digest)
        if blob is None:
            raise NotFound("The file has been lost from the server's disk")
        return blob

    def _known(self, origin: str, media_id: str) -> FoundMedia | None:
        row = self._db.glance(lambda tx: media.get(tx, origin, media_id))
        if row is not None and row.quarantined:  # nor is another server asked for it
            raise NotFound("This file has been taken out of circulation")
        if row is None or row.digest is None or row.blob is None:
            return None
        return FoundMedia(row, row.digest, row.blob)

    def _is_awaited(self, media_id: str) -> bool:
        row = self._db.glance(lambda tx: media.get(tx, self._server_name, media_id))
        return row is not None and row.expires is not None and row.expires > self._clock.now_ms()

    async def _arrival(self, media_id: str, wait: float) -> None:
        """Wait for an announced file. Raises NotYetUploaded."""
        arrived = asyncio.Event()
        waiting = self._arrivals.setdefault(media_id, set())
        waiting.add(arrived)
        try:
            async with asyncio.timeout(wait):
                await arrived.wait()
        except TimeoutError as error:
            raise NotYetUploaded from error
        finally:
            waiting.discard(arrived)
            if not waiting:
                self._arrivals.pop(media_id, None)

    async def _note_use(self, row: MediaRow) -> None:
        now = self._clock.now_ms()
        if now - row.used >= USE_PRECISION_MS:
            await self._db.write(lambda tx: media.mark_used(tx, row.nid, now), patience=_PATIENCE)

    # -- taking out of circulation ---------------------------------------------------------------

    async def quarantine(self, origin: str, media_id: str, *, quarantined: bool = True) -> None:
        """Have a file served to nobody, nor what has the same content, and not fetched again; or lift that.
        Raises NotFound.

        The content of another server's file is forgotten, that of an upload is kept for those who must look at it.
        """

        def step(tx: WriteTransaction) -> None:
            row = media.get(tx, origin, media_id)
            if row is None:
                if origin == self._server_name or not quarantined:
                    raise NotFound("There is no such file")
                media.add_copy(tx, origin, media_id, clean_type(None), None, self._clock.now_ms())
                row = media.get(tx, origin, media_id)
                assert row is not None
            if not quarantined:
                media.release(tx, row)
                return
            media.quarantine(tx, row)
            if row.uploader is None:
                media.drop_blob(tx, row)

        check_uri(origin, media_id)
        await self._db.write(step)
        await self.sweep()

    async def remove(self, origin: str, media_id: str) -> None:
        """Delete a file. Raises NotFound."""

        def step(tx: WriteTransaction) -> None:
            row = media.get(tx, origin, media_id)
            if row is None:
                raise NotFound("There is no such file")
            media.remove(tx, row)

        check_uri(origin, media_id)
        await self._db.write(step)
        await self.sweep()

    async def remove_copies(self, unused_since: int) -> int:
        """Delete the copies of other servers' files that nobody has asked for since a time (ms since 1970); how many.

        They are fetched again when somebody asks for them.
        """

        def step(tx: WriteTransaction) -> int:
            rows = media.copies_unused_since(tx, unused_since, _SWEEP)
            for row in rows:
                media.remove(tx, row)
            return len(rows)

        total = 0
        while removed := await self._db.write(step):
            total += removed
            await self.sweep()
        return total

    async def usage(self, limit: int) -> list[tuple[str | None, int]]:
        """Who has the most bytes in files here: user IDs, and None for copies and thumbnails; the most first."""

        def step(tx: ReadTransaction) -> list[tuple[str | None, int]]:
            rows = media.largest_owners(tx, limit)
            return [(None if owner == media.CACHE else names.text(tx, owner), size) for owner, size in rows]

        return await self._db.read(step)

    async def uploads(self, user_id: str, before: int | None, limit: int) -> list[UploadRow]:
        """The newest uploads of a user, those with numbers below `before` only."""

        def step(tx: ReadTransaction) -> list[UploadRow]:
            user = names.find(tx, user_id)
            first = 2**62 if before is None else before
            return [] if user is None else media.uploads_of(tx, user, first, limit)

        return await self._db.read(step)

    # -- keeping ---------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _received(self, content: AsyncIterable[bytes], user: int | None) -> AsyncIterator[Incoming]:
        """Content written down, within the space that there is and the user's quota."""
        free = await self.blobs.free_bytes()

        async def bounded() -> AsyncIterator[bytes]:
            size = 0
            async for piece in content:
                size += len(piece)
                if size > free:
                    raise StorageFull("no space is left for files")
                if user is not None:
                    self._check_quota(user, size)
                yield piece

        incoming = await self.blobs.receive(bounded())
        try:
            yield incoming
        finally:
            await incoming.discard()

    def _check_quota(self, user: int, size: int) -> None:
        if self._quota and self._db.glance(lambda tx: media.bytes_of(tx, user)) + size > self._quota:
            raise Forbidden("You have used up the space for your files on this server")

    async def _keep(self, incoming: Incoming, add: AddRow) -> None:
        """Keep content for the row that `add` makes, or for none if it gives None."""

        def step(tx: WriteTransaction) -> None:
            nid = add(tx)
            if nid is not None:
                media.set_blob(tx, nid, incoming.digest, incoming.size)

        await self._keep_with(incoming, step)

    async def keep_thumbnail(self, key: ThumbnailKey, incoming: Incoming, content_type: str) -> None:
        """Keep a thumbnail. Raises StorageError."""
        now = self._clock.now_ms()
        size = incoming.size
        await self._keep_with(
            incoming, lambda tx: media.add_thumbnail(tx, key, incoming.digest, size, content_type, now)
        )

    async def _keep_with(self, incoming: Incoming, step: Callable[[WriteTransaction], None]) -> None:
        async with self._files:
            await incoming.keep()
            try:
                await self._db.write(step)
            finally:
                if not self._db.glance(lambda tx: media.has_blob(tx, incoming.digest)):
                    await self.blobs.remove(incoming.digest)
        self.on_stored()

    async def sweep(self) -> None:
        """Remove the files of what nothing uses any more."""
        while True:
            async with self._files:
                unused = self._db.glance(lambda tx: media.unused_blobs(tx, _SWEEP))
                for _, digest in unused:
                    await self.blobs.remove(digest)

                def step(tx: WriteTransaction, gone: list[tuple[int, bytes]] = unused) -> None:
                    for nid, _ in gone:
                        media.forget_blob(tx, nid)

                if unused:
                    await self._db.write(step)
            if len(unused) < _SWEEP:
                return


class AddRow(Protocol):
    """Makes the row of a file in a step; None if it is not wanted any more."""

    def __call__(self, tx: WriteTransaction, /) -> int | None: ...


def _new_id() -> str:
    return secrets.token_urlsafe(18)
