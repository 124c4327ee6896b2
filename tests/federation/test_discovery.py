"""Finding servers: every step of the specification, against real DNS and TLS on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tinyserver.federation import discovery as discovery_module
from tinyserver.federation.well_known import lifetime
from tinyserver.outgoing import targets
from tinyserver.outgoing.addresses import AddressPolicy
from tinyserver.outgoing.dns import STALE_SECONDS
from tinyserver.outgoing.errors import AddressRefused, Unreachable
from tinyserver.outgoing.targets import Hop, Target, hops_of, target_of_url
from tinyserver.outgoing.tls import TlsClient

from .network import SRV, A, Reply, Seen, json_reply
from .world import DAY_MS, World

PATH = "/_matrix/federation/v1/version"


async def hello(seen: Seen) -> Reply:
    return json_reply({"host": seen.headers["host"], "sni": seen.sni})


class Pages:
    """A host with a well-known page on the HTTPS port, and its Matrix server elsewhere."""

    def __init__(self) -> None:
        self.reply: Reply = Reply(404)

    async def __call__(self, seen: Seen) -> Reply:
        assert "authorization" not in seen.headers
        return self.reply


async def with_pages(world: World, monkeypatch: pytest.MonkeyPatch, host: str, *others: str) -> tuple[Pages, Any]:
    """A web server for `host`, which stands where the port 443 is looked for."""
    pages = Pages()
    web = await world.serve(pages, host, *others)
    monkeypatch.setitem(targets._PORTS, "https", web.port)
    for name in (host, *others):
        world.zone.add_address(name, "127.0.0.1")
    return pages, web


async def test_step_1_ip_literal(world: World) -> None:
    server = await world.serve(hello, "127.0.0.1")
    answer = await world.client.get(f"127.0.0.1:{server.port}", PATH)
    assert answer == {"host": f"127.0.0.1:{server.port}", "sni": None}
    assert (await world.discovery.find("127.0.0.1")) == Target("127.0.0.1", "127.0.0.1", (Hop("127.0.0.1", 8448),))
    assert (await world.discovery.find("[::1]")) == Target("[::1]", "::1", (Hop("::1", 8448),))
    assert not world.zone.asked


async def test_step_1_ipv6(world: World) -> None:
    server = await world.serve(hello, "::1", address="::1")
    answer = await world.client.get(f"[::1]:{server.port}", PATH)
    assert answer == {"host": f"[::1]:{server.port}", "sni": None}


async def test_step_2_explicit_port(world: World) -> None:
    server = await world.serve(hello, "a.test")
    world.zone.add_address("a.test", "127.0.0.1")
    answer = await world.client.get(f"a.test:{server.port}", PATH)
    assert answer == {"host": f"a.test:{server.port}", "sni": "a.test"}
    assert ("_matrix-fed._tcp.a.test", SRV) not in world.zone.asked


async def test_step_3_delegation_to_a_port(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pages, web = await with_pages(world, monkeypatch, "a.test")
    server = await world.serve(hello, "b.test")
    world.zone.add_address("b.test", "127.0.0.1")
    pages.reply = json_reply({"m.server": f"b.test:{server.port}"})
    for _ in range(3):
        answer = await world.client.get("a.test", PATH)
        assert answer == {"host": f"b.test:{server.port}", "sni": "b.test"}
    assert len(web.seen) == 1
    assert (web.seen[0].target, web.seen[0].sni) == ("/.well-known/matrix/server", "a.test")


async def test_step_3_delegation_to_an_address(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pages, _ = await with_pages(world, monkeypatch, "a.test")
    server = await world.serve(hello, "127.0.0.1")
    pages.reply = json_reply({"m.server": f"127.0.0.1:{server.port}"})
    assert await world.client.get("a.test", PATH) == {"host": f"127.0.0.1:{server.port}", "sni": None}


@pytest.mark.parametrize("service", discovery_module.SERVICES)
async def test_step_3_delegation_to_a_name_with_service(
    world: World, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    pages, _ = await with_pages(world, monkeypatch, "a.test")
    pages.reply = json_reply({"m.server": "b.test"})
    server = await world.serve(hello, "b.test")
    world.zone.add_srv(f"{service}.b.test", "c.test", server.port)
    world.zone.add_address("c.test", "127.0.0.1")
    assert await world.client.get("a.test", PATH) == {"host": "b.test", "sni": "b.test"}


async def test_step_3_delegation_to_a_name_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pages, _ = await with_pages(world, monkeypatch, "a.test")
    pages.reply = json_reply({"m.server": "b.test"})
    assert await world.discovery.find("a.test") == Target("b.test", "b.test", (Hop("b.test", 8448),))


@pytest.mark.parametrize("service", discovery_module.SERVICES)
async def test_steps_4_and_5_service(world: World, monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    await with_pages(world, monkeypatch, "a.test")
    server = await world.serve(hello, "a.test")
    dead = await world.serve(hello, "a.test")
    await dead.stop()
    world.zone.add_srv(f"{service}.a.test", "c.test", dead.port, priority=1)
    world.zone.add_srv(f"{service}.a.test", "c.test", server.port, priority=2)
    world.zone.add_address("c.test", "127.0.0.1")
    assert await world.client.get("a.test", PATH) == {"host": "a.test", "sni": "a.test"}


async def test_the_registered_service_comes_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await with_pages(world, monkeypatch, "a.test")
    world.zone.add_srv("_matrix-fed._tcp.a.test", "new.test", 1)
    world.zone.add_srv("_matrix._tcp.a.test", "old.test", 2)
    assert (await world.discovery.find("a.test")).hops == (Hop("new.test", 1),)


async def test_step_6_default_port(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, web = await with_pages(world, monkeypatch, "a.test")
    server = await world.serve(hello, "a.test")
    monkeypatch.setattr(discovery_module, "DEFAULT_PORT", server.port)
    assert await world.client.get("a.test", PATH) == {"host": "a.test", "sni": "a.test"}
    assert len(web.seen) == 1


async def test_a_service_that_says_no(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await with_pages(world, monkeypatch, "a.test")
    world.zone.add_srv("_matrix-fed._tcp.a.test", "", 0)
    with pytest.raises(Unreachable):
        await world.discovery.find("a.test")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"no json"),
        Reply(200, b"[]"),
        Reply(200, b"{}"),
        json_reply({"m.server": 7}),
        json_reply({"m.server": "https://b.test"}),
        json_reply({"m.server": "b.test:99999"}),
        json_reply({"m.server": "b.test|c:1"}),
        json_reply({"m.server": "b.test"}, 500),
        Reply(200, b'{"m.server": "b.test", "x": "' + b"y" * 60_000 + b'"}'),
        Reply(302, headers={"Location": "/.well-known/matrix/server"}),
        Reply(302, headers={"Location": "http://a.test/"}),
        Reply(302, headers={"Location": "//["}),
        Reply(raw=b"junk\r\n\r\n"),
    ],
)
async def test_bad_pages_are_as_none(world: World, monkeypatch: pytest.MonkeyPatch, reply: Reply) -> None:
    pages, web = await with_pages(world, monkeypatch, "a.test")
    pages.reply = reply
    assert (await world.discovery.find("a.test")).hops == (Hop("a.test", 8448),)
    asked = len(web.seen)
    assert asked <= 6
    await world.discovery.find("a.test")
    assert len(web.seen) == asked


async def test_pages_may_move(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, web = await with_pages(world, monkeypatch, "a.test", "www.a.test")

    async def moved(seen: Seen) -> Reply:
        if seen.headers["host"].startswith("a.test"):
            return Reply(301, headers={"Location": "https://www.a.test/.well-known/matrix/server"})
        return json_reply({"m.server": "b.test:1"})

    web._handler = moved
    assert (await world.discovery.find("a.test")).hops == (Hop("b.test", 1),)


async def test_a_page_is_followed_while_its_web_server_is_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pages, web = await with_pages(world, monkeypatch, "a.test")
    pages.reply = json_reply({"m.server": "b.test:1"}, **{"Cache-Control": "public, max-age=600"})
    assert (await world.discovery.find("a.test")).hops == (Hop("b.test", 1),)
    await web.stop()
    world.time.pass_(601)
    assert (await world.discovery.find("a.test")).hops == (Hop("b.test", 1),)
    world.time.pass_(8 * 86400)
    assert (await world.discovery.find("a.test")).hops == (Hop("a.test", 8448),)


async def test_errors_are_remembered_longer_each_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, web = await with_pages(world, monkeypatch, "a.test")
    await world.discovery.find("a.test")
    for number, pause in enumerate((300, 600, 1200, 2400, 3600, 3600), 1):
        world.time.pass_(pause - 1)
        await world.discovery.find("a.test")
        assert len(web.seen) == number
        world.time.pass_(2)
        await world.discovery.find("a.test")
        assert len(web.seen) == number + 1


async def test_many_ask_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, web = await with_pages(world, monkeypatch, "a.test")
    await asyncio.gather(*(world.discovery.find("a.test") for _ in range(20)))
    assert len(web.seen) == 1
    assert world.zone.asked[("_matrix-fed._tcp.a.test", SRV)] == 1
    assert world.zone.asked[("a.test", A)] == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 86400),
        ({"cache-control": "max-age=1000"}, 1000),
        ({"cache-control": "private, Max-Age = 1000"}, 1000),
        ({"cache-control": "max-age=1"}, 300),
        ({"cache-control": "max-age=99999999999999"}, 172800),
        ({"cache-control": "s-max-age=5"}, 86400),
        ({"cache-control": "no-store"}, 300),
        ({"cache-control": "max-age=9000, no-cache"}, 300),
        ({"expires": "Sun, 06 Nov 1994 09:49:37 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}, 3600),
        ({"expires": "0", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}, 300),
        ({"expires": "Sun, 06 Nov 1994 09:49:37 GMT"}, 86400),
        ({"expires": "junk", "date": "junk"}, 86400),
    ],
)
def test_lifetime_of_pages(headers: dict[str, str], seconds: float) -> None:
    assert lifetime(headers) == seconds


# -- certificates


@pytest.mark.parametrize("certificate", [["other.test"], ["127.0.0.1"], ["*.other.test"]])
async def test_the_certificate_must_be_for_the_name(world: World, certificate: list[str]) -> None:
    server = await world.serve(hello, *certificate)
    world.zone.add_address("a.test", "127.0.0.1")
    with pytest.raises(Unreachable, match="certificate"):
        await world.client.get(f"a.test:{server.port}", PATH)
    assert not server.seen


async def test_an_expired_certificate_is_refused(world: World) -> None:
    from .network import WebServer

    world.zone.add_address("a.test", "127.0.0.1")
    async with WebServer(world.authority.issue("a.test", ends_in_days=-1), hello) as server:
        with pytest.raises(Unreachable, match="expired"):
            await world.client.get(f"a.test:{server.port}", PATH)


async def test_a_board_without_a_clock_can_connect_but_not_to_anything_expired(world: World) -> None:
    from .network import WebServer

    world.zone.add_address("a.test", "127.0.0.1")
    world.clock.raise_floor(int(world.time.wall * 1000))
    world.time.wall = 3600.0  # 1970
    server = await world.serve(hello, "a.test")
    assert await world.client.get(f"a.test:{server.port}", PATH)
    async with WebServer(world.authority.issue("a.test", ends_in_days=-1), hello) as expired:
        with pytest.raises(Unreachable, match="expired"):
            await world.client.get(f"a.test:{expired.port}", PATH)
    assert not expired.seen


def test_certificates_are_not_loaded_before_they_are_needed() -> None:
    tls = TlsClient(verify=True, extra_ca_files=["/nowhere"], wall_ms=lambda: DAY_MS * 30000, best_known_ms=lambda: 0)
    with pytest.raises(Unreachable, match="extra_ca_files"):
        tls.context()


# -- DNS


async def test_answers_are_kept_and_serve_while_dns_is_down(world: World) -> None:
    world.zone.add_address("a.test", "192.0.2.1")
    world.zone.ttl = 0  # c-ares keeps nothing then
    assert await world.resolver.addresses("A.test.") == ("192.0.2.1",)
    world.time.pass_(29)
    await world.resolver.addresses("a.test")
    assert world.zone.asked[("a.test", A)] == 1
    world.zone.broken = True
    world.time.pass_(2)
    assert await world.resolver.addresses("a.test") == ("192.0.2.1",)
    world.zone.silent = True
    world.time.pass_(60)
    async with asyncio.timeout(2):
        assert await world.resolver.addresses("a.test") == ("192.0.2.1",)


async def test_old_answers_do_not_live_for_ever(world: World) -> None:
    world.zone.add_address("a.test", "192.0.2.1")
    world.zone.ttl = 0
    await world.resolver.addresses("a.test")
    world.zone.broken = True
    world.time.pass_(STALE_SECONDS + 301)
    with pytest.raises(Unreachable) as caught:
        await world.resolver.addresses("a.test")
    assert not caught.value.local


async def test_what_does_not_exist_is_remembered(world: World) -> None:
    for _ in range(3):
        with pytest.raises(Unreachable):
            await world.resolver.addresses("nobody.test")
        assert await world.resolver.services("_matrix._tcp.nobody.test") == ()
    assert world.zone.asked[("nobody.test", A)] == 1
    assert world.zone.asked[("_matrix._tcp.nobody.test", SRV)] == 1


async def test_both_families_by_turns(world: World) -> None:
    world.zone.add_address("a.test", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8::3")
    found = await world.resolver.addresses("a.test")
    assert [":" in address for address in found] == [True, False, True, False, True]


async def test_services_by_priority(world: World) -> None:
    name = "_matrix-fed._tcp.a.test"
    world.zone.add_srv(name, "last.test", 1, priority=20, weight=9)
    world.zone.add_srv(name, "first.test", 2, priority=10)
    assert [record.host for record in await world.resolver.services(name)] == ["first.test", "last.test"]


async def test_questions_are_not_asked_too_fast(world: World) -> None:
    world.zone.add_address("a.test", "192.0.2.1")

    async def ask(number: int) -> bool:
        try:
            await world.resolver.services(f"{number}.test")
        except Unreachable as error:
            return not error.local
        return True

    # The first ones at once; 100 more could wait their ten seconds, and what is beyond is refused at once.
    tasks = [asyncio.ensure_future(ask(number)) for number in range(200)]
    done, pending = await asyncio.wait(tasks, timeout=0.5)
    assert 78 <= sum(not task.result() for task in done) <= 80
    assert len(pending) == 200 - len(done) >= 90
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


# -- addresses and targets


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("255.255.255.255", "192.0.0.8", "198.18.0.1", "240.0.0.1", "::", "::1", "fe80::1%eth0", "fc00::1", "ff02::1"),
        *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "::127.0.0.1"),
        *("2001:db8::1", "fec0::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "not an address", ""),
    ],
)
def test_private_addresses(address: str) -> None:
    with pytest.raises(AddressRefused):
        AddressPolicy(allow_private=False).check(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_public_addresses(address: str) -> None:
    AddressPolicy(allow_private=False).check(address)


def test_a_target_keeps_its_hops_in_its_key() -> None:
    hops = (Hop("a.test", 1), Hop("::1", 2), Hop("127.0.0.1", 65535))
    assert hops_of(Target("x", "y", hops).pool_key()) == hops


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://a.test/",
            "https://",
            "https://user@a.test/",
            "https://a.test:99999/",
            "https://a.test:0/",
            "//a.test",
        ),
        *(
            "https://a,b.test/",
            "https://a|b/",
            "https://ä.test/",
            "https://a.test/ x",
            "https://[::1",
            "https://a.test/\n",
        ),
    ],
)
def test_urls_that_cannot_be_fetched(url: str) -> None:
    with pytest.raises(Unreachable):
        target_of_url(url)


def test_urls() -> None:
    assert target_of_url("https://a.test") == (Target("a.test", "a.test", (Hop("a.test", 443),)), "/")
    assert target_of_url("http://[::1]:80/x?y#z") == (Target("[::1]", "::1", (Hop("::1", 80),), "http"), "/x?y")
    assert target_of_url("https://a.test:8443/x")[0].host_header == "a.test:8443"
