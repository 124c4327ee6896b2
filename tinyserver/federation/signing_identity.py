"""Who this server is to the others: its name, its signing key, and the keys that it used before.

spec: server-server-api#publishing-keys
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyserver.clock import Clock
from tinyserver.protocol.server_keys import PublishedKey, make_key_document
from tinyserver.protocol.signing import SigningKey, sign_json

VALIDITY_MS = 24 * 3600 * 1000
"""How long others may use the list of keys before they ask again: a day, so that a rotated key is soon known."""
RENEWAL_MS = 3600 * 1000
"""The list is signed anew after this time, so it is always good for most of a day."""


class SigningIdentity:
    """Publishes and uses this server's keys.

    Args:
        server_name: this server.
        key: what it signs with.
        old_keys: what it signed with before, each with the time at which it stopped.
        clock: the time.
    """

    def __init__(self, server_name: str, key: SigningKey, old_keys: Sequence[PublishedKey], clock: Clock) -> None:
        self.server_name = server_name
        self.key = key
        self._old_keys = tuple(old_keys)
        self._clock = clock
        self._document: dict[str, Any] = {}
        self._made_at = 0

    def keys(self) -> dict[str, PublishedKey]:
        """All keys by ID, the present one and the old ones."""
        current = PublishedKey(self.key.key_id, self.key.verify_key_base64)
        return {**{old.key_id: old for old in self._old_keys}, current.key_id: current}

    def document(self) -> dict[str, Any]:
        """The signed list of keys as it is published now."""
        now = self._clock.now_ms()
        if not self._document or now >= self._made_at + RENEWAL_MS:
            self._document = make_key_document(self.server_name, [self.key], self._old_keys, now + VALIDITY_MS)
            self._made_at = now
        return self._document

    def sign(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of a JSON object with this server's signature added. Raises CanonicalJsonError."""
        return sign_json(obj, self.server_name, self.key)
