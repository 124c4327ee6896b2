"""Endpoints for servers, over real HTTP: who is let in, and what for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

import tinyserver.api.app as api_app
from tinyserver.accounts.requester import Requester
from tinyserver.api.app import build_app
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.federation.authentication import SignedRequests
from tinyserver.api.federation.keys import KeysApi
from tinyserver.api.federation.version import VersionApi
from tinyserver.api.listeners import HttpListener
from tinyserver.api.rate_limits import RateLimiter
from tinyserver.api.routing import Answer, Auth, Router, Surface, endpoint
from tinyserver.config import Bucket, Listener, RateLimits
from tinyserver.protocol.errors import UnknownToken
from tinyserver.protocol.request_auth import authorization
from tinyserver.protocol.signing import SigningKey, verify_json

from .world import Peer, World


class Body(msgspec.Struct):
    pdus: list[dict[str, Any]]


class Query(msgspec.Struct):
    v: int = 0


class Nobody:
    async def authenticate(self, token: str, call: Call[Any, Any]) -> Requester:
        raise UnknownToken


class EchoApi:
    surface = Surface.FEDERATION

    @endpoint("PUT", "/send/{txnId}", spec="s", auth=Auth.SERVER, body=Body, query=Query, max_body=300_000)
    async def send(self, call: Call[Body, Query]) -> Answer:
        return {"origin": call.origin, "pdus": len(call.body.pdus), "v": call.query.v}

    @endpoint("PUT", "/any", spec="s", auth=Auth.SERVER, body=dict)
    async def any(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        return {"content": call.body}

    @endpoint("GET", "/read/{id}", spec="s", auth=Auth.SERVER, query=Query)
    async def read(self, call: Call[NoBody, Query]) -> Answer:
        return {"origin": call.origin, "id": call.path["id"]}

    @endpoint("GET", "/open", spec="s", auth=Auth.NONE)
    async def open(self, call: Call[NoBody, NoQuery]) -> Answer:
        return {"origin": call.origin}


class Site:
    """tinyserver's federation listener, and a peer that talks to it."""

    def __init__(self, world: World, limits: RateLimits) -> None:
        self.world = world
        limiter = RateLimiter(limits, world.time.monotonic)
        router = Router()
        router.add(EchoApi())
        router.add(VersionApi())
        router.add(KeysApi(world.identity, world.notary, limiter))
        signed = SignedRequests("tiny.test", world.key_ring, world.destinations, limiter)
        app = build_app(router, Nobody(), limiter, server_authenticator=signed)
        self.listener = HttpListener(Listener(address="127.0.0.1:0"), app)
        self.http = httpx.AsyncClient(trust_env=False, timeout=20)

    async def request(
        self,
        peer: Peer,
        method: str,
        target: str,
        content: Any = None,
        *,
        key: SigningKey | None = None,
        destination: str = "tiny.test",
        signed: Any = None,
        header: str | None = None,
    ) -> httpx.Response:
        signer = key or peer.key
        made = authorization(method, target, peer.name, destination, content if signed is None else signed, signer)
        headers = {"Authorization": made if header is None else header}
        body = None if content is None else json.dumps(content).encode()
        return await self.http.request(method, self.listener.url + target, content=body, headers=headers)


@pytest_asyncio.fixture
async def site(world: World) -> AsyncIterator[Site]:
    made = Site(world, RateLimits(federation=Bucket(1, 20), key_query=Bucket(0.1, 3)))
    await made.listener.open()
    yield made
    await made.http.aclose()
    made.listener.stop_accepting()
    await made.listener.finish(5)


def refused(answer: httpx.Response, status: int = 401, errcode: str = "M_UNAUTHORIZED") -> str:
    assert answer.status_code == status, answer.text
    assert answer.json()["errcode"] == errcode
    return str(answer.json()["error"])


