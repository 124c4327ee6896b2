"""Requests to identity servers: who is behind an address, invites that wait for somebody, bindings.

Only those that the configuration names are talked to. What they answer is as little trusted as anything else that
comes from outside.

spec: identity-service-api
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tinyserver.outgoing.errors import OutgoingError
from tinyserver.outgoing.http import Answer, HttpClient
from tinyserver.protocol import base64, canonical_json
from tinyserver.protocol.errors import ERROR_CLASSES, InvalidParam, MatrixError, ServerNotTrusted, Unknown
from tinyserver.protocol.identifiers import is_valid_server_name, is_valid_user_id
from tinyserver.protocol.request_auth import authorization
from tinyserver.protocol.signing import SigningKey

EVERY_SERVER = "*"
TIMEOUT = 15.0
MAX_ANSWER = 64 * 1024
_MAX_TEXT = 1000
_MAX_KEYS = 10
_V2 = "/_matrix/identity/v2"
_TOKEN = re.compile(r"[!-~]{1,1000}")
# A client that is told these of an identity server would take them for words about its session here.
_ABOUT_SESSIONS = frozenset(("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_UNAUTHORIZED", "M_USER_LOCKED"))


@dataclass(frozen=True, slots=True)
class StoredInvite:
    """An invite that an identity server keeps for whoever proves an address: the content of the event that says so in
    the room, and its state key."""

    token: str
    content: dict[str, Any]


class NotSupported(Exception):
    """The identity server does not do what it was asked for."""


class IdentityClient:
    """Talks to identity servers.

    Args:
        http: reaches them.
        server_name, key: this server, which signs what it asks in its own name.
        servers: the names of those that users may use; `*` for all.
    """

    def __init__(self, http: HttpClient, server_name: str, key: SigningKey, servers: Collection[str]) -> None:
        self._http = http
        self._server_name = server_name
        self._key = key
        self._servers = frozenset(servers)

    def is_trusted(self, server: str) -> bool:
        """Whether users may use an identity server (host, or host:port)."""
        known = server in self._servers or EVERY_SERVER in self._servers
        return known and is_valid_server_name(server)

    def check_trusted(self, server: str) -> None:
        """Raises ServerNotTrusted for an identity server that users may not use."""
        if not self._servers:
            raise ServerNotTrusted("This server uses no identity servers: invite people by their Matrix user IDs.")
        if not self.is_trusted(server):
            raise ServerNotTrusted("This server does not use that identity server.")

    async def lookup(self, server: str, token: str, medium: str, address: str) -> str | None:
        """The user ID that an address (canonical) is bound to, or None. The address itself is not told.

        Args:
            token: the user's access token at the identity server.

        Raises:
            ServerNotTrusted, InvalidParam, Unknown, and what the identity server answers.
        """
        details = await self._ask("GET", server, "/hash_details", token=token)
        pepper, algorithms = details.get("lookup_pepper"), details.get("algorithms")
        if not isinstance(pepper, str) or not isinstance(algorithms, list) or "sha256" not in algorithms:
            raise _nonsense(server)
        hashed = hashlib.sha256(f"{address} {medium} {pepper}".encode("utf-8", "surrogatepass")).digest()
        wanted = base64.encode_urlsafe(hashed)
        content = {"addresses": [wanted], "algorithm": "sha256", "pepper": pepper}
        found = (await self._ask("POST", server, "/lookup", content, token=token)).get("mappings")
        user_id = found.get(wanted) if isinstance(found, dict) else None
        return user_id if isinstance(user_id, str) and is_valid_user_id(user_id) else None

    async def store_invite(self, server: str, token: str, invite: Mapping[str, Any]) -> StoredInvite:
        """Have an invite kept until somebody proves its address. Raises as :meth:`lookup`."""
        answer = await self._ask("POST", server, "/store-invite", invite, token=token)
        found = _stored_invite(answer)
        if found is None:
            raise _nonsense(server)
        return found

    async def bind(self, server: str, token: str, sid: str, client_secret: str, user_id: str) -> tuple[str, str]:
        """Bind the address that was proved in a session there to a user; (medium, address).

        Raises as :meth:`lookup`.
        """
        content = {"sid": sid, "client_secret": client_secret, "mxid": user_id}
        answer = await self._ask("POST", server, "/3pid/bind", content, token=token)
        medium, address = answer.get("medium"), answer.get("address")
        if not isinstance(medium, str) or not isinstance(address, str) or answer.get("mxid") != user_id:
            raise _nonsense(server)
        return medium, address

    async def unbind(self, server: str, user_id: str, medium: str, address: str) -> None:
        """Take a binding back in the name of this server, whether users may still use the identity server or not.

        Raises:
            NotSupported: it does not do that.
            Unknown, and what the identity server answers.
        """
        if not is_valid_server_name(server):
            raise NotSupported
        content = {"mxid": user_id, "threepid": {"medium": medium, "address": address}}
        path = f"{_V2}/3pid/unbind"
        signed = authorization("POST", path, self._server_name, server, content, self._key)
        answer = await self._send("POST", server, path, content, {"Authorization": signed})
        if answer.status in (404, 405, 501):
            raise NotSupported
        if answer.status != 200:
            raise _refusal(server, answer)

    async def is_valid_key(self, url: str, public_key: str) -> bool:
        """Whether the identity server that has issued a key still stands by it.

        Args:
            url: where to ask, as the invite says.

        spec: identity-service-api#key-management
        """
        if not url.startswith("https://") or len(url) > _MAX_TEXT:
            return False
        separator = "&" if "?" in url else "?"
        try:
            answer = await self._http.fetch(
                f"{url}{separator}{urlencode({'public_key': public_key})}", timeout=TIMEOUT, max_bytes=MAX_ANSWER
            )
        except OutgoingError:
            return False
        return answer.status == 200 and _object(answer).get("valid") is True

    async def _ask(
        self, method: str, server: str, path: str, content: Mapping[str, Any] | None = None, *, token: str
    ) -> dict[str, Any]:
        self.check_trusted(server)
        if _TOKEN.fullmatch(token) is None:
            raise InvalidParam("This cannot be an access token of an identity server.")
        answer = await self._send(method, server, _V2 + path, content, {"Authorization": f"Bearer {token}"})
        if answer.status != 200:
            raise _refusal(server, answer)
        return _object(answer)

    async def _send(
        self, method: str, server: str, path: str, content: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Answer:
        body = None if content is None else canonical_json.encode(content)
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            return await self._http.fetch(
                f"https://{server}{path}",
                method=method,
                headers={**kind, **headers},
                content=body,
                timeout=TIMEOUT,
                max_bytes=MAX_ANSWER,
            )
        except OutgoingError as error:
            raise Unknown(f"The identity server {server} cannot be reached: {error}", status=502) from error


def _object(answer: Answer) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _nonsense(server: str) -> MatrixError:
    return Unknown(f"The identity server {server} answered nonsense.", status=502)


def _refusal(server: str, answer: Answer) -> MatrixError:
    """What an identity server refuses, in its own words."""
    told = _object(answer)
    errcode, message = told.get("errcode"), told.get("error")
    if not isinstance(errcode, str) or not 400 <= answer.status < 500:
        return Unknown(f"The identity server {server} answered with an error.", status=502)
    if errcode in _ABOUT_SESSIONS:
        return ERROR_CLASSES["M_THREEPID_AUTH_FAILED"](f"The identity server {server} does not know its access token.")
    text = message[:_MAX_TEXT] if isinstance(message, str) and message else f"The identity server {server} refuses."
    kind = ERROR_CLASSES.get(errcode, Unknown)
    error = MatrixError(text, status=answer.status)
    error.errcode = kind.errcode
    return error


def _stored_invite(answer: Mapping[str, Any]) -> StoredInvite | None:
    token, name = answer.get("token"), answer.get("display_name")
    given = answer.get("public_keys")
    keys = [found for each in given[:_MAX_KEYS] if (found := _key(each))] if isinstance(given, list) else []
    if not isinstance(token, str) or not 0 < len(token.encode("utf-8", "surrogatepass")) <= 255 or not keys:
        return None
    if not isinstance(name, str) or len(name) > _MAX_TEXT:
        return None
    content: dict[str, Any] = {"display_name": name, **keys[0], "public_keys": keys}
    content.setdefault("key_validity_url", "")
    return StoredInvite(token, content)


def _key(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, dict):
        return None
    wanted = {name: entry[name] for name in ("public_key", "key_validity_url") if isinstance(entry.get(name), str)}
    return wanted if "public_key" in wanted and all(len(text) <= _MAX_TEXT for text in wanted.values()) else None
