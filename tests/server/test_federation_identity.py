"""A running server's identity towards other servers: its keys, their rotation, and where it says that it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from tinyserver.protocol.server_keys import parse_key_document

from ..federation.conftest import make_world
from ..federation.world import World
from .conftest import MakeServer
from .harness import TinyServer

__all__ = ["make_world"]
MakeWorld = Callable[..., Awaitable[World]]


def get(server: TinyServer, path: str) -> httpx.Response:
    return httpx.get(server.base_url + path, trust_env=False, timeout=20)


def keys(server: TinyServer) -> Any:
    return parse_key_document(get(server, "/_matrix/key/v2/server").json(), server.server_name)


def test_keys_are_rotated_and_the_old_ones_stay_known(fresh_server: TinyServer) -> None:
    (first,) = keys(fresh_server).keys
    config = ("--config", str(fresh_server.config_file))
    refused = fresh_server.command("key", "rotate", *config)
    assert refused.returncode == 1
    assert "stop it first" in refused.stderr
    fresh_server.stop()
    before = int(time.time() * 1000)
    rotated = fresh_server.command("key", "rotate", *config)
    assert rotated.returncode == 0
    assert fresh_server.command("key", "rotate", *config).returncode == 0
    fresh_server.start()
    published = keys(fresh_server).keys
    assert len(published) == 3
    assert before <= published[first].expired_ts <= time.time() * 1000
    shown = fresh_server.command("key", "show", *config).stdout
    assert {line.split()[0] for line in shown.splitlines()} == set(published)
    assert "until" not in shown.splitlines()[0]
    assert (fresh_server.data_dir / "old-signing.keys").stat().st_mode & 0o077 == 0


def test_a_key_that_cannot_be_read_is_said_so(make_server: MakeServer) -> None:
    server = make_server()
    server.stop()
    (server.data_dir / "old-signing.keys").write_text("nonsense\n")
    server.launch()
    assert server.wait_exit() == 1
    assert "old-signing.keys" in server.log.text()


def test_version_and_unknown_endpoints(server: TinyServer) -> None:
    assert get(server, "/_matrix/federation/v1/version").json()["server"]["name"] == "tinyserver"
    answer = get(server, "/_matrix/federation/v1/nothing")
    assert (answer.status_code, answer.json()["errcode"]) == (404, "M_UNRECOGNIZED")


def test_where_clients_and_servers_go(make_server: MakeServer) -> None:
    server = make_server(config={"public_url": "https://matrix.tiny.test"})
    told = get(server, "/.well-known/matrix/client").json()
    assert told["m.homeserver"] == {"base_url": "https://matrix.tiny.test"}
    assert get(server, "/.well-known/matrix/server").json() == {"m.server": "matrix.tiny.test:443"}
    server.stop()
    support = {"admins": ["@ada:tiny.test"], "security": ["ada@tiny.test"], "page": "https://tiny.test/help"}
    server.write_config({"federation": {"public_address": "fed.tiny.test:8448"}, "support": support})
    server.start()
    assert get(server, "/.well-known/matrix/server").json() == {"m.server": "fed.tiny.test:8448"}
    assert get(server, "/.well-known/matrix/support").json() == {
        "contacts": [
            {"matrix_id": "@ada:tiny.test", "role": "m.role.admin"},
            {"email_address": "ada@tiny.test", "role": "m.role.security"},
        ],
        "support_page": "https://tiny.test/help",
    }


def test_nothing_is_told_where_nothing_is_known(make_server: MakeServer) -> None:
    server = make_server(config={"public_url": "", "federation": {"enabled": False}})
    for path in ("/.well-known/matrix/client", "/.well-known/matrix/server", "/.well-known/matrix/support"):
        answer = get(server, path)
        assert (answer.status_code, answer.json()["errcode"]) == (404, "M_NOT_FOUND")
    assert get(server, "/_matrix/key/v2/server").status_code == 404


def test_a_server_that_talked_to_others_stops_cleanly(fresh_server: TinyServer) -> None:
    # Nobody is there: the name is looked up, the connection refused, and the failure remembered.
    assert get(fresh_server, "/_matrix/key/v2/query/127.0.0.1:1").json() == {"server_keys": []}
    started = time.monotonic()
    fresh_server.stop()
    assert time.monotonic() - started < 4


async def test_keys_of_a_real_server_are_fetched_over_tls(make_server: MakeServer, make_world: MakeWorld) -> None:
    world = await make_world()
    peer = await world.peer()
    world.zone.add_address("peer.test", "127.0.0.1")
    named = await world.serve(peer.handle, "peer.test")
    dns = world.resolver._servers[0]
    outgoing = {
        "extra_ca_files": [str(world.authority.ca_file)],
        "allow_private_addresses": True,
        "dns_servers": [dns],
    }
    server = await asyncio.to_thread(make_server, config={"outgoing": outgoing})
    for name in (peer.name, f"peer.test:{named.port}"):
        peer.name = name
        (told,) = (await asyncio.to_thread(get, server, f"/_matrix/key/v2/query/{name}")).json()["server_keys"]
        assert set(told["signatures"]) == {name, "tiny.test"}
        assert set(parse_key_document(told, name).keys) == {peer.key.key_id}
    assert named.seen[-1].sni == "peer.test"
    assert named.seen[-1].headers["host"] == f"peer.test:{named.port}"


async def test_private_addresses_are_refused_by_default(make_server: MakeServer, make_world: MakeWorld) -> None:
    world = await make_world()
    peer = await world.peer()
    server = await asyncio.to_thread(
        make_server, config={"outgoing": {"extra_ca_files": [str(world.authority.ca_file)]}}
    )
    answer = await asyncio.to_thread(get, server, f"/_matrix/key/v2/query/{peer.name}")
    assert answer.json() == {"server_keys": []}
    assert peer.web.connections == 0
