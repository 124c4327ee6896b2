"""The state trie against a plain dict: same content, same root, same answers; and nothing in use is ever collected."""

import random
import sqlite3
from collections.abc import Iterator
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyserver.storage import state_trie as trie
from tinyserver.storage import state_trie_collection as collection
from tinyserver.storage import state_trie_node as nodes

MEMBER = 3
State = dict[trie.Key, int]

# Types 3, 19 and 259 share their low digits; a few hundred state keys are enough for three levels of branches.
types = st.sampled_from([1, 2, MEMBER, 4, 19, 259, (1 << 63) - 1])
state_keys = st.one_of(st.integers(0, 300), st.sampled_from([1 << 20, 1 << 40, (1 << 63) - 1]))
keys = st.tuples(types, state_keys)
events = st.one_of(st.integers(1, 500), st.integers(1, nodes.NID_LIMIT - 1))
states = st.one_of(
    st.dictionaries(keys, events, max_size=12),
    st.builds(
        lambda few, members, start: few | {(MEMBER, start + n): n + 1 for n in range(members)},
        st.dictionaries(keys, events, max_size=12),
        st.integers(0, 120),
        st.integers(0, 50),
    ),
)
changes = st.dictionaries(keys, st.one_of(events, st.none()), max_size=60)


def open_trie() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(
        files("tinyserver.storage").joinpath("migrations/0001_initial/state_trie.sql").read_text("utf-8")
    )
    return connection


@pytest.fixture
def tx() -> Iterator[sqlite3.Connection]:
    connection = open_trie()
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def shared_tx() -> Iterator[sqlite3.Connection]:
    """For property tests: one database for all examples, as equal nodes may be there already in a real one too."""
    connection = open_trie()
    yield connection
    connection.close()


def applied(state: State, change: dict[trie.Key, int | None]) -> State:
    after = dict(state)
    for key, event in change.items():
        if event is None:
            after.pop(key, None)
        else:
            after[key] = event
    return after


def all_nodes(tx: sqlite3.Connection) -> set[int]:
    return {node for (node,) in tx.execute("SELECT id FROM state_trie_node")}


def reachable(tx: sqlite3.Connection, root: int) -> set[int]:
    found, stack = set(), [root] if root else []
    while stack:
        node = stack.pop()
        found.add(node)
        decoded = nodes.decode(node, trie.read_node(tx, node))
        if isinstance(decoded, nodes.Branch):
            stack.extend(decoded.children.values())
    return found


def room(members: int) -> State:
    state = {(type_nid, 0): type_nid for type_nid in range(1, 13) if type_nid != MEMBER}
    return state | {(MEMBER, n): 100 + n for n in range(members)}


def collect(tx: sqlite3.Connection, roots: list[int], slice_size: int = 7) -> None:
    collection.begin(tx)
    for root in roots:
        collection.mark(tx, [root])
    while not collection.sweep(tx, slice_size):
        pass


@settings(max_examples=150, deadline=None)
@given(start=states, steps=st.lists(changes, max_size=5))
def test_equals_a_dict_under_updates_and_has_one_root_per_content(
    shared_tx: sqlite3.Connection, start: State, steps: list[dict[trie.Key, int | None]]
) -> None:
    model, root = dict(start), trie.build(shared_tx, start.items())
    for change in steps:
        model, before, old_root = applied(model, change), model, root
        root = trie.update(shared_tx, root, change)
        assert (root == old_root) == (model == before)
    assert dict(trie.items(shared_tx, root)) == model
    one_by_one = trie.EMPTY
    for key, event in reversed(model.items()):
        one_by_one = trie.update(shared_tx, one_by_one, {key: event})
    assert root == one_by_one == trie.build(shared_tx, model.items())
    assert (root == trie.EMPTY) == (not model)
    assert trie.update(shared_tx, root, dict.fromkeys(model)) == trie.EMPTY


@settings(max_examples=100, deadline=None)
@given(state=states, asked=st.lists(keys, max_size=30), nid=st.integers(0, 500))
def test_reads_equal_the_dicts(shared_tx: sqlite3.Connection, state: State, asked: list[trie.Key], nid: int) -> None:
    root = trie.build(shared_tx, state.items())
    asked = asked + list(state)
    assert [trie.get(shared_tx, root, key) for key in asked] == [state.get(key) for key in asked]
    assert trie.get_many(shared_tx, root, asked) == {key: state[key] for key in asked if key in state}
    for type_nid in {key[0] for key in asked}:
        of_type = {key: event for key, event in state.items() if key[0] == type_nid}
        assert dict(trie.items_of_type(shared_tx, root, type_nid)) == of_type
        assert dict(trie.items_except_type(shared_tx, root, type_nid)) == {
            key: event for key, event in state.items() if key not in of_type
        }
    newer = sorted(event for event in state.values() if event > nid)
    assert sorted(trie.values_newer_than(shared_tx, root, nid)) == newer


