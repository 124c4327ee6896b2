"""Profiles of local users."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction

MAX_CHANGES = 100
"""Of how many fields of a profile it is known when they changed: those that changed last."""


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """The profile of a user (nid): `fields` as the text of a JSON object, and the positions of `changes`, by field."""

    user: int
    fields: str
    changes: Mapping[str, int]


def get(tx: ReadTransaction, user: int) -> str | None:
    """All profile fields of a user as the text of a JSON object, or None when none was ever set."""
    fields: str | None = tx.value("SELECT fields FROM profiles WHERE user = ?", (user,))
    return fields


def shown_in_rooms(tx: ReadTransaction, user: int) -> tuple[str | None, str | None]:
    """The display name and the avatar's URI of a local user, as member events carry them."""
    fields = json.loads(get(tx, user) or "{}")
    return fields.get("displayname"), fields.get("avatar_url")


def put(tx: WriteTransaction, user: int, fields: str, changed: str, *, untold: bool) -> None:
    """Replace all profile fields of a user (the text of a JSON object); the bell rings for those who know the user.

    Args:
        changed: the field that has changed.
        untold: rooms must be told of it; `told` says that they were.
    """
    position = tx.changed(Topic.PROFILE, user)
    changes: dict[str, Any] = json.loads(tx.value("SELECT changes FROM profiles WHERE user = ?", (user,)) or "{}")
    changes.pop(changed, None)
    changes[changed] = position  # at the end
    for oldest in list(changes)[:-MAX_CHANGES]:
        del changes[oldest]
    tx.execute(
        "INSERT INTO profiles (user, fields, untold, changes, position) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (user) DO UPDATE SET fields = excluded.fields, untold = max(untold, excluded.untold), "
        "changes = excluded.changes, position = excluded.position",
        (user, fields, untold, json.dumps(changes), position),
    )


def changed_between(tx: ReadTransaction, since: int, until: int) -> Iterator[ProfileRow]:
    """The profiles that changed at a position in (since, until]; from 0 all that were ever set, one by one."""
    rows = tx.execute(
        "SELECT user, fields, changes FROM profiles WHERE position > ? AND position <= ?",
        (since, until),
    )
    return (ProfileRow(user, fields, json.loads(changes)) for user, fields, changes in rows)


def told(tx: WriteTransaction, user: int, fields: str) -> None:
    """Rooms show what the profile says, if it still has these fields."""
    tx.execute("UPDATE profiles SET untold = 0 WHERE user = ? AND fields = ?", (user, fields))


def untold(tx: ReadTransaction) -> list[int]:
    """The users (nids) whose rooms may not show yet what their profiles say."""
    return [row[0] for row in tx.execute("SELECT user FROM profiles WHERE untold = 1")]


def remove(tx: WriteTransaction, user: int) -> None:
    """Forget the profile of a user."""
    tx.execute("DELETE FROM profiles WHERE user = ?", (user,))
