"""What servers ask each other about their keys."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

import httpx

from ..network import Authority
from .conftest import AnyServer, Pair


async def ask(server: AnyServer, path: str, authority: Authority, body: Any = None) -> Any:
    """What the server answers to other servers, its certificate checked; with a body, to a POST."""
    trust = await asyncio.to_thread(ssl.create_default_context, cafile=str(authority.ca_file))
    async with httpx.AsyncClient(verify=trust, trust_env=False) as http:
        method = "GET" if body is None else "POST"
        answer = await http.request(method, f"https://{server.server_name}{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_each_has_its_keys_confirmed_by_the_other(pair: Pair, authority: Authority) -> None:
    own = await ask(pair.guest, "/_matrix/key/v2/server", authority)
    soon = int(time.time() * 1000) + 1000
    wanted = {key: {"minimum_valid_until_ts": soon} for key in own["verify_keys"]}
    body = {"server_keys": {pair.guest.server_name: wanted}}
    (told,) = (await ask(pair.host, "/_matrix/key/v2/query", authority, body))["server_keys"]
    assert told["server_name"] == pair.guest.server_name
    assert set(told["signatures"]) == {pair.host.server_name, pair.guest.server_name}
    assert told["verify_keys"] == own["verify_keys"]
