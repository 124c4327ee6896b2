"""Servers that could not be reached lately."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class FailingRow:
    """A server that fails since `failing_since`, is tried again at `retry_at` (ms since 1970), after a `pause` (ms);
    `reason` is a sentence for people."""

    server: str
    failing_since: int
    retry_at: int
    pause: int
    reason: str


_COLUMNS = "server, failing_since, retry_at, pause, reason"


def failing(tx: ReadTransaction, limit: int) -> list[FailingRow]:
    """The failing servers, at most `limit`: those that are tried again last first."""
    rows = tx.rows(f"SELECT {_COLUMNS} FROM failing_destinations ORDER BY retry_at DESC LIMIT ?", (limit,))
    return [FailingRow(*row) for row in rows]


def put(tx: WriteTransaction, rows: Iterable[FailingRow]) -> None:
    """Note that servers fail."""
    tx.executemany(
        "INSERT INTO failing_destinations VALUES (?, ?, ?, ?, ?) ON CONFLICT (server) DO UPDATE SET "
        "failing_since = excluded.failing_since, retry_at = excluded.retry_at, pause = excluded.pause, "
        "reason = excluded.reason",
        [(row.server, row.failing_since, row.retry_at, row.pause, row.reason) for row in rows],
    )


def remove(tx: WriteTransaction, servers: Iterable[str]) -> None:
    """Servers answer again."""
    tx.executemany("DELETE FROM failing_destinations WHERE server = ?", [(server,) for server in servers])


def forget_before(tx: WriteTransaction, retry_at: int) -> None:
    """Forget servers that nobody has tried for long: those whose next try was due before `retry_at` (ms)."""
    tx.execute("DELETE FROM failing_destinations WHERE retry_at < ?", (retry_at,))
