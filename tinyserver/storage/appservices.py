"""The application services that are known: their numbers, and the registrations that are kept here."""

from __future__ import annotations

from dataclasses import dataclass

from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service; `registration` is its YAML, or None where that stands in a file of the configuration."""

    nid: int
    service_id: str
    registration: str | None


def all_services(tx: ReadTransaction) -> list[ServiceRow]:
    """Every service; administrators add them, so they are few."""
    return [ServiceRow(*row) for row in tx.execute("SELECT nid, service_id, registration FROM appservices")]


def put(tx: WriteTransaction, service_id: str, registration: str | None) -> int:
    """Add a service, or give it another registration; its number."""
    tx.execute(
        "INSERT INTO appservices (service_id, registration) VALUES (?, ?) "
        "ON CONFLICT (service_id) DO UPDATE SET registration = excluded.registration",
        (service_id, registration),
    )
    nid: int = tx.value("SELECT nid FROM appservices WHERE service_id = ?", (service_id,))
    return nid


def remove(tx: WriteTransaction, nid: int) -> None:
    """Forget a service."""
    tx.execute("DELETE FROM appservices WHERE nid = ?", (nid,))
