"""The mailboxes in which two devices meet to sign one in by QR code."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Client
from .harness import TinyServer

ETAGGED = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"
STABLE = "/_matrix/client/v1/rendezvous"
UNSTABLE = "/_matrix/client/unstable/io.element.msc4388/rendezvous"
TEXT = {"Content-Type": "text/plain"}


@pytest.fixture
def anybody(server: TinyServer, connect: Any) -> Client:
    return connect(server)


async def test_two_devices_exchange_messages_by_etag(anybody: Client) -> None:
    assert (await anybody.request("GET", "/_matrix/client/versions"))["unstable_features"]["org.matrix.msc4108"]
    made = await anybody.raw("POST", ETAGGED, content=b"hello", headers=TEXT)
    assert made.status_code == 201
    url = made.json()["url"]
    assert url.startswith(f"{anybody.base_url}{ETAGGED}/")
    path = url.removeprefix(anybody.base_url)
    assert made.headers["access-control-expose-headers"] == "ETag"
    assert made.headers["access-control-allow-origin"] == "*"
    assert {"expires", "last-modified"} <= set(made.headers)
    assert (made.headers["cache-control"], made.headers["pragma"]) == ("no-store, no-transform", "no-cache")

    got = await anybody.raw("GET", path)
    assert (got.status_code, got.content) == (200, b"hello")
    assert got.headers["content-type"] == "text/plain"
    assert got.headers["etag"] == made.headers["etag"]
    unchanged = await anybody.raw("GET", path, headers={"If-None-Match": got.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")

    first = {**TEXT, "If-Match": got.headers["etag"]}
    put = await anybody.raw("PUT", path, content=b"world", headers=first)
    assert (put.status_code, put.content) == (202, b"")
    assert put.headers["etag"] != got.headers["etag"]
    late = await anybody.raw("PUT", path, content=b"lost", headers=first)
    assert (late.status_code, late.json()["errcode"]) == (412, "M_UNKNOWN")
    assert late.json()["org.matrix.msc4108.errcode"] == "M_CONCURRENT_WRITE"
    assert late.headers["etag"] == put.headers["etag"]
    changed = await anybody.raw("GET", path, headers={"If-None-Match": got.headers["etag"]})
    assert (changed.status_code, changed.content) == (200, b"world")

    assert (await anybody.raw("DELETE", path)).status_code == 204
    await anybody.request("GET", path, expect=404, errcode="M_NOT_FOUND")


async def test_what_an_etagged_mailbox_refuses(anybody: Client) -> None:
    html = {"Content-Type": "text/html"}
    await anybody.request("POST", ETAGGED, content=b"x", headers=html, expect=400, errcode="M_INVALID_PARAM")
    await anybody.request("POST", ETAGGED, content=b"x" * 4097, headers=TEXT, expect=413, errcode="M_TOO_LARGE")
    path = (await anybody.request("POST", ETAGGED, content=b"x" * 4096, headers=TEXT, expect=201))["url"]
    path = path.removeprefix(anybody.base_url)
    await anybody.request("PUT", path, content=b"y", headers=TEXT, expect=400, errcode="M_MISSING_PARAM")
    options = await anybody.raw("OPTIONS", path)
    allowed = {name.strip().lower() for name in options.headers["access-control-allow-headers"].split(",")}
    assert {"if-match", "if-none-match", "content-type"} <= allowed


@pytest.mark.parametrize("base", [STABLE, UNSTABLE])
async def test_two_devices_exchange_messages_in_json(anybody: Client, base: str) -> None:
    assert (await anybody.request("GET", "/_matrix/client/versions"))["unstable_features"]["io.element.msc4388"]
    assert await anybody.request("GET", base) == {"create_available": True}
    made = await anybody.request("POST", base, {"data": "hello"})
    assert 120_000 <= made["expires_in_ms"] <= 300_000
    path = f"{base}/{made['id']}"
    got = await anybody.request("GET", path)
    assert (got["data"], got["sequence_token"]) == ("hello", made["sequence_token"])
    first = {"sequence_token": made["sequence_token"], "data": "world"}
    put = await anybody.request("PUT", path, first)
    assert put["sequence_token"] != made["sequence_token"]
    # The same again is a request whose answer got lost; another one has come too late.
    assert await anybody.request("PUT", path, first) == put
    code = "M_CONCURRENT_WRITE" if base == STABLE else "IO_ELEMENT_MSC4388_CONCURRENT_WRITE"
    await anybody.request("PUT", path, {**first, "data": "lost"}, expect=409, errcode=code)
    assert (await anybody.request("GET", path))["data"] == "world"
    assert await anybody.request("DELETE", path) == {}
    await anybody.request("GET", path, expect=404, errcode="M_NOT_FOUND")


async def test_a_json_mailbox_refuses_browsers_and_much(anybody: Client) -> None:
    await anybody.request("POST", UNSTABLE, {"data": "é" * 2049}, expect=413, errcode="M_TOO_LARGE")
    made = await anybody.request("POST", UNSTABLE, {"data": "é" * 2048})
    path = f"{UNSTABLE}/{made['id']}"
    for name, value in {"Dest": "document", "Mode": "navigate", "User": "?1", "Site": "none"}.items():
        await anybody.request("GET", path, headers={f"Sec-Fetch-{name}": value}, expect=403, errcode="M_FORBIDDEN")
    await anybody.request("GET", path, headers={"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors"})


async def test_there_are_only_so_many(anybody: Client) -> None:
    paths = [f"{UNSTABLE}/{(await anybody.request('POST', UNSTABLE, {'data': str(n)}))['id']}" for n in range(101)]
    await anybody.request("GET", paths[0], expect=404, errcode="M_NOT_FOUND")
    await anybody.request("GET", paths[1])
    await anybody.request("GET", paths[100])
