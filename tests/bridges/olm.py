"""The encryption of a bridge's device: Olm and Megolm with vodozemac, keys over the client-server API."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import canonicaljson
import vodozemac

Json = dict[str, Any]
Request = Callable[[str, str, Json], Awaitable[Json]]
KEYS_AT_ONCE = 5


class OlmDevice:
    """One device. `request(method, path, body)` acts for it."""

    def __init__(self, user_id: str, device_id: str, request: Request) -> None:
        self.user_id = user_id
        self.device_id = device_id
        self._request = request
        self._account = vodozemac.Account()
        self._sessions: list[vodozemac.Session] = []
        self._groups: dict[str, vodozemac.InboundGroupSession] = {}

    @property
    def curve_key(self) -> str:
        return self._account.curve25519_key.to_base64()

    async def publish(self) -> None:
        """Upload the identity keys and some one-time keys."""
        value = {
            "user_id": self.user_id,
            "device_id": self.device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": {
                f"ed25519:{self.device_id}": self._account.ed25519_key.to_base64(),
                f"curve25519:{self.device_id}": self.curve_key,
            },
        }
        await self._request("POST", "/keys/upload", {"device_keys": self._signed(value)})
        await self.add_one_time_keys()

    async def add_one_time_keys(self) -> None:
        self._account.generate_one_time_keys(KEYS_AT_ONCE)
        keys = {
            f"signed_curve25519:{key_id}": self._signed({"key": key.to_base64()})
            for key_id, key in self._account.one_time_keys.items()
        }
        await self._request("POST", "/keys/upload", {"one_time_keys": keys})
        self._account.mark_keys_as_published()

    def take(self, message: Json) -> None:
        """Take an Olm message; room keys in it are kept."""
        content = message["content"]
        ours = content["ciphertext"].get(self.curve_key)
        if ours is None:
            return
        plain = self._decrypted(content["sender_key"], ours)
        if plain["type"] == "m.room_key":
            key = vodozemac.SessionKey(plain["content"]["session_key"])
            self._groups[plain["content"]["session_id"]] = vodozemac.InboundGroupSession(key)

    def read(self, event: Json) -> Json | None:
        """What an encrypted event says; None where its key is not here."""
        group = self._groups.get(event["content"]["session_id"])
        if group is None:
            return None
        message = vodozemac.MegolmMessage.from_base64(event["content"]["ciphertext"])
        found: Json = json.loads(group.decrypt(message).plaintext)
        return found

    def _decrypted(self, sender_key: str, ours: Json) -> Json:
        if ours["type"] != 0:
            raise AssertionError("the sender has no answer of ours: it can only begin sessions")
        message = vodozemac.PreKeyMessage.from_base64(ours["body"])
        for session in self._sessions:
            if session.session_matches(message):
                plain = session.decrypt(message.to_any())
                break
        else:
            key = vodozemac.Curve25519PublicKey.from_base64(sender_key)
            session, plain = self._account.create_inbound_session(key, message)
            self._sessions.append(session)
        found: Json = json.loads(plain)
        return found

    def _signed(self, value: Json) -> Json:
        signature = self._account.sign(canonicaljson.encode_canonical_json(value)).to_base64()
        return {**value, "signatures": {self.user_id: {f"ed25519:{self.device_id}": signature}}}