async def test_a_signed_request_is_let_in(site: Site) -> None:
    peer = await site.world.peer()
    answer = await site.request(peer, "PUT", "/send/a%2Fb?v=7", {"pdus": [{"ü": "\u2028", "n": -5}]})
    assert answer.json() == {"origin": peer.name, "pdus": 1, "v": 7}
    answer = await site.request(peer, "GET", "/read/%24x%2Fy?v=1")
    assert answer.json() == {"origin": peer.name, "id": "$x/y"}
    content = {"a": {"b": [1, None, True, "\U0001f600"]}}
    assert (await site.request(peer, "PUT", "/any", content)).json() == {"content": content}
    big = {"pdus": [{"body": "x" * 1000}] * 200}
    assert (await site.request(peer, "PUT", "/send/2", big)).json()["pdus"] == 200
    assert peer.asked == 1


async def test_what_is_not_signed_so_is_refused(site: Site) -> None:
    peer = await site.world.peer()
    content: Any = {"pdus": []}
    refused(await site.request(peer, "PUT", "/send/1", content, signed={"pdus": [1]}))
    refused(await site.request(peer, "PUT", "/send/1", content, key=SigningKey("k1", b"w" * 32)))
    refused(await site.request(peer, "PUT", "/send/1", content, key=SigningKey("unknown", b"w" * 32)))
    refused(await site.request(peer, "GET", "/read/1", signed={}))
    refused(await site.request(peer, "PUT", "/send/1", content, header=""))
    refused(await site.request(peer, "PUT", "/send/1", content, header="Bearer abc"))
    refused(await site.request(peer, "PUT", "/send/1", content, header="X-Matrix nonsense"))
    good = authorization("PUT", "/send/1", peer.name, "tiny.test", content, peer.key)
    refused(await site.request(peer, "PUT", "/send/2", content, header=good))
    assert (await site.request(peer, "PUT", "/send/1", content, header=good)).status_code == 200


async def test_the_destination_must_be_us(site: Site) -> None:
    peer = await site.world.peer()
    assert "another" in refused(await site.request(peer, "GET", "/read/1", destination="other.test"))
    old_style = authorization("GET", "/read/1", peer.name, "tiny.test", None, peer.key)
    without = old_style.replace('destination="tiny.test",', "")
    assert (await site.request(peer, "GET", "/read/1", header=without)).status_code == 200


async def test_nobody_else_is_us(site: Site) -> None:
    key = site.world.identity.key
    header = authorization("GET", "/read/1", "tiny.test", "tiny.test", None, key)
    refused(await site.http.get(site.listener.url + "/read/1", headers={"Authorization": header}))


async def test_bad_bodies(site: Site) -> None:
    peer = await site.world.peer()
    url = site.listener.url + "/send/1"
    await site.request(peer, "GET", "/read/1")
    for body, status, errcode in (
        (b"{", 400, "M_NOT_JSON"),
        (b"[]", 400, "M_BAD_JSON"),
        (b'{"a":"\\ud800"}', 400, "M_NOT_JSON"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, 400, "M_BAD_JSON"),
        (b"x" * 400_000, 413, "M_TOO_LARGE"),
    ):
        header = authorization("PUT", "/send/1", peer.name, "tiny.test", {}, peer.key)
        refused(await site.http.put(url, content=body, headers={"Authorization": header}), status, errcode)
    refused(await site.request(peer, "PUT", "/send/1", {"pdus": 7}), 400, "M_BAD_JSON")
    refused(await site.request(peer, "PUT", "/send/1"), 400, "M_NOT_JSON")
    refused(await site.request(peer, "GET", "/read/1?v=x"), 400, "M_INVALID_PARAM")


async def test_each_server_has_its_limit(site: Site) -> None:
    first, second = await site.world.peer("first"), await site.world.peer("second")
    statuses = [(await site.request(first, "GET", "/read/1")).status_code for _ in range(25)]
    assert statuses == [200] * 20 + [429] * 5
    assert (await site.request(second, "GET", "/read/1")).status_code == 200


async def test_strangers_cannot_make_us_ask_without_end(site: Site) -> None:
    peer = await site.world.peer()
    for number in range(4):
        header = authorization("GET", "/read/1", f"127.0.0.1:{number + 1}", "tiny.test", None, peer.key)
        answer = await site.request(peer, "GET", "/read/1", header=header)
        if number < 3:
            refused(answer)
    refused(answer, 429, "M_LIMIT_EXCEEDED")


