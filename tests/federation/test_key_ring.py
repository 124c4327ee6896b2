"""Keys of other servers: which are used for what, how they are had, and what hostile servers cannot do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tinyserver.federation import key_ring
from tinyserver.federation.key_ring import MANY_SERVERS, REASK_SECONDS, KeyRing
from tinyserver.federation.key_store import KeyStore
from tinyserver.protocol import base64
from tinyserver.protocol.event_hashes import add_content_hash, sign_event
from tinyserver.protocol.request_auth import XMatrix, signed_object
from tinyserver.protocol.room_versions import get_room_version
from tinyserver.protocol.server_keys import PublishedKey, make_key_document
from tinyserver.protocol.signing import SignatureError, SigningKey, sign_json, signed_bytes

from .conftest import MakeWorld
from .network import Reply, Seen, json_reply
from .world import DAY_MS, Peer, World

V4, V11 = get_room_version("4"), get_room_version("11")
OTHER_KEY = SigningKey("other", b"z" * 32)


def event(sender_server: str, at: int, **more: Any) -> dict[str, Any]:
    return add_content_hash(
        {
            "type": "m.room.message",
            "sender": f"@a:{sender_server}",
            "room_id": "!r:x.test",
            "content": {"body": "hello"},
            "depth": 5,
            "prev_events": [],
            "auth_events": [],
            "origin_server_ts": at,
            **more,
        }
    )


def signed_event(peer: Peer, at: int, key: SigningKey | None = None, **more: Any) -> dict[str, Any]:
    return sign_event(event(peer.name, at, **more), V11, peer.name, key or peer.key)


def claim(world: World, peer: Peer, key: SigningKey | None = None, content: Any = None) -> tuple[XMatrix, Any]:
    signer = key or peer.key
    signed = signed_object("PUT", "/x?y=1", peer.name, "tiny.test", content)
    return XMatrix(peer.name, "tiny.test", signer.key_id, signer.sign(signed_bytes(signed))), content


async def check_request(world: World, peer: Peer, key: SigningKey | None = None) -> None:
    made, content = claim(world, peer, key, {"a": [1, "ü"]})
    await world.key_ring.check_request(made, "PUT", "/x?y=1", content)


def now_ms(world: World) -> int:
    return int(world.time.wall * 1000)


# -- events


async def test_an_event_is_checked_and_the_keys_are_kept(world: World) -> None:
    peer = await world.peer()
    pdu = signed_event(peer, now_ms(world))
    await world.key_ring.check(pdu, V11)
    assert peer.asked == 1
    assert "authorization" not in peer.web.seen[0].headers
    with pytest.raises(SignatureError):
        await world.key_ring.check({**pdu, "depth": 6}, V11)
    await world.key_ring.check({**pdu, "content": {}}, V11)  # redacted
    restarted = KeyRing(world.identity, KeyStore(world.db), world.client, world.clock, (), world.time.monotonic)
    await restarted.check(pdu, V11)
    assert peer.asked == 1


async def test_many_who_need_a_key_ask_once(world: World) -> None:
    peer = await world.peer()
    pdus = [signed_event(peer, now_ms(world), depth=depth) for depth in range(60)]
    await asyncio.gather(*(world.key_ring.check(pdu, V11) for pdu in pdus))
    assert peer.asked == 1


async def test_each_event_of_a_batch_has_its_own_outcome(world: World) -> None:
    good, bad = await world.peer("good"), await world.peer("bad")
    bad.document = lambda: {"nothing": 1}
    pdus = [signed_event(good, now_ms(world), depth=depth) for depth in range(250)]
    pdus[7] = {**pdus[7], "depth": 1000}
    pdus[8] = signed_event(bad, now_ms(world))
    pdus[9] = event(good.name, 1)
    pdus[10] = {**pdus[10], "sender": "nobody"}
    outcomes = await world.key_ring.check_many(pdus, V11)
    assert [number for number, outcome in enumerate(outcomes) if outcome is not None] == [7, 8, 9, 10]


async def test_own_events_need_nobody(world: World) -> None:
    key = world.identity.key
    pdu = sign_event(event("tiny.test", now_ms(world)), V11, "tiny.test", key)
    await world.key_ring.check(pdu, V11)
    with pytest.raises(SignatureError):
        await world.key_ring.check(sign_event(event("tiny.test", 1), V11, "tiny.test", OTHER_KEY), V11)


async def test_validity_counts_from_room_version_5_on(world: World) -> None:
    peer = await world.peer()
    peer.valid_for_ms = 3600_000
    late = signed_event(peer, now_ms(world) + 2 * 3600_000)
    with pytest.raises(SignatureError):
        await world.key_ring.check(late, V11)
    await world.key_ring.check(late, V4)


async def test_an_event_after_the_validity_makes_us_ask_again(world: World) -> None:
    peer = await world.peer()
    await world.key_ring.check(signed_event(peer, now_ms(world)), V11)
    world.time.pass_(3 * 86400)
    await world.key_ring.check(signed_event(peer, now_ms(world)), V11)
    assert peer.asked == 2


async def test_a_list_that_is_good_for_ever_is_not(world: World) -> None:
    peer = await world.peer()
    peer.valid_for_ms = 3650 * DAY_MS
    await world.key_ring.check(signed_event(peer, now_ms(world) + 6 * DAY_MS), V11)
    with pytest.raises(SignatureError):
        await world.key_ring.check(signed_event(peer, now_ms(world) + 8 * DAY_MS), V11)


async def test_old_keys_are_good_for_their_time(world: World) -> None:
    peer = await world.peer()
    ended = now_ms(world) - DAY_MS
    peer.old_keys = [PublishedKey(OTHER_KEY.key_id, OTHER_KEY.verify_key_base64, ended)]
    await world.key_ring.check(signed_event(peer, ended - 1, OTHER_KEY), V11)
    with pytest.raises(SignatureError):
        await world.key_ring.check(signed_event(peer, ended + 1, OTHER_KEY), V11)
    with pytest.raises(SignatureError):
        await check_request(world, peer, OTHER_KEY)


async def test_a_key_that_vanished_signs_nothing_new(world: World) -> None:
    peer = await world.peer()
    before = signed_event(peer, now_ms(world))
    await world.key_ring.check(before, V11)
    stolen = peer.key
    peer.key = SigningKey("fresh", b"f" * 32)
    peer.keys = [peer.key]
    world.time.pass_(REASK_SECONDS + 1)
    await check_request(world, peer)
    await world.key_ring.check(before, V11)
    world.time.pass_(60)
    with pytest.raises(SignatureError):
        await world.key_ring.check(signed_event(peer, now_ms(world), stolen), V11)
    with pytest.raises(SignatureError):
        await check_request(world, peer, stolen)


async def test_unknown_signatures_are_passed_over_wrong_ones_are_not(world: World) -> None:
    peer = await world.peer()
    peer.keys = [peer.key, OTHER_KEY]
    pdu = signed_event(peer, now_ms(world))
    own = pdu["signatures"][peer.name]
    own.update({"ed25519:unknown": "AAAA", "rsa:x": "AAAA", "ed25519:": 7})
    await world.key_ring.check(pdu, V11)
    own[OTHER_KEY.key_id] = own[peer.key.key_id]
    with pytest.raises(SignatureError):
        await world.key_ring.check(pdu, V11)


@pytest.mark.parametrize("signatures", [None, [], {}, {"x": 1}, "x"])
async def test_malformed_signatures(world: World, signatures: Any) -> None:
    peer = await world.peer()
    pdu = {**signed_event(peer, now_ms(world)), "signatures": signatures}
    with pytest.raises(SignatureError):
        await world.key_ring.check(pdu, V11)
    pdu["signatures"] = {peer.name: signatures}
    with pytest.raises(SignatureError):
        await world.key_ring.check(pdu, V11)
    assert peer.asked == 0


async def test_a_restricted_join_needs_both_servers(world: World) -> None:
    joiner, resident = await world.peer("joiner"), await world.peer("resident")
    content = {"membership": "join", "join_authorised_via_users_server": f"@r:{resident.name}"}
    pdu = add_content_hash(
        {**event(joiner.name, now_ms(world)), "type": "m.room.member", "state_key": "@a:x", "content": content}
    )
    pdu = sign_event(pdu, V11, joiner.name, joiner.key)
    with pytest.raises(SignatureError):
        await world.key_ring.check(pdu, V11)
    await world.key_ring.check(sign_event(pdu, V11, resident.name, resident.key), V11)


# -- requests


async def test_a_request_is_checked(world: World) -> None:
    peer = await world.peer()
    made, content = claim(world, peer, content={"a": 1})
    await world.key_ring.check_request(made, "PUT", "/x?y=1", content)
    for method, uri, body in (("GET", "/x?y=1", content), ("PUT", "/x?y=2", content), ("PUT", "/x?y=1", {"a": 2})):
        with pytest.raises(SignatureError):
            await world.key_ring.check_request(made, method, uri, body)
    with pytest.raises(SignatureError):
        await world.key_ring.check_request(made, "PUT", "/x?y=1", None)
    for signature in ("", "!", "AAAA", "é", base64.encode(b"s" * 64)):
        forged = XMatrix(made.origin, made.destination, made.key_id, signature)
        with pytest.raises(SignatureError):
            await world.key_ring.check_request(forged, "PUT", "/x?y=1", content)
    assert peer.asked == 1


async def test_a_new_key_is_asked_for_but_not_all_the_time(world: World) -> None:
    peer = await world.peer()
    await check_request(world, peer)
    for number in range(5):
        with pytest.raises(SignatureError):
            await check_request(world, peer, SigningKey(f"n{number}", b"n" * 32))
    assert peer.asked == 1
    peer.keys = [OTHER_KEY]
    world.time.pass_(REASK_SECONDS + 1)
    await check_request(world, peer, OTHER_KEY)
    assert peer.asked == 2


async def test_a_server_that_shows_up_is_asked_although_it_failed(world: World) -> None:
    peer = await world.peer()
    world.destinations.failed(peer.name, "down")
    await check_request(world, peer)


async def test_the_wrong_key_of_the_right_name(world: World) -> None:
    peer = await world.peer()
    await check_request(world, peer)
    with pytest.raises(SignatureError):
        await check_request(world, peer, SigningKey(peer.key.version, b"w" * 32))


async def test_another_key_under_the_same_name(world: World) -> None:
    """A server that gives a key ID away again has only the new key; nobody else can do that for it."""
    peer = await world.peer()
    before = signed_event(peer, now_ms(world))
    await world.key_ring.check(before, V11)
    peer.key = SigningKey(peer.key.version, b"n" * 32)
    peer.keys = [peer.key]
    world.time.pass_(REASK_SECONDS + 1)
    with pytest.raises(SignatureError):
        await check_request(world, peer)  # what is known under this name is believed, and nobody is asked
    world.time.pass_(8 * 86400)
    await check_request(world, peer)
    with pytest.raises(SignatureError):
        await world.key_ring.check(before, V11)
    await world.key_ring.check(signed_event(peer, now_ms(world)), V11)


async def test_a_list_that_has_run_out(world: World) -> None:
    """Whoever is asked now and has only an old list signs nothing that is later than the list."""
    peer = await world.peer()
    peer.valid_for_ms = -DAY_MS
    await world.key_ring.check(signed_event(peer, now_ms(world) - 2 * DAY_MS), V11)
    with pytest.raises(SignatureError):
        await world.key_ring.check(signed_event(peer, now_ms(world)), V11)


@pytest.mark.parametrize("ended", ["in a year", "again in use"])
async def test_old_keys_that_are_none(world: World, ended: str) -> None:
    """An old key signs no requests and nothing after its end, whatever the server says about its end."""
    peer = await world.peer()
    at = now_ms(world) + 365 * DAY_MS
    peer.old_keys = [PublishedKey(OTHER_KEY.key_id, OTHER_KEY.verify_key_base64, at)]
    if ended == "again in use":  # in both lists: then it is in use
        peer.keys = [peer.key, OTHER_KEY]
    with pytest.raises(SignatureError):
        await world.key_ring.check(signed_event(peer, at + 1, OTHER_KEY), V11)
    if ended == "in a year":
        with pytest.raises(SignatureError):
            await check_request(world, peer, OTHER_KEY)


# -- clocks


@pytest.mark.parametrize("years", [-10, -1, 1, 10])
async def test_our_clock_may_be_wrong(make_world: MakeWorld, years: int) -> None:
    world = await make_world()
    peer = await world.peer()
    true_time = world.time.wall
    peer.document = lambda: make_key_document(peer.name, [peer.key], [], int(true_time * 1000) + DAY_MS)
    peer.date = _http_date(true_time)
    world.time.wall += years * 365.25 * 86400
    pdu = signed_event(peer, int(true_time * 1000))
    await world.key_ring.check(pdu, V11)
    await check_request(world, peer)


def _http_date(seconds: float) -> str:
    from email.utils import formatdate

    return formatdate(seconds, usegmt=True)


# -- hostile answers


@pytest.mark.parametrize(
    "bend",
    [
        lambda peer: [],
        lambda peer: {**peer.own_document(), "server_name": "other.test"},
        lambda peer: {**peer.own_document(), "valid_until_ts": 2**60},
        lambda peer: {**peer.own_document(), "verify_keys": {}},
        lambda peer: make_key_document("other.test", [peer.key], [], 2**50),
        lambda peer: {**peer.own_document(), "padding": "x" * 300_000},
        lambda peer: sign_json({**peer.own_document(), "signatures": {}}, peer.name, OTHER_KEY),
    ],
)
async def test_hostile_lists_give_no_keys(world: World, bend: Any) -> None:
    peer = await world.peer()
    peer.document = lambda: bend(peer)
    with pytest.raises(SignatureError):
        await world.key_ring.check(signed_event(peer, now_ms(world)), V11)
    assert not world.store.keys_of(peer.name)


async def test_a_dead_server_is_asked_once(world: World) -> None:
    peer = await world.peer()
    pdu = signed_event(peer, now_ms(world))
    await peer.web.stop()
    for _ in range(3):
        with pytest.raises(SignatureError):
            await world.key_ring.check(pdu, V11)
    assert world.destinations.state_of(peer.name) is not None


async def test_servers_that_never_answer_keep_no_caller_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "FETCHES_AT_ONCE", 2)
    ring = KeyRing(world.identity, world.store, world.client, world.clock, (), world.time.monotonic)
    never = asyncio.Event()

    async def wait(seen: Seen) -> Reply:
        await never.wait()
        return json_reply({})

    silent = [await world.serve(wait, "127.0.0.1") for _ in range(4)]
    named = [
        {**event(f"127.0.0.1:{each.port}", 1), "signatures": {f"127.0.0.1:{each.port}": {"ed25519:k": "A" * 86}}}
        for each in silent
    ]
    checking = asyncio.ensure_future(ring.check_many(named, V11))
    async with asyncio.timeout(10):
        while sum(len(each.seen) for each in silent) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        peer = await world.peer()
        made, content = claim(world, peer, content={})
        await ring.check_request(made, "PUT", "/x?y=1", content)
    assert not checking.done()
    never.set()
    assert None not in await checking
    await ring.close()


# -- key servers


class KeyServer:
    """A trusted key server that knows the lists of some servers."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.queries: list[dict[str, Any]] = []
        self.peer: Peer | None = None
        self.key: SigningKey | None = None

    async def __call__(self, seen: Seen) -> Reply:
        import json

        assert (seen.method, seen.target) == ("POST", "/_matrix/key/v2/query")
        query = json.loads(seen.body)["server_keys"]
        self.queries.append(query)
        assert self.peer is not None
        found = [
            sign_json(self.documents[name], self.peer.name, self.key or self.peer.key)
            for name in query
            if name in self.documents
        ]
        return json_reply({"server_keys": found})


