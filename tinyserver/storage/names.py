"""Interned strings: user IDs, event types, state keys and server names as small numbers."""

from __future__ import annotations

from collections.abc import Iterable

from tinyserver.storage.errors import CorruptDatabase
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def find(tx: ReadTransaction, name: str) -> int | None:
    """The number of a string, or None when it was never stored."""
    if isinstance(tx, WriteTransaction) and name in tx.new_names:
        return tx.new_names[name]
    nid = tx.caches.nids.get(name)
    if nid is None:
        nid = tx.value("SELECT nid FROM names WHERE name = ?", (name,))
        if nid is not None and not isinstance(tx, WriteTransaction):
            tx.caches.nids.put(name, nid)
    return nid


def intern(tx: WriteTransaction, name: str) -> int:
    """The number of a string, given now when it has none."""
    nid = find(tx, name)
    if nid is None:
        nid = tx.execute("INSERT INTO names (name) VALUES (?)", (name,)).lastrowid
        assert nid is not None
        tx.new_names[name] = nid
    return nid


def text(tx: ReadTransaction, nid: int) -> str:
    """The string behind a number.

    Raises:
        CorruptDatabase: there is none.
    """
    name = tx.caches.names.get(nid)
    if name is None:
        name = tx.value("SELECT name FROM names WHERE nid = ?", (nid,))
        if name is None:
            raise CorruptDatabase(f"no name has the number {nid}")
        if not isinstance(tx, WriteTransaction):
            tx.caches.names.put(nid, name)
    return name


def texts(tx: ReadTransaction, nids: Iterable[int]) -> dict[int, str]:
    """The strings behind several numbers.

    Raises:
        CorruptDatabase: one of them is nobody's.
    """
    known = tx.caches.names
    found: dict[int, str] = {}
    missing = []
    for nid in nids:
        name = known.get(nid)
        if name is None:
            missing.append(nid)
        else:
            found[nid] = name
    if missing:
        read = dict(
            tx.execute(
                "SELECT nid, name FROM json_each(?) AS wanted CROSS JOIN names ON nid = wanted.value",
                ("[" + ",".join(map(str, missing)) + "]",),
            )
        )
        for nid in missing:
            if nid not in read:
                raise CorruptDatabase(f"no name has the number {nid}")
            if not isinstance(tx, WriteTransaction):
                known.put(nid, read[nid])
        found.update(read)
    return found
