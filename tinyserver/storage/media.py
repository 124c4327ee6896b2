"""Files that people send: what is known of them. The bytes lie elsewhere, named by their digest."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage import names
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

CACHE = 0
"""The owner of copies and thumbnails in `bytes_of`."""

_QUARANTINED = (
    "(quarantined OR EXISTS (SELECT 1 FROM quarantined_contents WHERE quarantined_contents.digest = blobs.digest))"
)


@dataclass(frozen=True, slots=True)
class MediaRow:
    """What is known of an mxc:// URI. Times are ms since 1970."""

    nid: int
    blob: int | None
    digest: bytes | None
    """None: announced and not uploaded yet, or taken away."""
    size: int | None
    content_type: str
    file_name: str | None
    uploader: int | None
    """A user's nid, None for the copy of another server's file."""
    used: int
    expires: int | None
    quarantined: bool
    """It is out of circulation itself, or its content is."""


@dataclass(frozen=True, slots=True)
class UploadRow:
    """An upload as its user's administrator sees it; `size` None: it was taken away. `created` in ms since 1970."""

    nid: int
    media_id: str
    size: int | None
    content_type: str
    file_name: str | None
    created: int
    quarantined: bool


@dataclass(frozen=True, slots=True)
class ThumbnailRow:
    """A thumbnail that was made already."""

    digest: bytes
    size: int
    content_type: str
    used: int


@dataclass(frozen=True, slots=True)
class ThumbnailKey:
    """Which thumbnail of a blob (a nid); sizes in pixels."""

    source: int
    width: int
    height: int
    crop: bool
    animated: bool

    def columns(self) -> tuple[int, int, int, bool, bool]:
        """As the table has it."""
        return self.source, self.width, self.height, self.crop, self.animated


def get(tx: ReadTransaction, origin: str, media_id: str) -> MediaRow | None:
    """What is known of `mxc://origin/media_id`."""
    server = names.find(tx, origin)
    if server is None:
        return None
    row = tx.row(
        f"SELECT media.nid, blob, digest, size, content_type, file_name, uploader, used, expires, {_QUARANTINED}"
        " FROM media LEFT JOIN blobs ON blobs.nid = media.blob WHERE origin = ? AND media_id = ?",
        (server, media_id),
    )
    return None if row is None else MediaRow(*row)


def add_upload(
    tx: WriteTransaction, origin: str, media_id: str, user: int, content_type: str, file_name: str | None, now: int
) -> int:
    """A new upload of a user (a nid), without its blob; its nid."""
    return _add(tx, origin, media_id, user, content_type, file_name, now, None)


def announce(tx: WriteTransaction, origin: str, media_id: str, user: int, now: int, expires: int) -> None:
    """A URI whose file is to come until a time. Announced ones whose time has passed go."""
    tx.execute("DELETE FROM media WHERE expires <= ? AND blob IS NULL", (now,))
    _add(tx, origin, media_id, user, "", None, now, expires)


def announced(tx: ReadTransaction, user: int, now: int) -> int:
    """How many files a user (a nid) has announced and not uploaded yet."""
    count: int = tx.value("SELECT count(*) FROM media WHERE uploader = ? AND expires > ?", (user, now))
    return count


def describe(tx: WriteTransaction, nid: int, content_type: str, file_name: str | None) -> None:
    """What kind of file it is that was announced; from now on it is no announced one any more."""
    tx.execute(
        "UPDATE media SET content_type = ?, file_name = ?, expires = NULL WHERE nid = ?", (content_type, file_name, nid)
    )


def add_copy(
    tx: WriteTransaction, origin: str, media_id: str, content_type: str, file_name: str | None, now: int
) -> int:
    """A copy of another server's file, without its blob; its nid. One that was there before is described anew."""
    known = get(tx, origin, media_id)
    if known is None:
        return _add(tx, origin, media_id, None, content_type, file_name, now, None)
    tx.execute(
        "UPDATE media SET content_type = ?, file_name = ?, created = ?, used = ? WHERE nid = ?",
        (content_type, file_name, now, now, known.nid),
    )
    return known.nid


def set_blob(tx: WriteTransaction, nid: int, digest: bytes, size: int) -> None:
    """Give a file, which has none, its content (`size` bytes)."""
    blob = _use_blob(tx, digest, size)
    tx.execute("UPDATE media SET blob = ? WHERE nid = ?", (blob, nid))
    _count(tx, _owner(tx, nid), size)