async def with_key_server(make_world: MakeWorld) -> tuple[World, KeyServer]:
    world = await make_world()
    key_server = KeyServer()
    key_server.peer = await world.peer("notary", handler=key_server)
    notaries = (key_server.peer.name,)
    world.key_ring = KeyRing(world.identity, world.store, world.client, world.clock, notaries, world.time.monotonic)
    return world, key_server


def gone(name: str, world: World, key: SigningKey = OTHER_KEY) -> Peer:
    """A server that is no more."""
    peer = Peer(key, world.time, None)
    peer.name = name
    return peer


async def test_the_keys_of_the_dead_are_told_by_a_key_server(make_world: MakeWorld) -> None:
    world, key_server = await with_key_server(make_world)
    dead = gone("dead.test:1", world)
    at = now_ms(world)
    pdu = signed_event(dead, at)
    with pytest.raises(SignatureError):
        await world.key_ring.check(pdu, V11)
    key_server.documents["dead.test:1"] = dead.own_document()
    world.time.pass_(REASK_SECONDS + 1)
    await world.key_ring.check(pdu, V11)
    assert key_server.queries[-1] == {"dead.test:1": {OTHER_KEY.key_id: {"minimum_valid_until_ts": at}}}


async def test_one_question_for_many_servers(make_world: MakeWorld) -> None:
    world, key_server = await with_key_server(make_world)
    dead = [gone(f"d{number}.test:1", world) for number in range(MANY_SERVERS + 5)]
    for peer in dead:
        key_server.documents[peer.name] = peer.own_document()
    pdus = [signed_event(peer, now_ms(world)) for peer in dead]
    assert await world.key_ring.check_many(pdus, V11) == [None] * len(dead)
    assert len(key_server.queries) == 1


