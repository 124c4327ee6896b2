"""`tinyserver token`: the administrator hands out registration tokens, while the server runs and while it does not."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from .harness import TinyServer

SERVER_CONFIG = {"registration": {"mode": "token"}}


def command(server: TinyServer, *arguments: str, fails: bool = False) -> str:
    done = server.give("token", *arguments, "--config", str(server.config_file))
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return (done.stderr if fails else done.stdout).strip()


async def here(server: TinyServer, *arguments: str, fails: bool = False) -> str:
    return await asyncio.to_thread(command, server, *arguments, fails=fails)


async def test_tokens(make_server: Any, connect: Any) -> None:
    server = make_server()
    client = connect(server)
    # A server that runs: the token is good at once, for one account.
    token = command(server, "create")
    assert re.fullmatch(r"[a-z2-9]{16}", token)
    auth = {"type": "m.login.registration_token", "token": token}
    body = {"username": "one", "password": "x" * 9, "auth": auth}
    await client.request("POST", "/register", body)
    await client.request("POST", "/register", {**body, "username": "two"}, expect=401, errcode="M_UNAUTHORIZED")
    command(server, "create", "--token", "family", "--uses", "0", "--days", "7")
    auth["token"] = "family"
    for name in ("two", "three"):
        await client.request("POST", "/register", {**body, "username": name})
    listed = command(server, "list").splitlines()
    assert any(line.startswith("family  used 2 of any number of times, until 20") for line in listed)
    assert f"{token}  used 1 of 1 times" in listed
    assert "There is such a registration token already" in command(server, "create", "--token", "family", fails=True)
    assert "a-z" in command(server, "create", "--token", "white space", fails=True)
    assert command(server, "remove", "family") == "Removed family"
    assert "no such registration token" in command(server, "remove", "fam/ily", fails=True)
    await client.request("POST", "/register", {**body, "username": "four"}, expect=401, errcode="M_UNAUTHORIZED")

    # A server that does not run.
    server.stop()
    done = server.command("token", "create", "--token", "offline", "--config", str(server.config_file))
    assert (done.returncode, done.stdout) == (0, "offline\n")
    assert "offline  used 0 of 1 times" in await here(server, "list")
    await here(server, "remove", token)
    assert token not in await here(server, "list")
    await here(server, "create", "--uses", "-1", fails=True)
    await here(server, "create", "--days", "nan", fails=True)
    server.start()
    auth["token"] = "offline"
    await client.request("POST", "/register", {**body, "username": "four"})
