"""Proving to another service who one is."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .client import Client
from .conftest import NewUser
from .harness import TinyServer

USERINFO = "/_matrix/federation/v1/openid/userinfo"


async def request_token(client: Client, user_id: str, **expectation: Any) -> Any:
    return await client.request("POST", f"/user/{quote(user_id)}/openid/request_token", {}, **expectation)


async def test_a_service_learns_who_it_is(new_user: NewUser, connect: Any, fresh_server: TinyServer) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    given = await request_token(alice, alice.user_id)
    assert given["token_type"] == "Bearer"
    assert given["expires_in"] > 0
    assert alice.user_id.endswith(":" + given["matrix_server_name"])
    service = connect(fresh_server)
    found = await service.request("GET", USERINFO, params={"access_token": given["access_token"]})
    assert found == {"sub": alice.user_id}
    # Good for nothing else.
    await service.request("GET", USERINFO, params={"access_token": "x"}, expect=401, errcode="M_UNKNOWN_TOKEN")
    await service.request("GET", "/account/whoami", params={"access_token": given["access_token"]}, expect=401)
    await request_token(bob, alice.user_id, expect=403, errcode="M_FORBIDDEN")
    await service.request("GET", USERINFO, expect=400, errcode="M_MISSING_PARAM")

    fresh_server.kill()
    fresh_server.start()
    service = connect(fresh_server)
    found = await service.request("GET", USERINFO, params={"access_token": given["access_token"]})
    assert found == {"sub": alice.user_id}