@pytest.mark.parametrize("trick", ["unsigned by the key server", "wrong signature", "not signed by the server itself"])
async def test_a_key_server_is_not_believed_blindly(make_world: MakeWorld, trick: str) -> None:
    world, key_server = await with_key_server(make_world)
    dead = gone("dead.test:1", world)
    document = dead.own_document()
    if trick == "unsigned by the key server":
        key_server.key = SigningKey("unknown", b"u" * 32)
    elif trick == "wrong signature":
        key_server.key = SigningKey("notary", b"u" * 32)
    else:
        document["signatures"] = {}
    key_server.documents[dead.name] = document
    with pytest.raises(SignatureError):
        await world.key_ring.check(signed_event(dead, now_ms(world)), V11)


async def test_a_key_server_cannot_replace_what_the_server_said(make_world: MakeWorld) -> None:
    world, key_server = await with_key_server(make_world)
    peer = await world.peer("real")
    await world.key_ring.check(signed_event(peer, now_ms(world)), V11)
    impostor = gone(peer.name, world, SigningKey("real", b"i" * 32))
    impostor.old_keys = [PublishedKey("ed25519:k9", base64.encode(b"9" * 32), 5)]
    key_server.documents[peer.name] = impostor.own_document()
    await peer.web.stop()
    world.time.pass_(5 * 86400)
    with pytest.raises(SignatureError):
        await world.key_ring.check(signed_event(impostor, now_ms(world)), V11)
    stored = world.store.keys_of(peer.name)["ed25519:real"]
    assert base64.encode(stored.public_key) == peer.key.verify_key_base64


