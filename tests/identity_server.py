"""An identity server on the loopback: the part of the identity service API that homeservers and clients use, with real
hashes and signatures."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from canonicaljson import encode_canonical_json
from nacl.signing import SigningKey, VerifyKey

from .federation.network import Authority, Reply, Seen, WebServer, json_reply

V2 = "/_matrix/identity/v2"


def encode_base64(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")


def sign_json(content: dict[str, Any], name: str, key: SigningKey) -> dict[str, Any]:
    signature = encode_base64(key.sign(encode_canonical_json(content)).signature)
    return {**content, "signatures": {name: {"ed25519:0": signature}}}


_AUTH = re.compile(r'X-Matrix origin="([^"]+)",destination="([^"]+)",key="([^"]+)",sig="([^"]+)"')


class IdentityServer(WebServer):
    """`bound` are user IDs by (medium, address), `invites` the stored invites by token."""

    def __init__(self, authority: Authority, host: str = "127.0.0.1") -> None:
        super().__init__(authority.issue(host), self._answer)
        self._host = host
        self.pepper = "matrixrocks"
        self.token = "identity-token"
        self.algorithms = ["sha256", "none"]
        self.bound: dict[tuple[str, str], str] = {}
        self.sessions: dict[str, tuple[str, str, str]] = {}
        """By session ID: client secret, medium, address; all are validated."""
        self.invites: dict[str, dict[str, Any]] = {}
        self.server_keys: dict[str, str] = {}
        """The keys of homeservers, by server name."""
        self.revoked: set[str] = set()
        self.supports_unbind = True
        self.broken: Reply | None = None
        self._key = SigningKey.generate()
        self._ephemeral = SigningKey.generate()

    @property
    def name(self) -> str:
        return f"{self._host}:{self.port}"

    @property
    def keys(self) -> list[str]:
        return [encode_base64(key.verify_key.encode()) for key in (self._key, self._ephemeral)]

    async def prove(self, address: str, user_id: str, homeserver: str, method: str = "PUT") -> httpx.Response:
        """Somebody proves an address and binds it to a user; the homeserver is told of the invites that wait for it."""
        self.bound["email", address] = user_id
        invites = [
            {
                "medium": "email",
                "address": address,
                "mxid": user_id,
                "room_id": stored["room_id"],
                "sender": stored["sender"],
                "signed": self.signed(user_id, token),
            }
            for token, stored in self.invites.items()
            if stored["address"] == address
        ]
        body = {"medium": "email", "address": address, "mxid": user_id, "invites": invites}
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60) as client:
            return await client.request(method, f"{homeserver}/_matrix/federation/v1/3pid/onbind", json=body)

    def signed(self, user_id: str, token: str, **more: str) -> dict[str, Any]:
        return sign_json({"mxid": user_id, "token": token, **more}, self.name, self._key)

    async def _answer(self, seen: Seen) -> Reply:
        if self.broken is not None:
            return self.broken
        parts = urlsplit(seen.target)
        if parts.path in (f"{V2}/pubkey/isvalid", f"{V2}/pubkey/ephemeral/isvalid"):
            (key,) = parse_qs(parts.query)["public_key"]
            return json_reply({"valid": key in self.keys and key not in self.revoked})
        content = json.loads(seen.body or b"{}")
        if parts.path == f"{V2}/3pid/unbind":
            return self._unbind(seen, content)
        given = parse_qs(parts.query).get("access_token", [])
        if self.token not in given and seen.headers.get("authorization") != f"Bearer {self.token}":
            return json_reply({"errcode": "M_UNAUTHORIZED", "error": "Unauthorised"}, 401)
        if parts.path == f"{V2}/hash_details":
            return json_reply({"lookup_pepper": self.pepper, "algorithms": self.algorithms})
        if parts.path == f"{V2}/lookup":
            assert content["algorithm"] == "sha256"
            assert content["pepper"] == self.pepper
            known = {self._hash(*each): user for each, user in self.bound.items()}
            return json_reply({"mappings": {each: known[each] for each in content["addresses"] if each in known}})
        if parts.path == f"{V2}/store-invite":
            return self._store(content)
        if parts.path == f"{V2}/3pid/bind":
            return self._bind(content)
        return json_reply({"errcode": "M_UNRECOGNIZED", "error": "?"}, 404)

    def _hash(self, medium: str, address: str) -> str:
        hashed = hashlib.sha256(f"{address} {medium} {self.pepper}".encode()).digest()
        return urlsafe_b64encode(hashed).decode().rstrip("=")

    def _store(self, content: dict[str, Any]) -> Reply:
        token = f"token-{len(self.invites)}"
        self.invites[token] = content
        urls = (f"https://{self.name}{V2}/pubkey/isvalid", f"https://{self.name}{V2}/pubkey/ephemeral/isvalid")
        keys = [{"public_key": key, "key_validity_url": url} for key, url in zip(self.keys, urls, strict=True)]
        return json_reply({"token": token, "display_name": "a...@e...", "public_keys": keys})

    def _bind(self, content: dict[str, Any]) -> Reply:
        secret, medium, address = self.sessions.get(content["sid"], ("", "", ""))
        if not secret or secret != content["client_secret"]:
            return json_reply({"errcode": "M_NO_VALID_SESSION", "error": "No such session"}, 404)
        self.bound[medium, address] = content["mxid"]
        answer = {"address": address, "medium": medium, "mxid": content["mxid"], "not_before": 0, "not_after": 2**40}
        return json_reply(sign_json({**answer, "ts": 1}, self.name, self._key))

    def _unbind(self, seen: Seen, content: dict[str, Any]) -> Reply:
        """Only the server of the user may: it signs the request as those to other servers."""
        if not self.supports_unbind:
            return json_reply({"errcode": "M_UNRECOGNIZED", "error": "?"}, 404)
        found = _AUTH.fullmatch(seen.headers["authorization"])
        assert found is not None
        origin, destination, _, signature = found.groups()
        assert destination == self.name
        assert content["mxid"].endswith(f":{origin}")
        signed = {
            "method": seen.method,
            "uri": seen.target,
            "origin": origin,
            "destination": destination,
            "content": content,
        }
        VerifyKey(b64decode(self.server_keys[origin] + "=")).verify(
            encode_canonical_json(signed), b64decode(signature + "==")
        )
        wanted = (content["threepid"]["medium"], content["threepid"]["address"])
        assert self.bound.pop(wanted) == content["mxid"]
        return json_reply({})
