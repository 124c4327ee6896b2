"""Which addresses of users are bound to them at identity servers, as far as that was done through this server."""

from __future__ import annotations

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


def servers(tx: ReadTransaction, user: int, medium: str, address: str) -> list[str]:
    """The identity servers at which an address is bound to a user (nid)."""
    rows = tx.execute(
        "SELECT id_server FROM threepid_bindings WHERE user = ? AND medium = ? AND address = ?", (user, medium, address)
    )
    return [row[0] for row in rows]


def of_user(tx: ReadTransaction, user: int) -> list[tuple[str, str, str]]:
    """(medium, address, identity server) of all bindings of a user (nid)."""
    return tx.rows("SELECT medium, address, id_server FROM threepid_bindings WHERE user = ?", (user,))


def put(tx: WriteTransaction, user: int, medium: str, address: str, server: str) -> None:
    """Note a binding of a user (nid)."""
    tx.execute(
        "INSERT OR IGNORE INTO threepid_bindings (user, medium, address, id_server) VALUES (?, ?, ?, ?)",
        (user, medium, address, server),
    )


def remove(tx: WriteTransaction, user: int, medium: str, address: str, server: str) -> None:
    """A binding of a user (nid) was taken back."""
    tx.execute(
        "DELETE FROM threepid_bindings WHERE user = ? AND medium = ? AND address = ? AND id_server = ?",
        (user, medium, address, server),
    )
