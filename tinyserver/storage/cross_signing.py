"""Cross-signing keys, and signatures that users made on the keys of others.

spec: client-server-api#cross-signing
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction


class Usage(IntEnum):
    """What a cross-signing key is for."""

    MASTER = 1
    SELF_SIGNING = 2
    USER_SIGNING = 3


@dataclass(frozen=True, slots=True)
class UserSignature:
    """A signature on the master key of the user `target`: `signed_key` is that key, `key_id` the one that
    signed it."""

    target: int
    signed_key: str
    key_id: str
    signature: str


def of_user(tx: ReadTransaction, user: int) -> dict[Usage, bytes]:
    """The cross-signing keys of a user, each a JSON object."""
    return {
        Usage(row[0]): row[1]
        for row in tx.execute("SELECT usage, keys FROM cross_signing_keys WHERE user = ?", (user,))
    }


def is_key_id(tx: ReadTransaction, user: int, key_id: str) -> bool:
    """Whether one of a user's cross-signing keys goes by an ID (without its algorithm)."""
    return any(f"ed25519:{key_id}" in json.loads(keys)["keys"] for keys in of_user(tx, user).values())


def of_users(tx: ReadTransaction, users: Iterable[int]) -> Iterator[tuple[int, Usage, bytes]]:
    """(user, usage, JSON object) of all cross-signing keys of some users."""
    for user, usage, keys in tx.execute(
        "SELECT k.user, k.usage, k.keys FROM json_each(?) AS wanted "
        "CROSS JOIN cross_signing_keys k ON k.user = wanted.value",
        ("[" + ",".join(map(str, users)) + "]",),
    ):
        yield user, Usage(usage), keys


def put(tx: WriteTransaction, user: int, usage: Usage, keys: bytes) -> None:
    """Store a key in the place of the one with the same usage."""
    tx.execute(
        "INSERT OR REPLACE INTO cross_signing_keys (user, usage, keys) VALUES (?, ?, ?)", (user, int(usage), keys)
    )


def remove(tx: WriteTransaction, user: int, usage: Usage) -> None:
    """Delete the key with a usage."""
    tx.execute("DELETE FROM cross_signing_keys WHERE user = ? AND usage = ?", (user, int(usage)))


def sign(tx: WriteTransaction, signer: int, signature: UserSignature) -> None:
    """Store a signature on another user's master key; the signer's devices are told."""
    position = tx.changed(Topic.USER, signer)
    tx.execute(
        "INSERT OR REPLACE INTO user_signatures (signer, target, signed_key, key_id, signature, position) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (signer, signature.target, signature.signed_key, signature.key_id, signature.signature, position),
    )


def signatures_of(tx: ReadTransaction, signer: int) -> dict[int, UserSignature]:
    """The signatures that a user made on others, by the user whose key is signed."""
    return {
        row[0]: UserSignature(*row)
        for row in tx.execute(
            "SELECT target, signed_key, key_id, signature FROM user_signatures WHERE signer = ?", (signer,)
        )
    }


def signed_between(tx: ReadTransaction, signer: int, since: int, until: int) -> list[int]:
    """The users whose master keys a user signed at a position in (since, until]."""
    return [
        row[0]
        for row in tx.execute(
            "SELECT target FROM user_signatures WHERE signer = ? AND position > ? AND position <= ?",
            (signer, since, until),
        )
    ]


def remove_signatures_by(tx: WriteTransaction, signer: int) -> None:
    """Forget what a user signed: the key that did it is gone."""
    tx.execute("DELETE FROM user_signatures WHERE signer = ?", (signer,))


def remove_signatures_on(tx: WriteTransaction, target: int) -> None:
    """Forget the signatures on a user's master key: it is gone."""
    tx.execute("DELETE FROM user_signatures WHERE target = ?", (target,))
