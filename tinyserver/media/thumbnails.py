"""Thumbnails: which one answers a request, made once and kept as long as there is room.

spec: client-server-api#thumbnails
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tinyserver.clock import Clock
from tinyserver.media.repository import USE_PRECISION_MS, FoundMedia, MediaRepository
from tinyserver.media.workshop import Made, Size, WorkFailed, Workshop
from tinyserver.protocol.errors import InvalidParam, TooLarge, Unknown
from tinyserver.storage import media
from tinyserver.storage.database import Database
from tinyserver.storage.media import ThumbnailKey

SIZES = ((32, 32, True), (96, 96, True), (320, 240, False), (640, 480, False), (800, 600, False))
"""Width, height and whether it is cropped: what the specification recommends."""
STEP = 400
MAX_SIDE = 2000
"""Beyond the recommended sizes the sides grow in steps up to this: thumbnails of every size would be many."""
FINE_STEP = 10
"""That of the sides of what is cropped, whose shape is to be the one that is asked for."""
_MAX_FAILURES = 1000
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class FoundThumbnail:
    """A thumbnail that can be served."""

    digest: bytes
    content_type: str


class Thumbnails:
    """Finds or makes thumbnails.

    Args:
        db: what is known of them.
        repository: keeps them.
        workshop: makes them.
        clock: for their last use.
    """

    def __init__(self, db: Database, repository: MediaRepository, workshop: Workshop, clock: Clock) -> None:
        self._db = db
        self._repository = repository
        self._workshop = workshop
        self._clock = clock
        self._failures: OrderedDict[bytes, WorkFailed] = OrderedDict()

    async def of(self, found: FoundMedia, size: Size) -> FoundThumbnail:
        """The thumbnail of a file that is at least of a size, if the picture itself is.

        Raises:
            Unknown: it is no picture that thumbnails are made of (400).
            TooLarge: it has too many pixels (413, or 502 for another server's).
            InvalidParam: the size is none.
            LimitExceeded: too many are waited for.
        """
        wanted = _offered(size)
        key = ThumbnailKey(found.blob_nid, wanted.width, wanted.height, wanted.crop, wanted.animated)
        known = self._db.glance(lambda tx: media.thumbnail(tx, key))
        if known is not None:
            now = self._clock.now_ms()
            if now - known.used >= USE_PRECISION_MS:
                await self._db.write(lambda tx: media.mark_thumbnail_used(tx, key, now), patience=_PATIENCE)
            return FoundThumbnail(known.digest, known.content_type)
        failure = self._failures.get(found.digest)
        if failure is None:
            try:
                return await self._make(found, key, wanted)
            except WorkFailed as error:
                failure = self._failures[found.digest] = error
                if len(self._failures) > _MAX_FAILURES:
                    self._failures.popitem(last=False)
        if failure.too_large:
            raise TooLarge("The picture is too large for a thumbnail", status=413 if found.row.uploader else 502)
        raise Unknown("No thumbnail can be made of this file", status=400)

    async def _make(self, found: FoundMedia, key: ThumbnailKey, wanted: Size) -> FoundThumbnail:
        blobs = self._repository.blobs
        target = blobs.new_file()
        try:
            async with blobs.as_file(found.digest) as source:
                made: Made = await self._workshop.make(source, target, wanted)
            if made.is_original:
                return FoundThumbnail(found.digest, made.content_type)
            incoming = await blobs.adopt(target)
            await self._repository.keep_thumbnail(key, incoming, made.content_type)
            return FoundThumbnail(incoming.digest, made.content_type)
        finally:
            target.unlink(missing_ok=True)


def _offered(size: Size) -> Size:
    """The smallest size that is made and that is not smaller than the one asked for. Raises InvalidParam."""
    if size.width < 1 or size.height < 1:
        raise InvalidParam("The width and the height of a thumbnail must be 1 or more")
    for width, height, crop in SIZES:
        if crop == size.crop and width >= size.width and height >= size.height:
            return Size(width, height, crop, size.animated)
    if not size.crop:
        return Size(_stepped(size.width), _stepped(size.height), size.crop, size.animated)
    asked = max(size.width, size.height)
    longer = _stepped(asked)
    width, height = (_rounded_up(-(-side * longer // asked), FINE_STEP) for side in (size.width, size.height))
    return Size(width, height, size.crop, size.animated)


def _stepped(side: int) -> int:
    return min(_rounded_up(side, STEP), MAX_SIDE)


def _rounded_up(side: int, step: int) -> int:
    return -(-side // step) * step