async def test_who_shows_up_is_no_longer_left_alone(site: Site) -> None:
    peer = await site.world.peer()
    for _ in range(3):
        site.world.destinations.failed(peer.name, "down")
        site.world.time.pass_(70)
    site.world.destinations.failed(peer.name, "down")
    woken: list[str] = []
    site.world.destinations.on_return.append(woken.append)
    site.world.time.pass_(60)
    await site.request(peer, "GET", "/read/1")
    assert woken == [peer.name]


async def test_an_endpoint_without_authentication_has_no_origin(site: Site) -> None:
    answer = await site.http.get(site.listener.url + "/open")
    assert answer.status_code == 500


async def test_without_federation_there_are_no_such_endpoints(world: World) -> None:
    router = Router()
    router.add(EchoApi())
    app = build_app(router, Nobody(), RateLimiter(RateLimits(), world.time.monotonic))
    listener = HttpListener(Listener(address="127.0.0.1:0"), app)
    await listener.open()
    async with httpx.AsyncClient(trust_env=False) as http:
        refused(await http.get(listener.url + "/read/1"), 404, "M_UNRECOGNIZED")
    listener.stop_accepting()
    await listener.finish(5)


# -- keys and version


async def test_keys_are_published(site: Site) -> None:
    for path in ("/_matrix/key/v2/server", "/_matrix/key/v2/server/", "/_matrix/key/v2/server/ed25519:mine"):
        answer = (await site.http.get(site.listener.url + path)).json()
        verify_json(answer, "tiny.test", "ed25519:mine", site.world.identity.key.verify_key_base64)


async def test_keys_of_others_are_told(site: Site) -> None:
    peer = await site.world.peer()
    own = site.world.identity.key
    url = site.listener.url + "/_matrix/key/v2/query"
    (by_get,) = (await site.http.get(f"{url}/{peer.name}")).json()["server_keys"]
    until = int(site.world.time.wall * 1000)
    (old_style,) = (
        await site.http.get(f"{url}/{peer.name}/{peer.key.key_id}", params={"minimum_valid_until_ts": until})
    ).json()["server_keys"]
    wanted = {peer.name: {peer.key.key_id: {"minimum_valid_until_ts": until}}}
    (by_post,) = (await site.http.post(url, json={"server_keys": wanted})).json()["server_keys"]
    for told in (by_get, old_style, by_post):
        verify_json(told, peer.name, peer.key.key_id, peer.key.verify_key_base64)
        verify_json(told, "tiny.test", own.key_id, own.verify_key_base64)
    assert (await site.http.post(url, json={"server_keys": {}})).json() == {"server_keys": []}
    refused(await site.http.post(url, json={}), 400, "M_BAD_JSON")
    refused(
        await site.http.post(url, json={"server_keys": {"a": {"b": {"minimum_valid_until_ts": "x"}}}}),
        400,
        "M_BAD_JSON",
    )
    refused(await site.http.get(f"{url}/{peer.name}"), 429, "M_LIMIT_EXCEEDED")


async def test_version(site: Site) -> None:
    answer = (await site.http.get(site.listener.url + "/_matrix/federation/v1/version")).json()
    assert answer["server"]["name"] == "tinyserver"


def test_the_version_is_the_packages() -> None:
    import tomllib
    from pathlib import Path

    from tinyserver.version import VERSION

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


@pytest.mark.parametrize("limit", ["federation", "key_query"])
def test_the_limits_have_defaults(limit: str) -> None:
    assert getattr(RateLimits(), limit).burst >= 100


async def test_a_body_that_never_comes_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_app, "_BODY_SECONDS", 0.2)
    peer = await site.world.peer()
    header = authorization("PUT", "/any", peer.name, "tiny.test", {}, peer.key)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.listener.url.rpartition(":")[2]))
    writer.write(f"PUT /any HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\nContent-Length: 900\r\n\r\n{{".encode())
    answer = await asyncio.wait_for(reader.read(), 10)  # to the end: the connection is closed
    assert answer.startswith(b"HTTP/1.1 408 ")
    writer.close()