@settings(max_examples=150, deadline=None)
@given(base=states, forks=st.lists(changes, min_size=1, max_size=4), unrelated=st.none() | states)
def test_diff_and_conflicts_equal_the_dicts(
    shared_tx: sqlite3.Connection,
    base: State,
    forks: list[dict[trie.Key, int | None]],
    unrelated: State | None,
) -> None:
    models = [base, *(applied(base, fork) for fork in forks)]
    if unrelated is not None:
        models.append(unrelated)
    roots = [trie.build(shared_tx, model.items()) for model in models]
    expected = {}
    for key in {key for model in models for key in model}:
        values = tuple(model.get(key) for model in models)
        if len(set(values)) > 1:
            expected[key] = values
    assert trie.conflicts(shared_tx, roots) == expected
    first, last = models[0], models[-1]
    assert sorted(trie.diff(shared_tx, roots[0], roots[-1])) == sorted(
        (key, first.get(key), last.get(key)) for key in first.keys() | last.keys() if first.get(key) != last.get(key)
    )


@settings(max_examples=60, deadline=None)
@given(history=st.lists(changes, max_size=8), kept=st.sets(st.integers(0, 8)), slice_size=st.integers(1, 40))
def test_a_collection_keeps_exactly_what_is_in_use(
    history: list[dict[trie.Key, int | None]], kept: set[int], slice_size: int
) -> None:
    tx = open_trie()
    roots, models = [trie.build(tx, room(60).items())], [room(60)]
    for change in history:
        roots.append(trie.update(tx, roots[-1], change))
        models.append(applied(models[-1], change))
    live = [n for n in range(len(roots)) if n in kept]
    in_use = set().union(*(reachable(tx, roots[n]) for n in live))
    collect(tx, [roots[n] for n in live], slice_size)
    assert all_nodes(tx) == in_use
    for n in live:
        assert dict(trie.items(tx, roots[n])) == models[n]
    assert not collection.under_way(tx)
    tx.close()


@pytest.mark.parametrize("seed", range(20))
def test_states_made_while_a_collection_runs_are_kept(seed: int) -> None:
    """At random moments a new state follows the newest one, is purged, or goes back to content that is garbage."""
    tx, dice = open_trie(), random.Random(seed)
    model = room(80)
    garbage, root = model | {(MEMBER, 5): 900}, trie.build(tx, model.items())
    trie.build(tx, garbage.items())
    live = {root: model}

    def step() -> None:
        nonlocal root, model
        change = {(MEMBER, dice.randrange(90)): dice.choice([None, dice.randrange(1, 2000)])}
        if dice.random() < 0.3:
            change = {key: garbage.get(key) for key in garbage.keys() | model.keys()}
        model, before = applied(model, change), root
        root = trie.update(tx, root, change)
        live[root] = model
        if dice.random() < 0.3 and before != root:
            live.pop(before, None)

    collection.begin(tx)
    step()
    for marked in list(live):
        if marked in live:
            collection.mark(tx, [marked])
        step()
    while not collection.sweep(tx, 5):
        step()
    for kept, content in live.items():
        assert dict(trie.items(tx, kept)) == content
    collect(tx, list(live))
    assert all_nodes(tx) == set().union(*(reachable(tx, kept) for kept in live))
    tx.close()


def test_a_collection_survives_a_restart_and_can_begin_anew(tx: sqlite3.Connection) -> None:
    root = trie.build(tx, room(100).items())
    trie.update(tx, root, {(MEMBER, 1): 999})
    collection.begin(tx)
    collection.mark(tx, [root])
    assert collection.under_way(tx)
    assert not collection.sweep(tx, 3)
    with pytest.raises(ValueError, match="mark"):
        collection.mark(tx, [root])
    collect(tx, [root])
    assert all_nodes(tx) == reachable(tx, root)
    with pytest.raises(ValueError, match="under way"):
        collection.sweep(tx, 3)


def test_a_small_room_is_one_node(tx: sqlite3.Connection) -> None:
    trie.build(tx, room(10).items())
    assert len(all_nodes(tx)) == 1