# -- being a key server


async def test_what_we_tell_others(world: World) -> None:
    peer = await world.peer()
    (told,) = await world.notary.query({peer.name: {}})
    assert told["verify_keys"] == peer.own_document()["verify_keys"]
    await world.key_ring.check_json(told, peer.name)
    await world.key_ring.check_json(told, "tiny.test")
    # Half of its life long it is told from memory; after that, and for other wishes, the server is asked.
    world.time.pass_(11 * 3600)
    await world.notary.query({peer.name: {peer.key.key_id: None}})
    assert peer.asked == 1
    world.time.pass_(2 * 3600)
    await world.notary.query({peer.name: {}})
    assert peer.asked == 2
    world.time.pass_(REASK_SECONDS + 1)
    await world.notary.query({peer.name: {peer.key.key_id: now_ms(world) + 2 * DAY_MS}})
    assert peer.asked == 3
    world.time.pass_(REASK_SECONDS + 1)
    await world.notary.query({peer.name: {"ed25519:other": None}})
    assert peer.asked == 4
    # Of a server that is gone, the last word is told for ever.
    await peer.web.stop()
    world.time.pass_(100 * 86400)
    (last,) = await world.notary.query({peer.name: {}})
    assert last["verify_keys"] == told["verify_keys"]


async def test_we_tell_our_own_keys_and_nothing_of_the_unknown(world: World) -> None:
    found = await world.notary.query({"tiny.test": {}, "not a name": {}, "127.0.0.1:1": {}})
    assert found == [world.identity.document()]


