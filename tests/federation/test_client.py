"""The signed client against a real TLS server: what goes out, what may come back, and who is left alone when."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

import tinyserver.outgoing.http as outgoing_http
from tinyserver.federation.destinations import (
    CONTACT_PAUSES,
    FIRST_CHEAP_PAUSE_MS,
    FIRST_PAUSE_MS,
    LONGEST_LOCAL_PAUSE_MS,
    LONGEST_PAUSE_MS,
    Destinations,
)
from tinyserver.federation.errors import BackingOff
from tinyserver.outgoing.errors import (
    AddressRefused,
    AnswerMalformed,
    AnswerTooLarge,
    HttpError,
    OutgoingError,
    TimedOut,
    Unreachable,
)
from tinyserver.protocol import base64
from tinyserver.protocol.request_auth import parse_authorization, path_of, signed_object
from tinyserver.protocol.signing import signed_bytes, verify_bytes

from .conftest import MakeWorld
from .network import Reply, Seen, json_reply
from .world import World

PATH = path_of("_matrix", "federation", "v1", "event", "$a/b:c")


async def ok(seen: Seen) -> Reply:
    return json_reply({"seen": seen.method})


def check_signed(world: World, seen: Seen, destination: str) -> None:
    claim = parse_authorization(seen.headers["authorization"])
    assert (claim.origin, claim.destination, claim.key_id) == ("tiny.test", destination, "ed25519:mine")
    content = json.loads(seen.body) if seen.body else None
    signed = signed_object(seen.method, seen.target, "tiny.test", destination, content)
    verify_bytes(signed_bytes(signed), base64.decode(claim.signature), world.identity.key.verify_key_base64)


async def test_requests_are_signed_as_they_are_sent(world: World) -> None:
    peer = await world.peer(handler=ok)
    assert await world.client.get(peer.name, PATH, query={"ä": "&b=", "n": [1, True]}) == {"seen": "GET"}
    content = {"pdus": [{"body": "ü \u2028 \U0001f600", "n": 2**53 - 1}], "edus": []}
    assert await world.client.put(peer.name, "/_matrix/federation/v1/send/1", content) == {"seen": "PUT"}
    assert await world.client.post(peer.name, "/_matrix/federation/v1/x", {}) == {"seen": "POST"}
    get, put, post = peer.web.seen
    assert get.target == "/_matrix/federation/v1/event/%24a%2Fb%3Ac?%C3%A4=%26b%3D&n=1&n=true"
    assert json.loads(put.body) == content
    assert post.body == b"{}"
    for seen in (get, put, post):
        check_signed(world, seen, peer.name)
        assert seen.headers["host"] == peer.name
        assert seen.sni is None  # the name is an IP address
    assert peer.web.connections == 1


async def test_connections_are_closed_when_nothing_is_asked_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing_http, "IDLE_SECONDS", 0.05)
    peer = await world.peer(handler=ok)
    await world.client.get(peer.name, PATH)
    await asyncio.wait_for(peer.web.all_gone.wait(), 5)
    await world.client.get(peer.name, PATH)
    assert peer.web.connections == 2


async def test_a_kept_connection_that_died_is_no_failure(world: World) -> None:
    replies = [json_reply({}), Reply(raw=b""), json_reply({"second": True})]

    async def handler(seen: Seen) -> Reply:
        return replies.pop(0)

    peer = await world.peer(handler=handler)
    await world.client.get(peer.name, PATH)
    assert await world.client.get(peer.name, PATH) == {"second": True}
    assert world.destinations.state_of(peer.name) is None


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(body=b"<html>"), AnswerMalformed),
        (Reply(body=b"[1]"), AnswerMalformed),
        (Reply(body=b'"\xff"'), AnswerMalformed),
        (Reply(body=b'{"a":"\\ud800"}'), AnswerMalformed),
        (Reply(body=b'{"a":' * 5000 + b"1" + b"}" * 5000), AnswerMalformed),
        (Reply(raw=b"SSH-2.0-OpenSSH\r\n\r\n"), AnswerMalformed),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"), OutgoingError),
        (Reply(raw=b""), Unreachable),
        (Reply(body=b"x" * 100_001), AnswerTooLarge),
        (Reply(body=gzip.compress(b" " * 10_000_000), headers={"Content-Encoding": "gzip"}), AnswerTooLarge),
        (Reply(body=b"not gzip", headers={"Content-Encoding": "gzip"}), AnswerMalformed),
        (Reply(body=gzip.compress(b"{}")[:-9], headers={"Content-Encoding": "gzip"}), AnswerMalformed),
        (Reply(body=b"{}", headers={"Content-Encoding": "br"}), AnswerMalformed),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n{}"), AnswerMalformed),
        (Reply(302, headers={"Location": "https://127.0.0.1/"}), HttpError),
    ],
)
async def test_hostile_answers(world: World, reply: Reply, error: type[Exception]) -> None:
    async def handler(seen: Seen) -> Reply:
        return reply

    peer = await world.peer(handler=handler)
    with pytest.raises(error):
        await world.client.get(peer.name, PATH, max_bytes=100_000)


async def test_gzip_is_understood(world: World) -> None:
    async def handler(seen: Seen) -> Reply:
        assert seen.headers["accept-encoding"] == "gzip"
        return Reply(body=gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": "gzip"})

    peer = await world.peer(handler=handler)
    assert await world.client.get(peer.name, PATH) == {"a": 1}


async def test_big_answers_are_streamed(world: World) -> None:
    body = b"x" * 3_000_000

    async def handler(seen: Seen) -> Reply:
        return Reply(body=body)

    peer = await world.peer(handler=handler)
    async with world.client.stream("GET", peer.name, PATH) as answer:
        pieces = [piece async for piece in answer.chunks(4_000_000)]
    assert len(pieces) > 10
    assert b"".join(pieces) == body
    async with world.client.stream("GET", peer.name, PATH) as answer:
        with pytest.raises(AnswerTooLarge):
            await answer.read(1_000_000)


async def test_an_error_of_the_other_server_is_no_failure_of_it(world: World) -> None:
    async def handler(seen: Seen) -> Reply:
        return json_reply({"errcode": "M_FORBIDDEN", "error": "no " * 1000}, 403)

    peer = await world.peer(handler=handler)
    with pytest.raises(HttpError) as caught:
        await world.client.get(peer.name, PATH)
    assert (caught.value.status, caught.value.errcode) == (403, "M_FORBIDDEN")
    assert len(caught.value.message) <= 500
    assert world.destinations.state_of(peer.name) is None


async def test_a_slow_answer_is_given_up(world: World) -> None:
    never = asyncio.Event()

    async def handler(seen: Seen) -> Reply:
        await never.wait()
        return Reply()

    peer = await world.peer(handler=handler)
    with pytest.raises(TimedOut):
        await world.client.get(peer.name, PATH, timeout=0.2)
    assert world.destinations.state_of(peer.name) is not None
    never.set()


async def test_an_answer_byte_by_byte_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before an answer of that size would have to be there, and though there is always something new."""
    monkeypatch.setattr(outgoing_http, "SLOW_SECONDS", 0.3)

    async def handler(seen: Seen) -> Reply:
        return Reply(200, b" " * 10_000, drip=0.02)

    peer = await world.peer(handler=handler)
    with pytest.raises(TimedOut, match="too slow"):
        await world.client.get(peer.name, PATH, timeout=30)
    assert world.destinations.state_of(peer.name) is not None