def test_a_change_in_a_big_room_writes_a_short_path(tx: sqlite3.Connection) -> None:
    root = trie.build(tx, room(5_000).items())
    before = all_nodes(tx)
    changed = trie.update(tx, root, {(MEMBER, 1234): 6_000})
    written = all_nodes(tx) - before
    assert changed in written
    assert len(written) <= 5
    assert {nodes.newest_below(node) for node in written} == {6_000}


class Counting:
    """A transaction that counts the nodes read."""

    def __init__(self, tx: sqlite3.Connection) -> None:
        self._tx, self.reads = tx, 0

    def execute(self, sql: str, parameters: tuple[int | bytes, ...] = ()) -> sqlite3.Cursor:
        self.reads += sql.startswith("SELECT content")
        return self._tx.execute(sql, parameters)


def test_only_what_is_needed_is_read(tx: sqlite3.Connection) -> None:
    root = trie.build(tx, room(5_000).items())
    other = trie.update(tx, root, {(MEMBER, 17): 9_001, (1, 0): 9_002})
    counting = Counting(tx)
    assert len(list(trie.items_except_type(counting, root, MEMBER))) == 11
    assert counting.reads < 20
    counting.reads = 0
    assert len(list(trie.diff(counting, root, other))) == 2
    assert counting.reads < 20
    counting.reads = 0
    assert sorted(trie.values_newer_than(counting, other, 9_000)) == [9_001, 9_002]
    assert counting.reads < 10
    counting.reads = 0
    assert trie.update(counting, root, {(MEMBER, 17): 117, (2, 0): 2, (2, 9): None}) == root
    assert counting.reads < 10


def test_different_content_with_the_same_hash_gets_another_id(
    tx: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a hash of 6 bits ids are often taken; the salt finds a free one and all states stay what they were."""
    honest = nodes.node_id

    def poor(content: bytes | bytearray, newest: int) -> int:
        return newest << nodes.HASH_BITS | honest(content, newest) & 63

    monkeypatch.setattr(nodes, "node_id", poor)
    root = trie.build(tx, room(100).items())
    states = {}
    for n in range(6):
        model = room(100) | {(MEMBER, n): 5_000 - n, (MEMBER, 99): 6_000}
        states[trie.update(tx, root, {(MEMBER, n): 5_000 - n, (MEMBER, 99): 6_000})] = model
    assert len(states) == 6
    for changed, model in states.items():
        assert dict(trie.items(tx, changed)) == model
        assert trie.build(tx, model.items()) == changed


def test_a_missing_or_altered_node_is_reported(tx: sqlite3.Connection) -> None:
    root = trie.build(tx, room(100).items())
    (content,) = tx.execute("SELECT content FROM state_trie_node WHERE id = ?", (root,)).fetchone()
    for at in range(len(content)):
        altered = bytearray(content)
        altered[at] ^= 1
        tx.execute("UPDATE state_trie_node SET content = ? WHERE id = ?", (bytes(altered), root))
        with pytest.raises(trie.StateTrieCorrupt):
            trie.get(tx, root, (1, 0))
    tx.execute("DELETE FROM state_trie_node WHERE id = ?", (root,))
    with pytest.raises(trie.StateTrieCorrupt, match="missing"):
        trie.get(tx, root, (1, 0))
    with pytest.raises(trie.StateTrieCorrupt, match="missing"):
        list(trie.diff(tx, root, trie.EMPTY))
    with pytest.raises(trie.StateTrieCorrupt, match="missing"):
        trie.update(tx, root, {(1, 0): 7})


@pytest.mark.parametrize(
    ("key", "event"),
    [((-1, 0), 1), ((0, -1), 1), ((1 << 63, 0), 1), ((0, 1 << 63), 1), ((0, 0), 0), ((0, 0), nodes.NID_LIMIT)],
)
def test_numbers_out_of_range_are_refused(tx: sqlite3.Connection, key: trie.Key, event: int) -> None:
    with pytest.raises(ValueError, match="not a state entry"):
        trie.update(tx, trie.EMPTY, {key: event})
    with pytest.raises(ValueError, match="not a state entry"):
        trie.build(tx, [(key, event)])
    assert not all_nodes(tx)


@pytest.mark.parametrize("copies", [2, 100])
def test_a_state_with_the_same_key_twice_is_refused(tx: sqlite3.Connection, copies: int) -> None:
    with pytest.raises(ValueError, match="twice"):
        trie.build(tx, [((1, 1), n + 1) for n in range(copies)])
