"""A scenario in JavaScript against real servers: what it prints is kept, and what it asks for is done."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..server.client import Client

SCENARIOS = Path(__file__).parent / "scenarios"
MARK = "@@house "
TIMEOUT = 180.0
# A long line is one of the client's logs.
LINE_LIMIT = 1 << 22

Handler = Callable[..., Awaitable[Any]]

_numbers = itertools.count(1)


class Server(Protocol):
    """What a scenario needs of a server: tinyserver's harness and Synapse's have it."""

    base_url: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class Scenario:
    """Runs files of `scenarios/` with some servers, by the names that the scenario has for them.

    A scenario may ask for `register` (a new account) and for `start`, `stop` or `kill` of a server. A test adds
    handlers of its own to `handlers`; they get the parameters by name and answer something that JSON can say.
    """

    def __init__(self, node: Path, servers: Mapping[str, Server]) -> None:
        self._node = node
        self._servers = dict(servers)
        self.handlers: dict[str, Handler] = {"register": self._register}
        for action in ("start", "stop", "kill"):
            self.handlers[action] = self._on_server(action)
        self.output: deque[str] = deque(maxlen=2000)

    async def _register(self, name: str, server: str) -> dict[str, str]:
        async with Client(self._servers[server].base_url) as client:
            await client.register(f"{name}-js-{next(_numbers)}")
            return {
                "base_url": client.base_url,
                "user_id": client.user_id,
                "password": client.password,
                "device_id": client.device_id,
                "access_token": str(client.access_token),
            }

    def _on_server(self, action: str) -> Handler:
        async def act(server: str) -> None:
            await asyncio.to_thread(getattr(self._servers[server], action))

        return act

    async def run(self, name: str, *, timeout: float = TIMEOUT, **told: Any) -> str:
        """Run `scenarios/NAME.test.mjs`, telling it the servers and `told`; what it printed.

        AssertionError with all of that if a test in it fails, or if it takes longer than `timeout` seconds.
        """
        urls = {server_name: server.base_url for server_name, server in self._servers.items()}
        process = await asyncio.create_subprocess_exec(
            self._node,
            "--test-reporter=spec",
            # Clients have timers that outlive them.
            "--test-force-exit",
            f"{name}.test.mjs",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=SCENARIOS,
            env={**os.environ, "SCENARIO": json.dumps({"servers": urls, **told})},
            limit=LINE_LIMIT,
        )
        try:
            async with asyncio.timeout(timeout):
                await self._serve(process)
                code = await process.wait()
        except TimeoutError:
            raise AssertionError(f"{name} was not done in {timeout} s:\n{self._told()}") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert code == 0, f"{name} failed:\n{self._told()}"
        print(self._told())
        return self._told()

    async def _serve(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        async for line in process.stdout:
            text = line.decode(errors="replace")
            before, mark, request = text.partition(MARK)
            if before:
                self.output.append(before)
            if mark:
                process.stdin.write(json.dumps(await self._answer(json.loads(request))).encode() + b"\n")
                await process.stdin.drain()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"result": await self.handlers[request.pop("do")](**request)}
        except Exception as error:
            self.output.append(f"{request}: {error!r}\n")
            return {"error": repr(error)}

    def _told(self) -> str:
        return "".join(self.output)
