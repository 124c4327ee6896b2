"""What the state trie costs: bytes and pages per state change, microseconds per read.

    python -m benchmarks.state_trie                 # the trie as it is, for rooms of several sizes
    python -m benchmarks.state_trie --compare       # and other shapes, and other ways to key its rows

Every figure comes from a real database file (WAL, pages of 4 kB): its growth over many single-change commits, and the
pages that went to the write-ahead log. Every second change is a join (small rooms
grow), the others replace a member event.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sqlite3
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

MEMBER = 3
OTHER_TYPES = (1, 2, 4, 5, 6, 7, 8, 9, 10)
CHANGES = 2_000
PAGE = 4096


def open_database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {PAGE}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.executescript(
        files("tinyserver.storage").joinpath("migrations/0001_initial/state_trie.sql").read_text("utf-8")
    )
    return connection


def load_trie(digit_bits: int | None = None, leaf_max: int | None = None) -> ModuleType:
    """The trie's module; for another shape a copy of its own, so that the program's stays as it is."""
    from tinyserver.storage import state_trie, state_trie_node

    if digit_bits is None or leaf_max is None:
        return state_trie

    def copy(original: ModuleType) -> ModuleType:
        assert original.__file__ is not None
        spec = importlib.util.spec_from_file_location("copy_of_" + original.__name__, original.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    nodes, trie = copy(state_trie_node), copy(state_trie)
    nodes.DIGIT_BITS, nodes.LEAF_MAX = digit_bits, leaf_max  # type: ignore[attr-defined]
    trie.nodes = nodes  # type: ignore[attr-defined]
    for name in ("Branch", "Leaf"):
        setattr(trie, name, getattr(nodes, name))
    return trie


def entries(members: int) -> Iterator[tuple[tuple[int, int], int]]:
    """A room as it arrives by a remote join: members among other users of the server, events in one run."""
    dice = random.Random(1)
    for n, type_nid in enumerate(OTHER_TYPES):
        yield (type_nid, 1), 200_000 + n
    for n, user in enumerate(sorted(dice.sample(range(2, members * 3 // 2 + 20), members))):
        yield (MEMBER, user), 200_020 + n


def timed(repeat: int, function: Callable[[], object]) -> float:
    """Microseconds per call: the best of three runs."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(repeat):
            function()
        best = min(best, time.perf_counter() - start)
    return best / repeat * 1e6


