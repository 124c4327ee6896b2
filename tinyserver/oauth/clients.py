"""Programs that users sign in with: they register themselves before every sign-in.

Equal registrations are one: the ID of a client is made from what it says about itself. It is no secret, and
proves nothing; what does is that the client gets the answers that go to its redirect URI.

spec: client-server-api#client-registration
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinyserver.clock import Clock
from tinyserver.protocol.oauth.client_metadata import display_name, parse_client_metadata
from tinyserver.protocol.oauth.errors import OAuthError
from tinyserver.storage import oauth_clients
from tinyserver.storage.database import Database
from tinyserver.storage.oauth_clients import ClientRow
from tinyserver.storage.transaction import WriteTransaction

UNUSED_MS = 24 * 3600 * 1000
"""How long a registration is kept that no device uses."""
MAX_CLIENTS = 5000
_RENEWAL_MS = 3600 * 1000
_LOOKED_AT = 20  # old ones, at every new registration


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """A registered client."""

    nid: int
    client_id: str
    metadata: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What it is called on pages."""
        return display_name(self.metadata)

    def check_grant(self, grant_type: str) -> None:
        """Raises OAuthError, `unauthorized_client`, for a grant type that the client did not register for."""
        if grant_type not in self.metadata["grant_types"]:
            raise OAuthError("unauthorized_client", f"the client is not registered for the grant type {grant_type}")


class OAuthClients:
    """Registers and finds clients."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def register(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Register a client with the metadata that it gives; what was registered, with its ID.

        Raises:
            OAuthError: `invalid_client_metadata`, `invalid_redirect_uri`; `temporarily_unavailable` if there are
                too many clients.
        """
        metadata = parse_client_metadata(given)
        text = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
        client_id = urlsafe_b64encode(hashlib.sha256(text.encode("ascii")).digest()[:18]).decode("ascii")
        now = self._clock.now_ms()

        def step(tx: WriteTransaction) -> None:
            known = oauth_clients.find(tx, client_id)
            if known is not None:
                if known.registered < now - _RENEWAL_MS:
                    oauth_clients.renew(tx, known.nid, now)
                return
            oauth_clients.drop_unused(tx, older_than=now - UNUSED_MS, now=now, at_most=_LOOKED_AT)
            if oauth_clients.count(tx) >= MAX_CLIENTS:
                dropped = oauth_clients.drop_unused(tx, older_than=now, now=now, at_most=_LOOKED_AT)
                if not dropped:
                    raise OAuthError("temporarily_unavailable", "too many clients are registered", status=503)
            oauth_clients.add(tx, client_id, text, now)

        await self._db.write(step)
        return {"client_id": client_id, "client_id_issued_at": now // 1000, **metadata}

    def find(self, client_id: str) -> OAuthClient | None:
        """A client by its ID, or None."""
        return self._db.glance(lambda tx: _from_row(oauth_clients.find(tx, client_id)))

    def by_number(self, nid: int) -> OAuthClient | None:
        """A client by its number, or None."""
        return self._db.glance(lambda tx: _from_row(oauth_clients.get(tx, nid)))

    def must_find(self, client_id: str) -> OAuthClient:
        """A client by its ID. Raises OAuthError, `invalid_client`."""
        client = self.find(client_id)
        if client is None:
            raise OAuthError("invalid_client", "there is no such client; register again", status=401)
        return client


def _from_row(row: ClientRow | None) -> OAuthClient | None:
    return None if row is None else OAuthClient(row.nid, row.client_id, json.loads(row.metadata))
