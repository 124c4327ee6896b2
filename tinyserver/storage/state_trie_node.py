"""How one node of the state trie looks as bytes, and how its id follows from them.

A node is a *leaf* (up to `LEAF_MAX` entries of the state, any mixture of types) or a *branch* (up to `FANOUT`
children). Everything here is pure: no SQL. `tinyserver.storage.state_trie` says how nodes make up a trie.

Identity
    `id = newest << HASH_BITS | hash`, where `newest` is the largest event nid at or below the node and `hash` is taken
    over the bytes. So the id is a function of the content, reading checks the bytes against the id, the age of a whole
    subtree can be told from the reference to it, and all nodes that one state change writes have neighbouring ids.

Bytes
    Byte 0 is the kind (2 bits) and the salt (6 bits, raised when another node has the id already).
    All integers are big-endian, of the smallest width that fits the largest of them in the node, so that a column can
    be indexed or searched without decoding the rest.

    leaf:   kind | type width, state key width | age width, common type width | common type | keys | ages
            With a common type the type width is 0. Keys (type, state key) ascend; an age is `newest - event nid`.
    branch: kind | reference width, type width | type (BY_KEY only) | bitmap of the digits with a child | references
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

Key = tuple[int, int]
"""(type nid, state key nid)."""

DIGIT_BITS = 4
"""Bits of a type or state key nid that one branch looks at; its fan-out is 2 ** DIGIT_BITS."""
LEAF_MAX = 24
"""Entries that a leaf holds before it becomes a branch. The state of a small room is a single leaf."""
HASH_BITS = 24
NID_LIMIT = 1 << 39
"""Event nids are below this: id = 39 bits of nid + 24 bits of hash, within SQLite's 63 bits."""
PATH_BITS = 63
"""Type and state key nids are below 2 ** PATH_BITS."""
SALTS = 64

LEAF, BY_TYPE, BY_KEY = 0, 1, 2


class StateTrieCorrupt(Exception):
    """A node that should exist is missing, or its bytes are not those that were written."""


class Leaf(NamedTuple):
    """A decoded leaf."""

    entries: dict[Key, int]


class Branch(NamedTuple):
    """A decoded branch: `children` by digit. `type_nid` is the type of everything below, None if it has several."""

    type_nid: int | None
    children: dict[int, int]