async def test_an_answer_of_far_too_many_values(world: World) -> None:
    async def handler(seen: Seen) -> Reply:
        return Reply(200, b'{"a":[' + b"{}," * 400_000 + b"{}]}")

    peer = await world.peer(handler=handler)
    with pytest.raises(AnswerTooLarge):
        await world.client.get(peer.name, PATH)


async def test_few_requests_at_once_to_one_server(world: World) -> None:
    inside, most, release = 0, 0, asyncio.Event()

    async def handler(seen: Seen) -> Reply:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == outgoing_http.MAX_CONNECTIONS_PER_TARGET:
            release.set()
        await release.wait()
        inside -= 1
        return json_reply({})

    peer = await world.peer(handler=handler)
    await asyncio.gather(*(world.client.get(peer.name, PATH) for _ in range(30)))
    assert most == outgoing_http.MAX_CONNECTIONS_PER_TARGET


# -- who is left alone


class Switch:
    """A handler that can be made to fail as a proxy in front of a dead server does."""

    def __init__(self) -> None:
        self.dead = False

    async def __call__(self, seen: Seen) -> Reply:
        return Reply(502, b"Bad gateway") if self.dead else json_reply({})


async def test_back_off_doubles_survives_a_restart_and_ends(world: World) -> None:
    switch = Switch()
    peer = await world.peer(handler=switch)
    switch.dead = True
    pauses = []
    returned: list[str] = []
    world.destinations.on_return.append(returned.append)
    for _ in range(14):
        with pytest.raises(HttpError):
            await world.client.get(peer.name, PATH)
        asked = len(peer.web.seen)
        with pytest.raises(BackingOff):
            await world.client.get(peer.name, PATH)
        assert len(peer.web.seen) == asked
        row = world.destinations.state_of(peer.name)
        assert row is not None
        pauses.append(row.pause)
        world.time.pass_((row.retry_at - world.clock.now_ms()) / 1000 + 1)
    assert pauses[:3] == [FIRST_PAUSE_MS, FIRST_PAUSE_MS * 2, FIRST_PAUSE_MS * 4]
    assert pauses[-1] == LONGEST_PAUSE_MS
    with pytest.raises(HttpError):
        await world.client.get(peer.name, PATH)
    world.destinations._save(peer.name)
    await world.destinations.close()
    restarted = Destinations(world.db, world.clock)
    with pytest.raises(BackingOff):
        restarted.check(peer.name)
    switch.dead = False
    assert await world.client.get(peer.name, PATH, ignore_backoff=True) == {}
    assert returned == [peer.name]
    assert await world.client.get(peer.name, PATH) == {}
    await world.destinations.close()
    Destinations(world.db, world.clock).check(peer.name)


