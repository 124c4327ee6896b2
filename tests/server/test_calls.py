"""What calls need of the server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest

from .client import Client
from .conftest import MakeServer, NewUser
from .harness import TinyServer, free_port

SECRET = "the secret of the relay"
LIVEKIT = {"livekit_url": "wss://sfu.test", "livekit_key": "key", "livekit_secret": "s" * 40}
SERVER_CONFIG = {"voip": {"turn_uris": ["turn:turn.test?transport=udp"], "turn_shared_secret": SECRET, **LIVEKIT}}
needs_coturn = pytest.mark.skipif(
    shutil.which("turnserver") is None, reason="there is no coturn; scripts/test installs it where it can"
)


async def test_credentials_of_a_while(new_user: NewUser, server: TinyServer, connect: Any) -> None:
    alice = await new_user("alice")
    found = await alice.request("GET", "/voip/turnServer")
    assert found["uris"] == ["turn:turn.test?transport=udp"]
    assert found["ttl"] == 3600
    expires, _, user_id = found["username"].partition(":")
    assert user_id == alice.user_id
    assert 3590 < int(expires) - time.time() < 3610
    digest = hmac.new(SECRET.encode(), found["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(found["password"]) == digest
    await connect(server).request("GET", "/voip/turnServer", expect=401, errcode="M_MISSING_TOKEN")


async def test_no_relay_no_credentials(new_user: NewUser, make_server: MakeServer) -> None:
    server = make_server(config={"voip": {"turn_uris": [], **dict.fromkeys(LIVEKIT, "")}})
    alice = await new_user("alice", server=server)
    assert await alice.request("GET", "/voip/turnServer") == {}
    assert await alice.request("GET", "/_matrix/client/v1/rtc/transports") == {"rtc_transports": []}
    assert "org.matrix.msc4143.rtc_foci" not in await alice.request("GET", "/.well-known/matrix/client")
    await alice.request("POST", "/_tinyserver/livekit/sfu/get", {}, expect=404, errcode="M_UNRECOGNIZED")
    # The doctor tells a relay that is not there from one with another secret.
    server.write_config({"voip": {"turn_uris": ["turn:127.0.0.1:1?transport=tcp"], "turn_shared_secret": SECRET}})
    examined = server.command("doctor", "--config", str(server.config_file))
    assert examined.returncode == 1
    assert "WRONG turn:127.0.0.1:1?transport=tcp: it cannot be reached: " in examined.stdout
    assert "secret" not in examined.stdout


@pytest.fixture
def coturn(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    with (tmp_path / "turn.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--listening-ip=127.0.0.1"),
                *("--relay-ip=127.0.0.1", f"--listening-port={port}", "--use-auth-secret", "--realm=turn.test"),
                *(f"--static-auth-secret={SECRET}", "--allow-loopback-peers", f"--pidfile={tmp_path / 'turn.pid'}"),
                *(f"--db={tmp_path / 'turn.db'}", "--log-file=stdout"),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def relay(username: str, password: str, port: int) -> subprocess.CompletedProcess[str]:
    """Send messages through the relay, and get them back, as two clients do."""
    return subprocess.run(
        [
            *("turnutils_uclient", "-u", username, "-w", password, "-p", str(port)),
            *("-y", "-c", "-n", "5", "-m", "1", "127.0.0.1"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@needs_coturn
async def test_coturn_takes_the_credentials(new_user: NewUser, make_server: MakeServer, coturn: int) -> None:
    uri = f"turn:127.0.0.1:{coturn}?transport=udp"
    server = make_server(config={"voip": {"turn_uris": [uri, uri.replace("udp", "tcp")], "turn_shared_secret": SECRET}})
    # The doctor waits for an answer, so coturn is there afterwards.
    examined = server.command("doctor", "--config", str(server.config_file))
    assert examined.returncode == 0, examined.stdout
    assert examined.stdout.count("gives a relay address (127.0.0.1:") == 2
    alice = await new_user("alice", server=server)
    found = await alice.request("GET", "/voip/turnServer")
    relayed = relay(found["username"], found["password"], coturn)
    assert relayed.returncode == 0, relayed.stdout + relayed.stderr
    assert "tot_recv_msgs=10" in relayed.stdout, relayed.stdout
    server.stop()
    server.write_config({"voip": {"turn_shared_secret": "another"}})
    server.start()
    examined = server.command("doctor", "--config", str(server.config_file))
    assert examined.returncode == 1
    assert "refuses the credentials" in examined.stdout


async def openid(client: Client) -> Any:
    return await client.request("POST", f"/user/{quote(client.user_id)}/openid/request_token", {})


def opened(answer: Any) -> Any:
    assert answer["url"] == LIVEKIT["livekit_url"]
    return jwt.decode(answer["jwt"], LIVEKIT["livekit_secret"], algorithms=["HS256"])


def hashed(*parts: str) -> str:
    digest = hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()
    return base64.b64encode(digest).decode().rstrip("=")


async def test_group_calls(new_user: NewUser, server: TinyServer, connect: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room()
    (transport,) = (await alice.request("GET", "/_matrix/client/v1/rtc/transports"))["rtc_transports"]
    assert transport == {"type": "livekit", "livekit_service_url": f"{server.base_url}/_tinyserver/livekit"}
    unstable = await alice.request("GET", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports")
    assert unstable == {"rtc_transports": [transport]}
    stranger = connect(server)
    known = await stranger.request("GET", "/.well-known/matrix/client")
    assert known["org.matrix.msc4143.rtc_foci"] == [transport]
    versions = await stranger.request("GET", "/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc4143"] is True

    body = {"room": room, "openid_token": await openid(alice), "device_id": alice.device_id}
    today = opened(await stranger.request("POST", "/_tinyserver/livekit/sfu/get", body))
    assert today["sub"] == f"{alice.user_id}:{alice.device_id}"
    assert today["iss"] == "key"
    assert today["video"] == {
        "room": hashed(room, "m.call#ROOM"),
        "roomJoin": True,
        "canSubscribe": True,
        "canPublish": True,
        "roomCreate": True,
    }
    member = {"id": "m1", "claimed_user_id": alice.user_id, "claimed_device_id": "D"}
    newer = {"room_id": room, "slot_id": "m.call#ROOM", "openid_token": await openid(alice), "member": member}
    told = opened(await stranger.request("POST", "/_tinyserver/livekit/get_token", newer))
    assert told["sub"] == hashed(alice.user_id, "D", "m1")
    assert told["video"]["room"] == today["video"]["room"]

    for wrong in (
        {**body, "openid_token": await openid(bob)},
        {**body, "openid_token": {**body["openid_token"], "access_token": "x"}},
        {**body, "openid_token": {**body["openid_token"], "matrix_server_name": "nobody.test"}},
        {**body, "openid_token": {**body["openid_token"], "matrix_server_name": "../../x"}},
        {**body, "room": "!unknown:tiny.test"},
    ):
        await stranger.request("POST", "/_tinyserver/livekit/sfu/get", wrong, expect=401, errcode="M_UNAUTHORIZED")
    other = {**newer, "member": {**member, "claimed_user_id": bob.user_id}}
    await stranger.request("POST", "/_tinyserver/livekit/get_token", other, expect=401, errcode="M_UNAUTHORIZED")
    await stranger.request("POST", "/_tinyserver/livekit/get_token", {}, expect=400, errcode="M_BAD_JSON")


def test_the_proposals_own_values() -> None:
    assert hashed("!roomid:example.com", "slot1234") == "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc"
    assert hashed("@alice:example.com", "DEVICE123", "memberABC") == "J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU"
