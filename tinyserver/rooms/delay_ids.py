"""How an event that was delayed is known: by the transaction ID that it was sent with, which no client can have."""

from __future__ import annotations

_PREFIX = "\x1fdelayed:"


def transaction_of(delay_id: str) -> str:
    """The transaction ID with which a delayed event is sent, so that it is never sent twice."""
    return _PREFIX + delay_id


def delay_of(txn_id: str) -> str | None:
    """The delay ID of the event that was sent with a transaction ID, None if it was not delayed."""
    return txn_id.removeprefix(_PREFIX) if txn_id.startswith(_PREFIX) else None
