"""Profiles of local users."""

from __future__ import annotations

import json

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def get(tx: ReadTransaction, user: int) -> str | None:
    """All profile fields of a user as the text of a JSON object, or None when none was ever set."""
    fields: str | None = tx.value("SELECT fields FROM profiles WHERE user = ?", (user,))
    return fields


def shown_in_rooms(tx: ReadTransaction, user: int) -> tuple[str | None, str | None]:
    """The display name and the avatar's URI of a local user, as member events carry them."""
    fields = json.loads(get(tx, user) or "{}")
    return fields.get("displayname"), fields.get("avatar_url")


def put(tx: WriteTransaction, user: int, fields: str, *, untold: bool) -> None:
    """Replace all profile fields of a user (the text of a JSON object).

    Args:
        untold: rooms must be told of it; `told` says that they were.
    """
    tx.execute(
        "INSERT INTO profiles (user, fields, untold) VALUES (?, ?, ?) ON CONFLICT (user) DO UPDATE"
        " SET fields = excluded.fields, untold = max(untold, excluded.untold)",
        (user, fields, untold),
    )


def told(tx: WriteTransaction, user: int, fields: str) -> None:
    """Rooms show what the profile says, if it still has these fields."""
    tx.execute("UPDATE profiles SET untold = 0 WHERE user = ? AND fields = ?", (user, fields))


def untold(tx: ReadTransaction) -> list[int]:
    """The users (nids) whose rooms may not show yet what their profiles say."""
    return [row[0] for row in tx.execute("SELECT user FROM profiles WHERE untold = 1")]


def remove(tx: WriteTransaction, user: int) -> None:
    """Forget the profile of a user."""
    tx.execute("DELETE FROM profiles WHERE user = ?", (user,))