def node_id(content: bytes | bytearray, newest: int) -> int:
    """The id of the node with these bytes and this largest event nid."""
    digest = blake2b(content + newest.to_bytes(5, "big"), digest_size=HASH_BITS // 8).digest()
    return newest << HASH_BITS | int.from_bytes(digest, "big")


def newest_below(node: int) -> int:
    """The largest event nid at or below the node with this id."""
    return node >> HASH_BITS


def kind_of(content: bytes) -> int:
    """LEAF, BY_TYPE or BY_KEY."""
    return content[0] & 3


def _width(value: int) -> int:
    return (value.bit_length() + 7) // 8 or 1


def encode_leaf(entries: Mapping[Key, int]) -> tuple[bytearray, int]:
    """The bytes (salt 0) and the largest event nid of a leaf; `entries` has at least one."""
    newest = max(entries.values())
    ordered = sorted(entries.items())
    age_width = _width(newest - min(entries.values()))
    key_width = _width(max(state_key for _, state_key in entries))
    common_type = ordered[0][0][0]
    if common_type == ordered[-1][0][0]:
        common_width, type_width = _width(common_type), 0
    else:
        common_width, type_width = 0, _width(ordered[-1][0][0])
    content = bytearray((LEAF, type_width << 4 | key_width, age_width << 4 | common_width))
    if common_width:
        content += common_type.to_bytes(common_width, "big")
    for (type_nid, state_key), _ in ordered:
        if type_width:
            content += type_nid.to_bytes(type_width, "big")
        content += state_key.to_bytes(key_width, "big")
    for _, event in ordered:
        content += (newest - event).to_bytes(age_width, "big")
    return content, newest


def encode_branch(branch: Branch) -> tuple[bytearray, int]:
    """The bytes (salt 0) and the largest event nid of a branch; it has at least one child."""
    children = branch.children
    newest_child = max(children.values())
    width = _width(newest_child)
    if branch.type_nid is None:
        content = bytearray((BY_TYPE, width << 4))
    else:
        type_width = _width(branch.type_nid)
        content = bytearray((BY_KEY, width << 4 | type_width)) + branch.type_nid.to_bytes(type_width, "big")
    bitmap = 0
    for digit in children:
        bitmap |= 1 << digit
    content += bitmap.to_bytes((1 << DIGIT_BITS) // 8, "big")
    for digit in sorted(children):
        content += children[digit].to_bytes(width, "big")
    return content, newest_child >> HASH_BITS


def decode(node: int, content: bytes) -> Leaf | Branch:
    """The node with this id and these bytes."""
    kind = content[0] & 3
    if kind == LEAF:
        return Leaf(_leaf_entries(content, node >> HASH_BITS))
    if kind in (BY_TYPE, BY_KEY):
        return _branch(content)
    raise StateTrieCorrupt(f"state trie node {node} is of no known kind")


def _leaf_columns(content: bytes) -> tuple[int, int, int, int | None, int, int]:
    """(type width, state key width, age width, common type, start of the keys, number of entries)."""
    type_width, key_width = content[1] >> 4, content[1] & 15
    age_width, common_width = content[2] >> 4, content[2] & 15
    start = 3 + common_width
    common_type = int.from_bytes(content[3:start], "big") if common_width else None
    count = (len(content) - start) // (type_width + key_width + age_width)
    return type_width, key_width, age_width, common_type, start, count


def _leaf_entries(content: bytes, newest: int) -> dict[Key, int]:
    type_width, key_width, age_width, common_type, start, count = _leaf_columns(content)
    number = int.from_bytes
    step = type_width + key_width
    ages = start + count * step
    values = [newest - number(content[at : at + age_width], "big") for at in range(ages, len(content), age_width)]
    if common_type is not None:
        keys = [(common_type, number(content[at : at + key_width], "big")) for at in range(start, ages, key_width)]
    else:
        keys = [
            (number(content[at : at + type_width], "big"), number(content[at + type_width : at + step], "big"))
            for at in range(start, ages, step)
        ]
    return dict(zip(keys, values, strict=True))


def _branch(content: bytes) -> Branch:
    width, type_width = content[1] >> 4, content[1] & 15
    start = 2 + type_width
    type_nid = int.from_bytes(content[2:start], "big") if type_width else None
    end = start + (1 << DIGIT_BITS) // 8
    bitmap = int.from_bytes(content[start:end], "big")
    children = {}
    for digit in range(1 << DIGIT_BITS):
        if bitmap >> digit & 1:
            children[digit] = int.from_bytes(content[end : end + width], "big")
            end += width
    return Branch(type_nid, children)


def find_in_leaf(content: bytes, newest: int, key: Key) -> int | None:
    """The event nid of `key` in a leaf, without decoding the others."""
    type_nid, state_key = key
    type_width, key_width, age_width, common_type, start, count = _leaf_columns(content)
    if state_key >> key_width * 8:
        return None
    wanted = state_key.to_bytes(key_width, "big")
    if common_type is None:
        if type_nid >> type_width * 8:
            return None
        wanted = type_nid.to_bytes(type_width, "big") + wanted
    elif common_type != type_nid:
        return None
    step = type_width + key_width
    ages = start + count * step
    at = content.find(wanted, start, ages)
    while at >= 0 and (at - start) % step:
        at = content.find(wanted, at + 1, ages)
    if at < 0:
        return None
    age = ages + (at - start) // step * age_width
    return newest - int.from_bytes(content[age : age + age_width], "big")


def branch_type(content: bytes) -> int:
    """The type of everything below a BY_KEY branch."""
    return int.from_bytes(content[2 : 2 + (content[1] & 15)], "big")


def branch_child(content: bytes, digit: int) -> int:
    """The child of a branch at `digit`, 0 if there is none, without decoding the others."""
    width = content[1] >> 4
    start = 2 + (content[1] & 15)
    end = start + (1 << DIGIT_BITS) // 8
    bitmap = int.from_bytes(content[start:end], "big")
    if not bitmap >> digit & 1:
        return 0
    at = end + (bitmap & ((1 << digit) - 1)).bit_count() * width
    return int.from_bytes(content[at : at + width], "big")
