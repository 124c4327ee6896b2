"""Unread counts for sync: a user's devices are woken together, and are told the same."""

from __future__ import annotations

from tinyserver.bell import Bell
from tinyserver.storage.transaction import ReadTransaction, Topic
from tinyserver.sync.sources import UnreadByThread, UnreadSource

MAX_KEPT = 500
"""For how many users and rooms the newest counts are kept."""


class SharedUnread:
    """Implements `UnreadSource` on the event loop: what was counted holds until something happens that may change it.

    Args:
        bell: tells of that.
        source: counts.
    """

    def __init__(self, bell: Bell, source: UnreadSource) -> None:
        self._bell = bell
        self._source = source
        self._kept: dict[tuple[int, int, bool], tuple[int, int, UnreadByThread]] = {}

    def counts(self, tx: ReadTransaction, user: int, room: int, *, threads: bool) -> UnreadByThread:
        """The unread counts; with `threads` those of threads are apart, else all are in one."""
        key = (user, room, threads)
        kept = self._kept.pop(key, None)
        if kept is None or kept[1] != tx.caches.threads_moved or self._may_have_changed(user, room, kept[0]):
            # The transaction sees at least what the bell has told of: perhaps more, of which it will tell yet.
            counts = self._source.counts(tx, user, room, threads=threads)
            kept = (self._bell.position, tx.caches.threads_moved, counts)
        self._kept[key] = kept
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        return kept[2]

    def _may_have_changed(self, user: int, room: int, since: int) -> bool:
        changes = self._bell.changes
        return (
            changes[Topic.TIMELINE].changed(room, since)
            or changes[Topic.RECEIPT].changed(room, since)
            or changes[Topic.USER].changed(user, since)
            or changes[Topic.MEMBERSHIP].changed(user, since)
        )
