"""Garbage collection of the state trie: mark and sweep, in slices, between which other transactions may write.

    begin(tx)                                      # one transaction, then
    mark(tx, some_roots)                           # any number of transactions, until all roots in use were given, then
    while not sweep(tx, slice_size): ...           # one transaction each

A collection's progress lives in the database: a restart goes on where it stood (`under_way` says whether there is one),
and starting over by `begin` is always allowed. Nodes written or reused while it runs are noted by
`tinyserver.storage.state_trie` in `state_trie_fresh`, so that a state made after its roots were enumerated is kept too.
What is marked is in a table, not in memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinyserver.storage import state_trie_node as nodes
from tinyserver.storage.state_trie import Transaction, read_node

__all__ = ["begin", "mark", "sweep", "under_way"]


def under_way(tx: Transaction) -> bool:
    """Whether a collection has begun and not finished."""
    return tx.execute("SELECT 1 FROM state_trie_collection").fetchone() is not None


def begin(tx: Transaction) -> None:
    """Begin a collection, or begin the one under way anew."""
    _forget(tx)
    tx.execute("INSERT INTO state_trie_collection (only_row, swept_up_to) VALUES (1, 0)")


def mark(tx: Transaction, roots: Iterable[int]) -> None:
    """Mark everything below these roots as in use. Work and time grow with the nodes not marked before.

    Raises ValueError if no collection is under way or it sweeps already, StateTrieCorrupt.
    """
    row = tx.execute("SELECT swept_up_to FROM state_trie_collection").fetchone()
    if row is None or row[0] != 0:
        raise ValueError("no collection is under way that could still mark")
    for root in roots:
        _mark(tx, root)


def sweep(tx: Transaction, limit: int) -> bool:
    """Delete the unmarked among the next `limit` nodes; True when the last was seen and the collection is over.

    Raises ValueError if no collection is under way, StateTrieCorrupt.
    """
    row = tx.execute("SELECT swept_up_to FROM state_trie_collection").fetchone()
    if row is None:
        raise ValueError("no collection is under way")
    for (fresh,) in tx.execute("SELECT id FROM state_trie_fresh").fetchall():
        _mark(tx, fresh)
    tx.execute("DELETE FROM state_trie_fresh")
    begin_at = row[0]
    (end_at,) = tx.execute(
        "SELECT max(id) FROM (SELECT id FROM state_trie_node WHERE id > ? ORDER BY id LIMIT ?)", (begin_at, limit)
    ).fetchone()
    if end_at is None:
        _forget(tx)
        return True
    tx.execute(
        "DELETE FROM state_trie_node WHERE id > ? AND id <= ? AND id NOT IN (SELECT id FROM state_trie_mark)",
        (begin_at, end_at),
    )
    tx.execute("UPDATE state_trie_collection SET swept_up_to = ?", (end_at,))
    return False


def _mark(tx: Transaction, root: int) -> None:
    stack = [root] if root else []
    while stack:
        node = stack.pop()
        if tx.execute("INSERT INTO state_trie_mark (id) VALUES (?) ON CONFLICT DO NOTHING", (node,)).rowcount:
            loaded = nodes.decode(node, read_node(tx, node))
            if isinstance(loaded, nodes.Branch):
                stack.extend(loaded.children.values())


def _forget(tx: Transaction) -> None:
    for table in ("state_trie_collection", "state_trie_mark", "state_trie_fresh"):
        tx.execute(f"DELETE FROM {table}")
