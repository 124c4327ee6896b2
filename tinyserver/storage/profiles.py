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


def put(tx: WriteTransaction, user: int, fields: str) -> None:
    """Replace all profile fields of a user (the text of a JSON object)."""
    tx.execute(
        "INSERT INTO profiles (user, fields) VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET fields = excluded.fields",
        (user, fields),
    )


def remove(tx: WriteTransaction, user: int) -> None:
    """Forget the profile of a user."""
    tx.execute("DELETE FROM profiles WHERE user = ?", (user,))
