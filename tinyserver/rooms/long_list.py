"""Lists of events that may be longer than memory should hold: read and rendered a batch at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction

BATCH = 250
"""How many events are read at once."""

Render = Callable[[ReadTransaction, Sequence[int]], list[bytes]]


class LongList:
    """JSON texts, one for each of many events; the first of them are ready, the others are read on demand.

    Args:
        tx: the open transaction, for the first batch.
        db: for the others. Events do not change but by redaction, so later snapshots give the same list.
        nids: of the events.
        render: gives the texts of some of the events; may leave some out.
    """

    def __init__(self, tx: ReadTransaction, db: Database, nids: Sequence[int], render: Render) -> None:
        self._db = db
        self._render = render
        self._rest = nids[BATCH:]
        self.first = render(tx, nids[:BATCH])

    @property
    def is_long(self) -> bool:
        """Whether there is more than `first`."""
        return bool(self._rest)

    async def rest(self) -> AsyncIterator[list[bytes]]:
        """What comes after `first`, a batch at a time."""
        for start in range(0, len(self._rest), BATCH):
            batch = self._rest[start : start + BATCH]
            yield await self._db.read(lambda tx, batch=batch: self._render(tx, batch))  # type: ignore[misc]
