"""The mailboxes in which two devices meet to sign one in by QR code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .client import Client
from .conftest import NewUser
from .harness import TinyServer
from .oauth import DEVICE_GRANT, App, Browser

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


class ByEtag:
    """One device's side of a mailbox of the first generation: text, and its version in the headers."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.path = self.version = ""

    async def open(self) -> str:
        made = await self.client.raw("POST", ETAGGED, content=b"", headers=TEXT)
        assert made.status_code == 201, made.text
        self.path, self.version = made.json()["url"].removeprefix(self.client.base_url), made.headers["etag"]
        return self.path

    async def say(self, message: str) -> None:
        headers = {**TEXT, "If-Match": self.version}
        put = await self.client.raw("PUT", self.path, content=message.encode(), headers=headers)
        assert put.status_code == 202, put.text
        self.version = put.headers["etag"]

    async def hear(self) -> str:
        headers = {"If-None-Match": self.version} if self.version else {}
        got = await self.client.raw("GET", self.path, headers=headers)
        assert got.status_code == 200, got.text
        self.version = got.headers["etag"]
        return got.text


class InJson:
    """One device's side of a mailbox of the second generation."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.path = self.version = ""

    async def open(self) -> str:
        made = await self.client.request("POST", STABLE, {"data": ""})
        self.path, self.version = f"{STABLE}/{made['id']}", made["sequence_token"]
        return self.path

    async def say(self, message: str) -> None:
        put = await self.client.request("PUT", self.path, {"sequence_token": self.version, "data": message})
        self.version = put["sequence_token"]

    async def hear(self) -> str:
        got = await self.client.request("GET", self.path)
        assert got["sequence_token"] != self.version
        self.version = got["sequence_token"]
        text: str = got["data"]
        return text


@pytest.mark.parametrize("mailbox", [ByEtag, InJson])
async def test_a_phone_signs_a_new_computer_in(
    mailbox: type[ByEtag | InJson], new_user: NewUser, anybody: Client, server: TinyServer, connect: Any
) -> None:
    phone = await new_user("alice")
    app = await App(anybody.http).register()
    theirs, ours = mailbox(anybody), mailbox(phone)
    ours.path = await theirs.open()  # what the QR code tells
    await ours.hear()
    metadata = await phone.request("GET", "/_matrix/client/v1/auth_metadata")
    assert DEVICE_GRANT in metadata["grant_types_supported"]
    await ours.say(json.dumps({"type": "m.login.protocols", "protocols": ["device_authorization_grant"]}))

    assert json.loads(await theirs.hear())["protocols"] == ["device_authorization_grant"]
    asked = {"client_id": app.client_id, "scope": app.scope}
    grant = (await app.http.post(metadata["device_authorization_endpoint"], data=asked)).json()
    told = {"device_id": app.device_id, "verification_uri_complete": grant["verification_uri_complete"]}
    await theirs.say(json.dumps(told))

    heard = json.loads(await ours.hear())
    device = f"/devices/{heard['device_id']}"
    await phone.request("GET", device, expect=404, errcode="M_NOT_FOUND")  # nobody takes an old one over
    await ours.say("accepted")
    assert await theirs.hear() == "accepted"
    poll = {"grant_type": DEVICE_GRANT, "device_code": grant["device_code"]}
    assert (await app.token(400, **poll))["error"] == "authorization_pending"
    async with Browser(server.base_url) as browser:
        await browser.open(heard["verification_uri_complete"])
        await browser.press("sign_in", user=phone.localpart, password=phone.password)
        await browser.press("allow", expect=200)
    tokens = await app.token(**poll)
    await theirs.say("success")

    assert await ours.hear() == "success"
    assert (await phone.request("GET", device))["device_id"] == app.device_id
    await ours.say("the secrets")
    assert await theirs.hear() == "the secrets"
    computer = connect(server, tokens["access_token"])
    shown = await computer.request("GET", "/account/whoami")
    assert (shown["user_id"], shown["device_id"]) == (phone.user_id, app.device_id)
    room = await phone.create_room()
    assert room in (await computer.sync())["rooms"]["join"]