def used_bytes(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    pages_in_use: int = pages - free
    return pages_in_use * PAGE


class Recorder:
    """A transaction that remembers what was written, for the comparison of keys."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.written: list[tuple[int, bytes]] = []

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        if sql.startswith("INSERT INTO state_trie_node"):
            self.written.append(parameters)
        return self._connection.execute(sql, parameters)


def measure(trie: ModuleType, members: int, directory: Path) -> tuple[list[str], list[list[tuple[int, bytes]]]]:
    """One row of the table, and the nodes written: first by the build, then by every change."""
    path = directory / f"{members}.db"
    connection = open_database(path)
    recorder = Recorder(connection)
    start = time.perf_counter()
    connection.execute("BEGIN")
    root = trie.build(recorder, entries(members))
    connection.execute("COMMIT")
    build_ms = (time.perf_counter() - start) * 1e3
    batches, recorder.written = [recorder.written], []
    built = used_bytes(connection)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    dice = random.Random(2)
    keys = [key for key, _ in entries(members)]
    first_root, started = root, time.perf_counter()
    for n in range(CHANGES):
        key = (MEMBER, members * 2 + n) if n % 2 else dice.choice(keys)
        connection.execute("BEGIN")
        root = trie.update(recorder, root, {key: 400_000 + n * 5})
        connection.execute("COMMIT")
        batches.append(recorder.written)
        recorder.written = []
    change_us = (time.perf_counter() - started) / CHANGES * 1e6
    per_change = (used_bytes(connection) - built) / CHANGES
    pages = os.path.getsize(f"{path}-wal") / (PAGE + 24) / CHANGES
    nodes_per_change = sum(map(len, batches[1:])) / CHANGES

    few = trie.update(connection, first_root, {key: 500_000 + n for n, key in enumerate(dice.sample(keys, 5))})
    lookups = iter([dice.choice(keys) for _ in range(60_000)])
    row = [
        f"{members:,}",
        f"{built / max(members, 1):.0f}",
        f"{per_change:.0f}",
        f"{nodes_per_change:.1f}",
        f"{pages:.1f}",
        f"{change_us:.0f}",
        f"{timed(3_000, lambda: trie.get(connection, root, next(lookups))):.1f}",
        f"{timed(50, lambda: list(trie.diff(connection, first_root, few))):.0f}",
        f"{timed(50, lambda: list(trie.items_except_type(connection, root, MEMBER))):.0f}",
        f"{timed(1, lambda: sum(1 for _ in trie.items(connection, root))) / 1e3:.1f}",
        f"{build_ms:.0f}",
    ]
    connection.close()
    return row, batches


HEAD = (
    "members", "B/entry", "B/change", "nodes", "pages", "change us", "get us", "diff 5 us", "no members us", "walk ms",
    "build ms",
)  # fmt: skip


def print_table(head: tuple[str, ...], rows: list[list[str]]) -> None:
    widths = [max(len(row[n]) for row in [list(head), *rows]) for n in range(len(head))]
    for row in [list(head), *rows]:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def compare_shapes(members: int) -> None:
    print(f"\nShapes, a room of {members:,} members")
    rows = []
    for digit_bits in (3, 4, 5):
        for leaf_max in (8, 16, 24, 32, 48):
            with tempfile.TemporaryDirectory() as directory:
                row, _ = measure(load_trie(digit_bits, leaf_max), members, Path(directory))
            rows.append([str(1 << digit_bits), str(leaf_max), *row])
    print_table(("fan-out", "leaf max", *HEAD), rows)


def compare_keys(members: int) -> None:
    """The same nodes stored under ids of several kinds; where references are longer or shorter the bytes follow."""
    from tinyserver.storage import state_trie_node as nodes

    with tempfile.TemporaryDirectory() as directory:
        _, batches = measure(load_trie(), members, Path(directory))

    def resized(content: bytes, width: int) -> bytes:
        if nodes.kind_of(content) == nodes.LEAF:
            return content
        start = 2 + (content[1] & 15) + (1 << nodes.DIGIT_BITS) // 8
        return content[:start] + bytes((len(content) - start) // (content[1] >> 4) * width)

    def newest_and_hash(connection: sqlite3.Connection, node: int, content: bytes) -> None:
        connection.execute("INSERT OR IGNORE INTO node VALUES (?, ?)", (node, content))

    def random_id(connection: sqlite3.Connection, node: int, content: bytes) -> None:
        hashed = int.from_bytes(blake2b(node.to_bytes(8, "big"), digest_size=8).digest(), "big", signed=True)
        connection.execute("INSERT OR IGNORE INTO node VALUES (?, ?)", (hashed, resized(content, 8)))

    def sequential_id(connection: sqlite3.Connection, node: int, content: bytes) -> None:
        hashed = int.from_bytes(blake2b(node.to_bytes(8, "big"), digest_size=8).digest(), "big", signed=True)
        connection.execute("INSERT OR IGNORE INTO node VALUES (NULL, ?, ?)", (resized(content, 3), hashed))

    plain = "CREATE TABLE node (id INTEGER PRIMARY KEY, content BLOB)"
    indexed = "CREATE TABLE node (id INTEGER PRIMARY KEY, content BLOB, hash INTEGER UNIQUE)"
    rows = []
    for name, schema, insert in (
        ("newest nid and hash (this)", plain, newest_and_hash),
        ("random 64-bit hash", plain, random_id),
        ("sequential, unique hash", indexed, sequential_id),
    ):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "keys.db"
            connection = open_database(path)
            connection.execute(schema)
            sizes = []
            for n, batch in enumerate(batches):
                connection.execute("BEGIN")
                for node, content in batch:
                    insert(connection, node, content)
                connection.execute("COMMIT")
                if n == 0:
                    sizes.append(used_bytes(connection))
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            sizes.append(used_bytes(connection))
            pages = os.path.getsize(f"{path}-wal") / (PAGE + 24) / CHANGES
            connection.close()
        rows.append([name, f"{sizes[0]:,}", f"{(sizes[1] - sizes[0]) / CHANGES:.0f}", f"{pages:.1f}"])
    print(f"\nKeys of the rows, a room of {members:,} members")
    print_table(("id", "B built", "B/change", "pages/change"), rows)


def build_memory(members: int) -> float:
    """Peak Python memory of one build, MB, the entries coming from a generator."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(
        files("tinyserver.storage").joinpath("migrations/0001_initial/state_trie.sql").read_text("utf-8")
    )
    trie = load_trie()
    pairs = (((MEMBER, n), n + 1) for n in range(members))
    tracemalloc.start()
    trie.build(connection, pairs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    connection.close()
    return peak / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", action="store_true", help="also other shapes and keys")
    arguments = parser.parse_args()
    rows = []
    for members in (5, 100, 2_000, 50_000):
        with tempfile.TemporaryDirectory() as directory:
            row, _ = measure(load_trie(), members, Path(directory))
        rows.append(row)
    print_table(HEAD, rows)
    print(f"Peak memory of building 50,000 entries: {build_memory(50_000):.1f} MB")
    if arguments.compare:
        compare_shapes(50_000)
        compare_shapes(500)
        compare_keys(50_000)


if __name__ == "__main__":
    main()