def drop_blob(tx: WriteTransaction, row: MediaRow) -> None:
    """Forget the content of a file, and the thumbnails of it if nothing else has that content."""
    if row.blob is None or row.size is None:
        return
    tx.execute("UPDATE media SET blob = NULL WHERE nid = ?", (row.nid,))
    _count(tx, row.uploader if row.uploader is not None else CACHE, -row.size)
    _release_blob(tx, row.blob)
    if tx.value("SELECT uses FROM blobs WHERE nid = ?", (row.blob,)) == 0:
        for found in tx.rows(
            "SELECT source, width, height, crop, animated FROM thumbnails WHERE source = ?", (row.blob,)
        ):
            drop_thumbnail(tx, ThumbnailKey(*found))


def remove(tx: WriteTransaction, row: MediaRow) -> None:
    """Forget a file altogether."""
    drop_blob(tx, row)
    tx.execute("DELETE FROM media WHERE nid = ?", (row.nid,))
    tx.execute("DELETE FROM quarantined_contents WHERE media = ?", (row.nid,))


def quarantine(tx: WriteTransaction, row: MediaRow) -> None:
    """Have a file served to nobody, nor its content where that has another URI or is sent again."""
    tx.execute("UPDATE media SET quarantined = 1 WHERE nid = ?", (row.nid,))
    if row.digest is not None:
        tx.execute("INSERT OR IGNORE INTO quarantined_contents (digest, media) VALUES (?, ?)", (row.digest, row.nid))


def release(tx: WriteTransaction, row: MediaRow) -> None:
    """Have a file served again, and its content wherever that is not out of circulation by itself."""
    tx.execute("UPDATE media SET quarantined = 0 WHERE nid = ?", (row.nid,))
    tx.execute("DELETE FROM quarantined_contents WHERE media = ?", (row.nid,))
    if row.digest is not None:
        tx.execute("DELETE FROM quarantined_contents WHERE digest = ?", (row.digest,))


def mark_used(tx: WriteTransaction, nid: int, now: int) -> None:
    """Note that a file was asked for."""
    tx.execute("UPDATE media SET used = ? WHERE nid = ?", (now, nid))


def thumbnail(tx: ReadTransaction, key: ThumbnailKey) -> ThumbnailRow | None:
    """A thumbnail that was made already."""
    row = tx.row(
        "SELECT digest, size, content_type, used FROM thumbnails JOIN blobs ON blobs.nid = thumbnails.blob"
        " WHERE source = ? AND width = ? AND height = ? AND crop = ? AND animated = ?",
        key.columns(),
    )
    return None if row is None else ThumbnailRow(*row)


def add_thumbnail(
    tx: WriteTransaction, key: ThumbnailKey, digest: bytes, size: int, content_type: str, now: int
) -> None:
    """Keep a thumbnail, unless its picture has gone meanwhile or it is there already."""
    uses = tx.value("SELECT uses FROM blobs WHERE nid = ?", (key.source,))
    if not uses or thumbnail(tx, key) is not None:
        return
    blob = _use_blob(tx, digest, size)
    tx.execute(
        "INSERT INTO thumbnails (source, width, height, crop, animated, blob, content_type, used)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*key.columns(), blob, content_type, now),
    )
    _count(tx, CACHE, size)


def mark_thumbnail_used(tx: WriteTransaction, key: ThumbnailKey, now: int) -> None:
    """Note that a thumbnail was asked for."""
    tx.execute(
        "UPDATE thumbnails SET used = ? WHERE source = ? AND width = ? AND height = ? AND crop = ? AND animated = ?",
        (now, *key.columns()),
    )


def drop_thumbnail(tx: WriteTransaction, key: ThumbnailKey) -> None:
    """Forget a thumbnail."""
    where = "WHERE source = ? AND width = ? AND height = ? AND crop = ? AND animated = ?"
    row = tx.row(f"SELECT blob, size FROM thumbnails JOIN blobs ON blobs.nid = blob {where}", key.columns())
    if row is not None:
        tx.execute(f"DELETE FROM thumbnails {where}", key.columns())
        _count(tx, CACHE, -row[1])
        _release_blob(tx, row[0])


def bytes_of(tx: ReadTransaction, owner: int) -> int:
    """Bytes in the uploads of a user (a nid), or in copies and thumbnails (`CACHE`)."""
    found: int | None = tx.value("SELECT bytes FROM media_bytes WHERE owner = ?", (owner,))
    return found or 0


def largest_owners(tx: ReadTransaction, limit: int) -> list[tuple[int, int]]:
    """(nid, bytes) of the users with the most bytes in uploads, and of `CACHE`; those without any are left out."""
    return tx.rows("SELECT owner, bytes FROM media_bytes WHERE bytes > 0 ORDER BY bytes DESC LIMIT ?", (limit,))