async def test_own_list_is_always_good_for_hours(world: World) -> None:
    for hours in range(0, 100, 7):
        document = world.identity.document()
        await world.key_ring.check_json(document, "tiny.test")
        assert document["valid_until_ts"] > now_ms(world) + 20 * 3600_000, hours
        world.time.pass_(7 * 3600)


async def test_only_the_newest_servers_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyserver.federation import key_store

    monkeypatch.setattr(key_store, "MAX_STORED", 2)
    monkeypatch.setattr(key_store, "_TRIM_EVERY", 4)
    peers = [await world.peer(f"p{number}") for number in range(4)]
    for peer in peers:
        await world.notary.query({peer.name: {}})
        world.time.pass_(1)
    kept = [bool(KeyStore(world.db).keys_of(peer.name)) for peer in peers]
    assert kept == [False, False, True, True]


async def test_the_latest_event_of_a_batch_decides_what_is_asked(world: World) -> None:
    peer = await world.peer()
    start = now_ms(world)
    await world.key_ring.check(signed_event(peer, start), V11)
    world.time.pass_(3 * 86400)
    pdus = [signed_event(peer, start + hours * 3600_000) for hours in range(72)]
    assert await world.key_ring.check_many(pdus, V11) == [None] * 72
    assert peer.asked == 2


async def test_thousands_of_events_do_not_hold_up_the_others(world: World) -> None:
    peer = await world.peer()
    pdus = [signed_event(peer, now_ms(world) - depth, depth=depth) for depth in range(2000)]
    await world.key_ring.check(pdus[0], V11)
    checking = asyncio.ensure_future(world.key_ring.check_many(pdus, V11))
    turns = 0
    while not checking.done():
        await asyncio.sleep(0)
        turns += 1
    assert await checking == [None] * 2000
    assert turns >= 2 * 2000 // 100
