"""Group calls with users of other servers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import jwt

from ..network import Authority
from .conftest import NewUser, tiny_server
from .synapse import Synapse

SECRET = "s" * 40


async def test_users_of_another_server_prove_who_they_are(
    synapse: Synapse, authority: Authority, new_user: NewUser, tmp_path: Path
) -> None:
    server = tiny_server(tmp_path, authority)
    server.write_config({"voip": {"livekit_url": "wss://sfu.test", "livekit_key": "key", "livekit_secret": SECRET}})
    try:
        server.start()
        alice, bob = await new_user(server, "alice"), await new_user(synapse, "bob")
        room = await alice.create_room(preset="public_chat", room_version="11")
        token = await bob.request("POST", f"/user/{quote(bob.user_id)}/openid/request_token", {})
        body = {"room": room, "openid_token": token, "device_id": bob.device_id}
        await alice.request("POST", "/_tinyserver/livekit/sfu/get", body, expect=401, errcode="M_UNAUTHORIZED")
        await bob.request("POST", f"/join/{quote(room)}", {}, params={"server_name": server.server_name})
        answer = await alice.request("POST", "/_tinyserver/livekit/sfu/get", body)
        claims = jwt.decode(answer["jwt"], SECRET, algorithms=["HS256"])
        assert claims["sub"] == f"{bob.user_id}:{bob.device_id}"
        assert "roomCreate" not in claims["video"]
        server.stop()
    finally:
        server.kill()
    server.log.check()