def uploads_of(tx: ReadTransaction, user: int, before: int, limit: int) -> list[UploadRow]:
    """The newest uploads of a user (a nid) with numbers below another, the newest first."""
    rows = tx.execute(
        f"SELECT media.nid, media_id, size, content_type, file_name, created, {_QUARANTINED} FROM media LEFT JOIN blobs"
        " ON blobs.nid = media.blob WHERE uploader = ? AND media.nid < ? AND expires IS NULL"
        " ORDER BY media.nid DESC LIMIT ?",
        (user, before, limit),
    )
    return [UploadRow(row[0], row[1], row[2], row[3], row[4], row[5], bool(row[6])) for row in rows]


def oldest_copies(tx: ReadTransaction, limit: int) -> list[MediaRow]:
    """The copies that were not asked for the longest."""
    return _rows(tx, "uploader IS NULL AND blob IS NOT NULL ORDER BY used LIMIT ?", (limit,))


def copies_unused_since(tx: ReadTransaction, moment: int, limit: int) -> list[MediaRow]:
    """Copies that nobody has asked for since a time (ms since 1970)."""
    return _rows(tx, "uploader IS NULL AND blob IS NOT NULL AND used < ? ORDER BY used LIMIT ?", (moment, limit))


def uploads_before(tx: ReadTransaction, moment: int, limit: int) -> list[MediaRow]:
    """Uploads older than a time (ms since 1970)."""
    return _rows(
        tx, "uploader IS NOT NULL AND blob IS NOT NULL AND created < ? ORDER BY created LIMIT ?", (moment, limit)
    )


def oldest_thumbnails(tx: ReadTransaction, limit: int) -> list[tuple[ThumbnailKey, int]]:
    """The thumbnails that were not asked for the longest, with the time of the last use."""
    found = tx.rows(
        "SELECT source, width, height, crop, animated, used FROM thumbnails ORDER BY used LIMIT ?", (limit,)
    )
    return [(ThumbnailKey(*row[:5]), row[5]) for row in found]


def has_blob(tx: ReadTransaction, digest: bytes) -> bool:
    """Whether anything is known of content."""
    return tx.value("SELECT 1 FROM blobs WHERE digest = ?", (digest,)) is not None


def unused_blobs(tx: ReadTransaction, limit: int) -> list[tuple[int, bytes]]:
    """Blobs (nid, digest) whose file can go."""
    found: list[tuple[int, bytes]] = tx.rows("SELECT nid, digest FROM blobs WHERE uses = 0 LIMIT ?", (limit,))
    return found


def forget_blob(tx: WriteTransaction, nid: int) -> None:
    """The file of an unused blob is gone."""
    tx.execute("DELETE FROM blobs WHERE nid = ? AND uses = 0", (nid,))


def _rows(tx: ReadTransaction, where: str, parameters: tuple[int, ...]) -> list[MediaRow]:
    found = tx.rows(
        f"SELECT media.nid, blob, digest, size, content_type, file_name, uploader, used, expires, {_QUARANTINED}"
        f" FROM media JOIN blobs ON blobs.nid = media.blob WHERE {where}",
        parameters,
    )
    return [MediaRow(*row) for row in found]


def _add(
    tx: WriteTransaction,
    origin: str,
    media_id: str,
    user: int | None,
    content_type: str,
    file_name: str | None,
    now: int,
    expires: int | None,
) -> int:
    nid = tx.execute(
        "INSERT INTO media (origin, media_id, uploader, content_type, file_name, created, used, expires)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (names.intern(tx, origin), media_id, user, content_type, file_name, now, now, expires),
    ).lastrowid
    assert nid is not None
    return nid


def _owner(tx: ReadTransaction, nid: int) -> int:
    uploader: int | None = tx.value("SELECT uploader FROM media WHERE nid = ?", (nid,))
    return CACHE if uploader is None else uploader


def _count(tx: WriteTransaction, owner: int, size: int) -> None:
    tx.execute(
        "INSERT INTO media_bytes (owner, bytes) VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET bytes = bytes + ?",
        (owner, size, size),
    )


def _use_blob(tx: WriteTransaction, digest: bytes, size: int) -> int:
    tx.execute(
        "INSERT INTO blobs (digest, size, uses) VALUES (?, ?, 1) ON CONFLICT (digest) DO UPDATE SET uses = uses + 1",
        (digest, size),
    )
    nid: int = tx.value("SELECT nid FROM blobs WHERE digest = ?", (digest,))
    return nid


def _release_blob(tx: WriteTransaction, nid: int) -> None:
    tx.execute("UPDATE blobs SET uses = uses - 1 WHERE nid = ?", (nid,))