async def test_one_that_cannot_be_connected_to_is_found_soon_after_it_is_back(
    world: World, unused_tcp_port: int
) -> None:
    name, began, tries = f"127.0.0.1:{unused_tcp_port}", world.time.now, 0
    while world.time.now < began + 24 * 3600:
        with pytest.raises(Unreachable):
            await world.client.get(name, PATH)
        tries += 1
        row = world.destinations.state_of(name)
        assert row is not None
        assert row.pause <= max(FIRST_CHEAP_PAUSE_MS, 2000 + (world.time.now - began) * 1000 * 0.6)
        world.time.pass_((row.retry_at - world.clock.now_ms()) / 1000 + 0.01)
    assert tries < 30


async def test_contact_ends_the_waiting(world: World) -> None:
    for seconds in (40, 80, 0):
        world.destinations.failed("a.test", "down")
        world.time.pass_(seconds)
    woken: list[str] = []
    world.destinations.on_return.append(woken.append)
    # It shows up by itself: it may be tried at once ...
    world.destinations.contacted("a.test")
    assert woken == ["a.test"]
    world.destinations.check("a.test")
    world.destinations.failed("a.test", "still down")
    # ... but one that can send and not be reached does not make us try all the time.
    world.destinations.contacted("a.test")
    with pytest.raises(BackingOff):
        world.destinations.check("a.test")
    world.time.pass_(CONTACT_PAUSES * FIRST_PAUSE_MS / 1000)
    with pytest.raises(BackingOff):
        world.destinations.check("a.test")
    world.destinations.contacted("a.test")
    assert woken == ["a.test", "a.test"]
    world.destinations.check("a.test")
    row = world.destinations.state_of("a.test")
    assert row is not None
    assert row.pause == 8 * FIRST_PAUSE_MS


async def test_retry_after_is_honoured(world: World) -> None:
    async def handler(seen: Seen) -> Reply:
        return json_reply({"errcode": "M_LIMIT_EXCEEDED"}, 429, **{"Retry-After": "7"})

    peer = await world.peer(handler=handler)
    with pytest.raises(HttpError):
        await world.client.get(peer.name, PATH)
    row = world.destinations.state_of(peer.name)
    assert row is not None
    assert row.pause == 7000


async def test_our_own_trouble_keeps_pauses_short(world: World) -> None:
    for _ in range(12):
        world.destinations.failed("a.test", "no network", local=True)
        world.time.pass_(1000)
    row = world.destinations.state_of("a.test")
    assert row is not None
    assert row.pause == LONGEST_LOCAL_PAUSE_MS


async def test_a_clock_that_was_ahead_does_not_silence_a_server(world: World) -> None:
    world.destinations.failed("a.test", "down")
    row = world.destinations.state_of("a.test")
    assert row is not None
    world.time.wall -= 10 * 365 * 86400
    fresh: Any = Destinations(world.db, type(world.clock)(wall=lambda: world.time.wall, monotonic=world.time.monotonic))
    await world.destinations.close()
    fresh.check("a.test")


async def test_private_addresses_are_refused(make_world: MakeWorld) -> None:
    world = await make_world(allow_private=False)
    peer = await world.peer(handler=ok)
    world.zone.add_address("inside.test", "127.0.0.1")
    for name in (peer.name, f"inside.test:{peer.web.port}", "[::1]:443", "[::ffff:127.0.0.1]:443", "169.254.169.254"):
        with pytest.raises(AddressRefused):
            await world.client.get(name, PATH)
    assert peer.web.connections == 0


async def test_no_server_at_all(world: World, unused_tcp_port: int) -> None:
    with pytest.raises(Unreachable):
        await world.client.get(f"127.0.0.1:{unused_tcp_port}", PATH)
    with pytest.raises(Unreachable):
        await world.client.get("not a name", PATH)
