"""`tinyserver federation status`: what other servers lack is shown, while the server runs and while it does not."""

from __future__ import annotations

from typing import Any

from .client import Client
from .crypto_device import send_to_device
from .harness import TinyServer, free_port

SERVER_CONFIG = {"outgoing": {"allow_private_addresses": True}}


def status(server: TinyServer) -> str:
    done = server.command("federation", "status", "--config", str(server.config_file))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def test_what_a_server_lacks_is_shown(make_server: Any, new_user: Any) -> None:
    server = make_server()
    async with Client(server.base_url) as alice:
        await alice.register("alice")
        assert status(server) == "All servers have everything, and none is known to fail."
        dead = f"127.0.0.1:{free_port()}"
        for number in range(3):
            await send_to_device(alice, "m.test", {f"@bob:{dead}": {"D": {"n": number}}})
        lines = status(server).splitlines()
        while "fails since" not in lines[0]:
            lines = status(server).splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"{dead}  lacks 3 messages; fails since 20")
    server.stop()
    assert status(server).startswith(f"{dead}  lacks 3 messages; fails since 20")
    server.start()
    assert status(server).startswith(f"{dead}  lacks 3 messages; fails since 20")
