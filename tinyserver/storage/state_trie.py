"""The state of rooms: immutable maps (type nid, state key nid) -> event nid in a persistent, hash-consed radix trie.

A state is one integer, its *root*: the id of a node in `state_trie_node`, or `EMPTY`. Equal subtrees are the same row,
so a state change writes only the few small nodes on the path to it, states that differ little share nearly all their
rows, and two states are compared by skipping what has the same id. The shape is a function of the content alone: the
same map has the same root, however it came about.

The shape
    Up to `LEAF_MAX` entries are one leaf. More are a branch: by the digits of the type (least significant first) while
    there are several types below, and as soon as there is only one, by the digits of the state key. So all members of
    a room, and nothing else, are below one BY_KEY branch, and everything else is found without touching them.

The functions take `tx`, an open transaction (anything with sqlite3's `execute`); they never commit. Nothing is cached
here: SQLite's page cache serves the few point reads, and a rolled-back savepoint leaves nothing stale behind.
Garbage is collected by `tinyserver.storage.state_trie_collection`.

A root must be stored (as some event's state) by the transaction that computed it, else a collection may take it away.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from tinyserver.storage import state_trie_node as nodes
from tinyserver.storage.state_trie_node import (
    BY_KEY,
    BY_TYPE,
    HASH_BITS,
    LEAF,
    NID_LIMIT,
    PATH_BITS,
    SALTS,
    Branch,
    Key,
    Leaf,
    StateTrieCorrupt,
)

__all__ = [
    "EMPTY",
    "Key",
    "StateTrieCorrupt",
    "Transaction",
    "build",
    "conflicts",
    "diff",
    "get",
    "get_many",
    "items",
    "items_except_type",
    "items_of_type",
    "order_of",
    "update",
    "values_newer_than",
]

EMPTY = 0
"""The root of the state without entries; no row has this id."""

_TYPE, _STATE_KEY = 0, 1  # which part of a key a branch takes its digit from: an index into Key


class Transaction(Protocol):
    """What the trie needs of an open transaction."""

    def execute(self, sql: str, parameters: Sequence[int | bytes] = (), /) -> sqlite3.Cursor: ...


def read_node(tx: Transaction, node: int) -> bytes:
    """The bytes of a node, checked against its id. Raises StateTrieCorrupt."""
    row = tx.execute("SELECT content FROM state_trie_node WHERE id = ?", (node,)).fetchone()
    if row is None:
        raise StateTrieCorrupt(f"state trie node {node} is missing")
    content: bytes = row[0]
    if nodes.node_id(content, node >> HASH_BITS) != node:
        raise StateTrieCorrupt(f"state trie node {node} does not have the content that was written")
    return content


def _load(tx: Transaction, node: int) -> Leaf | Branch:
    return nodes.decode(node, read_node(tx, node))


def _digit(key: Key, axis: int, shift: int) -> int:
    return key[axis] >> shift & ((1 << nodes.DIGIT_BITS) - 1)


# --- reading one state ------------------------------------------------------------------------------------------------


def get(tx: Transaction, root: int, key: Key) -> int | None:
    """The event nid of `key` in the state, or None. Raises StateTrieCorrupt."""
    bits, mask = nodes.DIGIT_BITS, (1 << nodes.DIGIT_BITS) - 1
    type_path, key_path = key
    node = root
    while node:
        content = read_node(tx, node)
        kind = nodes.kind_of(content)
        if kind == LEAF:
            return nodes.find_in_leaf(content, node >> HASH_BITS, key)
        if kind == BY_TYPE:
            digit = type_path & mask
            type_path >>= bits
        elif kind == BY_KEY:
            if nodes.branch_type(content) != key[0]:
                return None
            digit = key_path & mask
            key_path >>= bits
        else:
            raise StateTrieCorrupt(f"state trie node {node} is of no known kind")
        node = nodes.branch_child(content, digit)
    return None


def get_many(tx: Transaction, root: int, keys: Iterable[Key]) -> dict[Key, int]:
    """The event nids of those `keys` that the state has; a node on several paths is read once."""
    found: dict[Key, int] = {}
    wanted = list(keys)
    stack = [(root, wanted, _TYPE, 0)] if root and wanted else []
    while stack:
        node, wanted, axis, shift = stack.pop()
        content = read_node(tx, node)
        kind = nodes.kind_of(content)
        if kind == LEAF:
            for key in wanted:
                event = nodes.find_in_leaf(content, node >> HASH_BITS, key)
                if event is not None:
                    found[key] = event
            continue
        if kind == BY_KEY:
            type_nid = nodes.branch_type(content)
            wanted = [key for key in wanted if key[0] == type_nid]
            if axis == _TYPE:
                axis, shift = _STATE_KEY, 0
        elif kind != BY_TYPE:
            raise StateTrieCorrupt(f"state trie node {node} is of no known kind")
        groups: dict[int, list[Key]] = {}
        for key in wanted:
            groups.setdefault(_digit(key, axis, shift), []).append(key)
        for digit, group in groups.items():
            if child := nodes.branch_child(content, digit):
                stack.append((child, group, axis, shift + nodes.DIGIT_BITS))
    return found


def items(tx: Transaction, root: int) -> Iterator[tuple[Key, int]]:
    """All entries of the state, in no particular order."""
    stack = [root] if root else []
    while stack:
        loaded = _load(tx, stack.pop())
        if isinstance(loaded, Leaf):
            yield from loaded.entries.items()
        else:
            stack.extend(loaded.children.values())


def items_of_type(tx: Transaction, root: int, type_nid: int) -> Iterator[tuple[Key, int]]:
    """The entries of one type, in no particular order; of the others at most a leaf is read."""
    node, path = root, type_nid
    while node:
        loaded = _load(tx, node)
        if isinstance(loaded, Leaf):
            yield from (entry for entry in loaded.entries.items() if entry[0][0] == type_nid)
            return
        if loaded.type_nid is not None:
            if loaded.type_nid == type_nid:
                yield from items(tx, node)
            return
        node = loaded.children.get(path & ((1 << nodes.DIGIT_BITS) - 1), EMPTY)
        path >>= nodes.DIGIT_BITS


def items_except_type(tx: Transaction, root: int, type_nid: int) -> Iterator[tuple[Key, int]]:
    """The entries of all types but one, in no particular order; the many of that one are not walked."""
    stack = [root] if root else []
    while stack:
        loaded = _load(tx, stack.pop())
        if isinstance(loaded, Leaf):
            yield from (entry for entry in loaded.entries.items() if entry[0][0] != type_nid)
        elif loaded.type_nid is None or loaded.type_nid != type_nid:
            stack.extend(loaded.children.values())


def values_newer_than(tx: Transaction, root: int, nid: int) -> Iterator[int]:
    """The event nids above `nid` in the state, in no particular order; subtrees without such are not read."""
    stack = [root] if nodes.newest_below(root) > nid else []
    while stack:
        loaded = _load(tx, stack.pop())
        if isinstance(loaded, Leaf):
            yield from (event for event in loaded.entries.values() if event > nid)
        else:
            stack.extend(child for child in loaded.children.values() if nodes.newest_below(child) > nid)


# --- comparing states -------------------------------------------------------------------------------------------------

_View = int | dict[Key, int]  # a node, or part of the entries of a leaf where another state has a branch


def diff(tx: Transaction, a: int, b: int) -> Iterator[tuple[Key, int | None, int | None]]:
    """The keys on which two states differ, each with its event nid (or None) in both; equal subtrees are skipped."""
    for key, (in_a, in_b) in _differences(tx, (a, b)):
        yield key, in_a, in_b


def conflicts(tx: Transaction, roots: Sequence[int]) -> dict[Key, tuple[int | None, ...]]:
    """The keys on which any of the states differ, each with its event nid (or None) in every one, in that order."""
    return dict(_differences(tx, tuple(roots)))


def _differences(tx: Transaction, roots: tuple[int, ...]) -> Iterator[tuple[Key, tuple[int | None, ...]]]:
    stack: list[tuple[tuple[_View, ...], int, int]] = [(roots, _TYPE, 0)] if len(set(roots)) > 1 else []
    while stack:
        views, axis, shift = stack.pop()
        loaded = _load_views(tx, views)
        branches = [node for node in loaded if isinstance(node, Branch)]
        if not branches:
            leaves = [node for node in loaded if isinstance(node, dict)]
            first = leaves[0].items()
            for key in {key for leaf in leaves[1:] if leaf is not leaves[0] for key, _ in first ^ leaf.items()}:
                yield key, tuple([leaf.get(key) for leaf in leaves])
            continue
        if axis == _TYPE and _of_one_type(loaded, branches[0].type_nid):
            axis, shift = _STATE_KEY, 0
        parts = [_parts(view, node, axis, shift) for view, node in zip(views, loaded, strict=True)]
        for digit in {digit for part in parts for digit in part}:
            below = tuple([part.get(digit, EMPTY) for part in parts])
            if below.count(below[0]) < len(below):
                stack.append((below, axis, shift + nodes.DIGIT_BITS))


def _load_views(tx: Transaction, views: tuple[_View, ...]) -> list[Branch | dict[Key, int]]:
    seen: dict[int, Branch | dict[Key, int]] = {EMPTY: {}}
    loaded: list[Branch | dict[Key, int]] = []
    for view in views:
        if isinstance(view, dict):
            loaded.append(view)
            continue
        if view not in seen:
            node = _load(tx, view)
            seen[view] = node.entries if isinstance(node, Leaf) else node
        loaded.append(seen[view])
    return loaded


def _of_one_type(loaded: list[Branch | dict[Key, int]], type_nid: int | None) -> bool:
    """Whether all of these have only entries of this type, so that they can be split by state key together."""
    return type_nid is not None and all(
        node.type_nid == type_nid if isinstance(node, Branch) else all(key[0] == type_nid for key in node)
        for node in loaded
    )


def _parts(view: _View, node: Branch | dict[Key, int], axis: int, shift: int) -> Mapping[int, _View]:
    """The parts of a node by their digit there."""
    if isinstance(node, Branch):
        if axis == _TYPE and node.type_nid is not None:
            return {_digit((node.type_nid, 0), _TYPE, shift): view}
        return node.children
    parts: dict[int, dict[Key, int]] = {}
    for key, event in node.items():
        parts.setdefault(_digit(key, axis, shift), {})[key] = event
    return parts


# --- writing ----------------------------------------------------------------------------------------------------------


def update(tx: Transaction, root: int, changes: Mapping[Key, int | None]) -> int:
    """The root of the state `root` with `changes` applied; None removes an entry.

    The same root comes back when that changes nothing. Raises ValueError for a nid out of range, StateTrieCorrupt.
    """
    for key, event in changes.items():
        _check(key, 1 if event is None else event)
    if not changes:
        return root
    writer = _Writer(tx)
    return writer.root(writer.changed(root, changes, _TYPE, 0))


def order_of(key: Key) -> tuple[int, int]:
    """By this, keys are in an order in which those that are near each other are so in the trie: whoever makes a large
    state with several updates writes few nodes twice."""
    return key[0], int(f"{key[1] & 0xFFFFFF:024b}"[::-1], 2)


def build(tx: Transaction, entries: Iterable[tuple[Key, int]]) -> int:
    """The root of a state given as a whole; `entries` is consumed once, at 24 to 48 bytes of memory per entry.

    Raises ValueError for a key that comes twice and for a nid out of range.
    """
    rows = array("q")
    for key, event in entries:
        _check(key, event)
        rows.extend((*key, event))
    writer = _Writer(tx)
    return writer.root(writer.shaped(rows, _TYPE, 0))


def _check(key: Key, event: int) -> None:
    if not (0 <= key[0] < 1 << PATH_BITS and 0 <= key[1] < 1 << PATH_BITS and 0 < event < NID_LIMIT):
        raise ValueError(f"not a state entry: {key} -> {event}")


_Subtree = int | dict[Key, int]
"""A branch or an unchanged node by id; or up to LEAF_MAX entries, a leaf not yet written: its parent may take it in."""


class _Writer:
    """Writes nodes within one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._collecting = tx.execute("SELECT 1 FROM state_trie_collection").fetchone() is not None

    def root(self, subtree: _Subtree) -> int:
        """The id of a whole trie, written."""
        if isinstance(subtree, int):
            return subtree
        return self._put(*nodes.encode_leaf(subtree)) if subtree else EMPTY

    def shaped(self, rows: array[int], axis: int, shift: int) -> _Subtree:
        """The subtree of new entries, given as a flat array of (type, state key, event nid), at this place."""
        if len(rows) // 3 <= nodes.LEAF_MAX or shift > PATH_BITS:
            entries = {(rows[at], rows[at + 1]): rows[at + 2] for at in range(0, len(rows), 3)}
            if len(entries) != len(rows) // 3:
                raise ValueError("a state has the same key twice")
            return entries
        if axis == _TYPE and rows[0::3].count(rows[0]) == len(rows) // 3:
            axis, shift = _STATE_KEY, 0
        type_nid = rows[0] if axis == _STATE_KEY else None
        mask = (1 << nodes.DIGIT_BITS) - 1
        parts: dict[int, array[int]] = {}
        for at in range(0, len(rows), 3):
            digit = rows[at + axis] >> shift & mask
            if digit not in parts:
                parts[digit] = array("q")
            parts[digit].extend(rows[at : at + 3])
        children: dict[int, _Subtree] = {
            digit: self.shaped(parts.pop(digit), axis, shift + nodes.DIGIT_BITS) for digit in sorted(parts)
        }
        return self._branch(type_nid, children)

    def changed(self, node: int, changes: Mapping[Key, int | None], axis: int, shift: int) -> _Subtree:
        """The subtree `node` (or EMPTY) at this place with `changes`, all of them belonging below this place."""
        before = _load(self._tx, node) if node else Leaf({})
        if isinstance(before, Leaf):
            return self._changed_leaf(node, before.entries, changes, axis, shift)
        type_nid, children = before
        if type_nid is not None and axis == _TYPE:
            foreign = any(event is not None and key[0] != type_nid for key, event in changes.items())
            if foreign:  # no longer of one type: what was here moves one level down, as it is
                children = {_digit((type_nid, 0), _TYPE, shift): node}
                type_nid = None
            else:
                changes = {key: event for key, event in changes.items() if key[0] == type_nid}
                axis, shift = _STATE_KEY, 0
        groups: dict[int, dict[Key, int | None]] = {}
        for key, event in changes.items():
            groups.setdefault(_digit(key, axis, shift), {})[key] = event
        after: dict[int, _Subtree] = dict(children)
        for digit, group in groups.items():
            after[digit] = self.changed(children.get(digit, EMPTY), group, axis, shift + nodes.DIGIT_BITS)
        after = {digit: subtree for digit, subtree in after.items() if subtree}
        if after == before.children and type_nid == before.type_nid:
            return node
        if None in changes.values() and (entries := self._few(after)) is not None:
            return entries
        return self._branch(type_nid, after)

    def _changed_leaf(
        self, node: int, entries: dict[Key, int], changes: Mapping[Key, int | None], axis: int, shift: int
    ) -> _Subtree:
        after = dict(entries)
        for key, event in changes.items():
            if event is None:
                after.pop(key, None)
            else:
                after[key] = event
        if after == entries:
            return node
        if len(after) <= nodes.LEAF_MAX:
            return after
        return self.shaped(array("q", [n for key, event in after.items() for n in (*key, event)]), axis, shift)

    def _few(self, children: Mapping[int, _Subtree]) -> dict[Key, int] | None:
        """All entries of these children if a leaf can hold them, after a removal."""
        entries: dict[Key, int] = {}
        for child in children.values():
            loaded = _load(self._tx, child) if isinstance(child, int) else Leaf(child)
            if isinstance(loaded, Branch) or len(entries) + len(loaded.entries) > nodes.LEAF_MAX:
                return None
            entries.update(loaded.entries)
        return entries

    def _branch(self, type_nid: int | None, children: Mapping[int, _Subtree]) -> int:
        """Write a branch over these children, of which none is empty and which are too many for a leaf."""
        written = {digit: self.root(child) for digit, child in children.items()}
        if type_nid is None and len(written) == 1:
            (only,) = written.values()
            if nodes.kind_of(read_node(self._tx, only)) == BY_KEY:
                return only  # only one type is left
        return self._put(*nodes.encode_branch(Branch(type_nid, written)))

    def _put(self, content: bytearray, newest: int) -> int:
        """Write a node, or find the same one; its id."""
        for salt in range(SALTS):
            content[0] = content[0] & 3 | salt << 2
            node, blob = nodes.node_id(content, newest), bytes(content)
            inserted = self._tx.execute(
                "INSERT INTO state_trie_node (id, content) VALUES (?, ?) ON CONFLICT DO NOTHING", (node, blob)
            )
            if inserted.rowcount == 0:
                row = self._tx.execute("SELECT content FROM state_trie_node WHERE id = ?", (node,)).fetchone()
                if row[0] != blob:
                    continue
            if self._collecting:
                self._tx.execute("INSERT INTO state_trie_fresh (id) VALUES (?) ON CONFLICT DO NOTHING", (node,))
            return node
        raise StateTrieCorrupt(f"{SALTS} different state trie nodes have the id of one with event nid {newest}")
