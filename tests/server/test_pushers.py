"""Pushers, and what a real push gateway is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio

from ..federation.network import Reply, Seen, WebServer, json_reply
from .client import Client
from .conftest import NewUser
from .harness import TinyServer

PATH = "/_matrix/push/v1/notify"
SERVER_CONFIG = {
    "outgoing": {"allow_private_addresses": True},
    "unifiedpush": {"allow_private_addresses": True},
}
TIMEOUT = 30.0


class Gateway(WebServer):
    """A push gateway: `told` are the notifications that it took."""

    def __init__(self) -> None:
        super().__init__(None, self._notify)
        self.told: list[dict[str, Any]] = []
        self.status = 200
        self.rejected: list[str] = []
        self.is_terse = False
        self._news = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    async def _notify(self, seen: Seen) -> Reply:
        assert (seen.method, seen.target.partition("?")[0]) in (("POST", PATH), ("POST", "/up"))
        if self.status == 200:
            self.told.append(json.loads(seen.body)["notification"])
        self._news.set()
        return json_reply({} if self.is_terse else {"rejected": self.rejected}, self.status)

    async def __aenter__(self) -> Gateway:
        await super().__aenter__()
        return self

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self._news.clear()
                await self._news.wait()

    @property
    def ids(self) -> list[str]:
        return [each["event_id"] for each in self.told if "event_id" in each]


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway() as made:
        yield made


def pusher(url: str, pushkey: str = "key", **changes: Any) -> dict[str, Any]:
    return {
        "kind": "http", "app_id": "org.example.app", "pushkey": pushkey, "app_display_name": "App",
        "device_display_name": "Phone", "lang": "en", "data": {"url": url}, **changes,
    }  # fmt: skip


async def set_pusher(client: Client, body: dict[str, Any], **expectation: Any) -> Any:
    return await client.request("POST", "/pushers/set", body, **expectation)


async def listed(client: Client) -> list[dict[str, Any]]:
    pushers: list[dict[str, Any]] = (await client.request("GET", "/pushers"))["pushers"]
    return pushers


async def test_setting(new_user: NewUser, gateway: Gateway) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    assert await listed(alice) == []
    body = pusher(gateway.url, profile_tag="tag")
    await set_pusher(alice, body)
    (shown,) = await listed(alice)
    assert {key: shown[key] for key in body} == body
    assert shown["enabled"] is shown["org.matrix.msc3881.enabled"] is True
    assert shown["device_id"] == alice.device_id
    other = await alice.another_device()
    await set_pusher(other, {**shown, "enabled": False})
    (shown,) = await listed(alice)
    assert (shown["enabled"], shown["device_id"]) == (False, alice.device_id)
    await set_pusher(bob, {**body, "append": True})
    assert len(await listed(alice)) == 1
    await set_pusher(bob, body)
    assert await listed(alice) == []
    await set_pusher(other, body)
    await other.request("POST", "/logout")
    await other.close()
    assert await listed(alice) == []
    await set_pusher(bob, body)
    await set_pusher(bob, {"kind": None, "app_id": body["app_id"], "pushkey": body["pushkey"]})
    assert await listed(bob) == []


async def test_wrong_settings(new_user: NewUser, gateway: Gateway) -> None:
    alice = await new_user("alice")
    good = pusher(gateway.url)
    for key in good:
        body = {name: value for name, value in good.items() if name != key}
        await set_pusher(alice, body, expect=400, errcode="M_MISSING_PARAM")
    await set_pusher(alice, {**good, "data": {}}, expect=400, errcode="M_MISSING_PARAM")
    wrongs: tuple[dict[str, Any], ...] = (
        {"kind": "email"}, {"kind": 1}, {"pushkey": "x" * 513}, {"pushkey": ""}, {"app_id": "x" * 65}, {"lang": 1},
        {"append": 1}, {"enabled": 1}, {"data": []}, {"data": {"url": 1}}, {"data": {"url": "ftp://x" + PATH}},
        {"data": {"url": "https://example.org/elsewhere"}}, {"data": {"url": "https://me@example.org" + PATH}},
    )  # fmt: skip
    for wrong in wrongs:
        await set_pusher(alice, {**good, **wrong}, expect=400, errcode="M_INVALID_PARAM")
    big = {**good, "data": {"url": gateway.url, "x": "x" * 20_000}}
    await set_pusher(alice, big, expect=413, errcode="M_TOO_LARGE")
    assert await listed(alice) == []


async def test_what_gateways_are_told(new_user: NewUser, gateway: Gateway) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    third = await new_user("carol")
    await alice.request("PUT", f"/profile/{alice.user_id}/displayname", {"displayname": "Alice"})
    room = await alice.create_room(bob, third, name="A room")
    await set_pusher(bob, pusher(gateway.url, data={"url": gateway.url, "default_payload": {"a": 1}}))
    first = await alice.send(room, "hello")
    await gateway.until(lambda: gateway.ids == [first])
    told = gateway.told[0]
    (device,) = told.pop("devices")
    assert device.pop("pushkey_ts") > 1_600_000_000
    assert device == {
        "app_id": "org.example.app",
        "pushkey": "key",
        "data": {"default_payload": {"a": 1}},
        "tweaks": {},
    }
    assert told == {
        "event_id": first, "room_id": room, "prio": "low", "type": "m.room.message", "sender": alice.user_id,
        "sender_display_name": "Alice", "room_name": "A room", "counts": {"unread": 1},
        "content": {"msgtype": "m.text", "body": "hello"},
    }  # fmt: skip
    await bob.receipt(room, first)
    await gateway.until(lambda: len(gateway.told) == 2)
    assert gateway.told[1]["counts"] == {"unread": 0}
    assert "event_id" not in gateway.told[1]
    await set_pusher(bob, pusher(gateway.url, data={"url": gateway.url, "format": "event_id_only"}))
    await alice.send(room, {"membership": "x"}, "m.reaction")
    await bob.send(room, "my own")
    mention = await alice.send(room, {"msgtype": "m.text", "body": "you", "m.mentions": {"user_ids": [bob.user_id]}})
    await gateway.until(lambda: gateway.ids == [first, mention])
    told = gateway.told[2]
    assert set(told) == {"event_id", "room_id", "counts", "prio", "devices"}
    assert told["prio"] == "high"
    assert told["devices"][0]["tweaks"] == {"sound": "default", "highlight": True}
    other = await alice.create_room(invite=[bob.user_id])
    await gateway.until(lambda: len(gateway.ids) == 3)
    assert gateway.told[3]["room_id"] == other
    await set_pusher(bob, pusher(gateway.url, enabled=False))
    await alice.send(room, "unheard")
    await set_pusher(bob, pusher(gateway.url))
    last = await alice.send(room, {"ciphertext": "x"}, "m.room.encrypted")
    await gateway.until(lambda: len(gateway.ids) == 4)
    assert gateway.ids[3] == last
    assert [each["prio"] for each in gateway.told if each.get("event_id") == last] == ["high"]


async def test_rejected(new_user: NewUser, gateway: Gateway) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    # A gateway that does not say which pushkeys it rejects rejects none, and is not told twice.
    gateway.is_terse = True
    await set_pusher(bob, pusher(gateway.url, "here"))
    told = [await alice.send(room, "one")]
    await gateway.until(lambda: gateway.ids == told)
    told.append(await alice.send(room, "two"))
    await gateway.until(lambda: gateway.ids == told)
    await bob.request("POST", "/pushers/set", {"kind": None, "app_id": "org.example.app", "pushkey": "here"})
    gateway.told.clear()
    gateway.is_terse, gateway.rejected = False, ["gone"]
    await set_pusher(bob, pusher(gateway.url, "gone"))
    await set_pusher(bob, pusher(gateway.url, "here"))
    await alice.send(room, "hello")
    await gateway.until(lambda: len(gateway.ids) == 2)
    async with asyncio.timeout(TIMEOUT):
        while [each["pushkey"] for each in await listed(bob)] != ["here"]:
            pass  # asked again


async def test_kills_and_failing_gateways(fresh_server: TinyServer, new_user: NewUser, gateway: Gateway) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    await set_pusher(bob, pusher(gateway.url))
    sent = [await alice.send(room, "one")]
    await gateway.until(lambda: gateway.ids == sent)
    gateway.status = 503
    sent.append(await alice.send(room, "two"))
    await gateway.until(lambda: len(gateway.seen) == 2)
    await asyncio.to_thread(fresh_server.kill)
    gateway.status = 200
    await asyncio.to_thread(fresh_server.start)
    sent.append(await alice.send(room, "three"))
    await gateway.until(lambda: len(gateway.ids) >= 3)
    assert gateway.ids == sent
    # A long outage: one ring for each room.
    gateway.status = 503
    requests = len(gateway.seen)
    for number in range(25):
        last = await alice.send(room, f"late {number}")
    other = await alice.create_room(bob)
    elsewhere = await alice.send(other, "hello")
    await gateway.until(lambda: len(gateway.seen) > requests)
    gateway.status = 200
    await set_pusher(bob, pusher(gateway.url))
    await gateway.until(lambda: len(gateway.ids) >= 5)
    assert gateway.ids == [*sent, last, elsewhere]
    await asyncio.to_thread(fresh_server.kill)
    await asyncio.to_thread(fresh_server.start)
    final = await alice.send(other, "after all")
    await gateway.until(lambda: final in gateway.ids)
    # Killed between the answer and the commit, the server may have told one event again, with the same ID.
    assert list(dict.fromkeys(gateway.ids)) == [*sent, last, elsewhere, final]
    assert gateway.ids.count(elsewhere) <= 2
    assert len(gateway.ids) - gateway.ids.count(elsewhere) == 5


async def test_unifiedpush(new_user: NewUser, server: TinyServer, gateway: Gateway) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    assert await alice.request("GET", PATH) == {"unifiedpush": {"gateway": "matrix"}}
    endpoint = f"http://127.0.0.1:{gateway.port}/up?topic=1"
    room = await alice.create_room(bob)
    # Nobody here has set it: a private address is out of reach.
    stranger = {"notification": {"event_id": "$x", "devices": [{"app_id": "a", "pushkey": endpoint}]}}
    assert await alice.request("POST", PATH, stranger) == {"rejected": [endpoint]}
    assert gateway.seen == []
    await set_pusher(bob, pusher(server.base_url + PATH, endpoint, data={"url": server.base_url + PATH}))
    message = await alice.send(room, "x" * 6000)
    await gateway.until(lambda: gateway.ids == [message])
    assert gateway.seen[0].target == "/up?topic=1"
    assert len(gateway.seen[0].body) <= 4096
    assert gateway.told[0]["counts"] == {"unread": 1}
    gateway.status = 302
    await alice.request("POST", PATH, stranger, expect=502)
    gateway.status = 410
    await alice.send(room, "gone")
    async with asyncio.timeout(TIMEOUT):
        while await listed(bob):
            pass  # asked again
    wrongs: tuple[dict[str, Any], ...] = (
        {}, {"notification": 1}, {"notification": {}}, {"notification": {"devices": [1]}},
        {"notification": {"devices": [{"pushkey": "x"}] * 11}},
    )  # fmt: skip
    for wrong in wrongs:
        await alice.request("POST", PATH, wrong, expect=400)
    nonsense = {"notification": {"devices": [{"pushkey": "file:///etc/passwd"}, {"pushkey": "x"}]}}
    assert await alice.request("POST", PATH, nonsense) == {"rejected": ["file:///etc/passwd", "x"]}
