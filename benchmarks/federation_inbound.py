"""Events of another server taken per second: tinyserver and Synapse get the same signed transactions.

    python -m benchmarks.federation_inbound [--events 300] [--only tinyserver|synapse]

A scripted peer joins public rooms of the server by the ordinary handshake, and then sends transactions of 50 signed
messages, one after the other, as servers do: once all of them into one room, once into twenty rooms in turn. The time
runs from the first request until the last event of every room can be read by a local user: Synapse answers before it
has taken the events. Both servers listen with TLS on loopback.

"Others" is how long a local user's message into an uninvolved room takes meanwhile (median and 95 %).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from benchmarks.compare.processes import memory, usage
from benchmarks.compare.synapse import Synapse as SynapseInstallation
from tests.federation.network import Authority, Reply, Seen, WebServer, json_reply
from tests.federation.peers.conftest import INSTALLATIONS, tiny_server
from tests.federation.peers.synapse import Synapse
from tests.server.client import Client
from tests.server.harness import TinyServer
from tinyserver.protocol.event_hashes import add_content_hash, event_id_of, sign_event
from tinyserver.protocol.request_auth import authorization
from tinyserver.protocol.room_versions import get_room_version
from tinyserver.protocol.server_keys import make_key_document
from tinyserver.protocol.signing import SigningKey

VERSION = get_room_version("11")
IN_TRANSACTION = 50
WAIT = 200.0
Pdu = dict[str, Any]


@dataclass
class RemoteRoom:
    """A room as the peer knows it: whom its messages follow, and what authorises them."""

    room_id: str
    auth: list[str] = field(default_factory=list)
    last: str = ""
    depth: int = 0


class ScriptedPeer:
    """A server with one user, who talks."""

    def __init__(self, authority: Authority, server: TinyServer | Synapse, base_url: str) -> None:
        self.key = SigningKey("p", b"p" * 32)
        self.name = ""
        self._server = server
        self._base_url = base_url
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        self._http = httpx.AsyncClient(verify=context, timeout=WAIT, trust_env=False)
        self._transactions = 0
        self.said: dict[str, Pdu] = {}

    @property
    def user_id(self) -> str:
        return f"@bob:{self.name}"

    async def handle(self, seen: Seen) -> Reply:
        """Publish the key; take whatever the server sends."""
        if seen.target.startswith("/_matrix/key/v2/server"):
            until = int(time.time() * 1000) + 3600_000
            return json_reply(make_key_document(self.name, [self.key], [], until))
        if "/send/" in seen.target:
            return json_reply({"pdus": {}})
        if "/get_missing_events/" in seen.target:
            return json_reply({"events": self._before(json.loads(seen.body))})
        return json_reply({"errcode": "M_UNRECOGNIZED", "error": "No"}, 404)

    def _before(self, asked: Any) -> list[Pdu]:
        found: list[Pdu] = []
        earliest = set(asked["earliest_events"])
        todo = list(asked["latest_events"])
        while todo and len(found) < asked["limit"]:
            parents = self.said[todo.pop()]["prev_events"]
            new = [parent for parent in parents if parent in self.said and parent not in earliest]
            found += [self.said[parent] for parent in new]
            todo += new
        return found[::-1]

    async def request(self, method: str, target: str, content: Any = None) -> Any:
        header = authorization(method, target, self.name, self._server.server_name, content, self.key)
        answer = await self._http.request(
            method, self._base_url + target, json=content, headers={"Authorization": header}
        )
        answer.raise_for_status()
        return answer.json()

    def finish(self, event: Pdu) -> tuple[Pdu, str]:
        """An event with its hash and signature, and its ID."""
        signed = sign_event(add_content_hash(event), VERSION, self.name, self.key)
        return signed, event_id_of(signed, VERSION)

    async def join(self, room_id: str) -> RemoteRoom:
        path = f"{quote(room_id, safe='')}/{quote(self.user_id, safe='')}"
        made = await self.request("GET", f"/_matrix/federation/v1/make_join/{path}?ver={VERSION.identifier}")
        now = int(time.time() * 1000)
        join, join_id = self.finish({**made["event"], "origin_server_ts": now, "origin": self.name})
        target = f"/_matrix/federation/v2/send_join/{quote(room_id, safe='')}/{quote(join_id, safe='')}"
        answer = await self.request("PUT", target, join)
        wanted = ("m.room.create", "m.room.power_levels")
        auth = [event_id_of(pdu, VERSION) for pdu in answer["state"] if pdu["type"] in wanted]
        return RemoteRoom(room_id, [*auth, join_id], join_id, join["depth"])

    def say(self, room: RemoteRoom, body: str) -> Pdu:
        pdu, room.last = self.finish(
            {
                "type": "m.room.message",
                "room_id": room.room_id,
                "sender": self.user_id,
                "content": {"msgtype": "m.text", "body": body},
                "depth": room.depth + 1,
                "prev_events": [room.last],
                "auth_events": room.auth,
                "origin_server_ts": int(time.time() * 1000),
            }
        )
        room.depth += 1
        self.said[room.last] = pdu
        return pdu

    async def send(self, pdus: list[Pdu]) -> None:
        self._transactions += 1
        content = {"origin": self.name, "origin_server_ts": int(time.time() * 1000), "pdus": pdus}
        target = f"/_matrix/federation/v1/send/b{self._transactions}"
        for error in (result.get("error") for result in (await self.request("PUT", target, content))["pdus"].values()):
            if error:
                raise RuntimeError(f"an event was refused: {error}")

    async def close(self) -> None:
        await self._http.aclose()


@contextlib.asynccontextmanager
async def scripted_peer(authority: Authority, server: TinyServer | Synapse) -> AsyncIterator[ScriptedPeer]:
    peer = ScriptedPeer(authority, server, f"https://{server.server_name}")
    async with WebServer(authority.issue("127.0.0.1"), peer.handle) as web:
        peer.name = f"127.0.0.1:{web.port}"
        try:
            yield peer
        finally:
            await peer.close()


async def until_visible(reader: Client, room: RemoteRoom) -> None:
    path = f"{reader.room(room.room_id)}/event/{quote(room.last, safe='')}"
    deadline = time.monotonic() + WAIT
    while (await reader.raw("GET", path)).status_code != 200:
        if time.monotonic() > deadline:
            raise RuntimeError("the events did not arrive")
        await asyncio.sleep(0.01)


async def talk(client: Client, room_id: str, waits: list[float], stop: asyncio.Event) -> None:
    """Say something into a room of one's own ten times a second."""
    while not stop.is_set():
        begun = time.monotonic()
        await client.send(room_id, "meanwhile")
        waits.append(time.monotonic() - begun)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.1)


async def measure(server: TinyServer | Synapse, authority: Authority, rooms: int, count: int) -> str:
    alice = await Client(server.base_url).register("alice" + str(rooms))
    try:
        async with scripted_peer(authority, server) as peer:
            made = [await alice.create_room(preset="public_chat", room_version="11") for _ in range(rooms)]
            own = await alice.create_room(preset="private_chat")
            joined = [await peer.join(room_id) for room_id in made]
            pdus = [peer.say(joined[number % rooms], f"message {number}") for number in range(count)]
            process = server._process
            assert process is not None
            before, waits, stop = usage(process.pid), list[float](), asyncio.Event()
            talking = asyncio.ensure_future(talk(alice, own, waits, stop))
            begun = time.monotonic()
            for start in range(0, count, IN_TRANSACTION):
                await peer.send(pdus[start : start + IN_TRANSACTION])
            for room in joined:
                await until_visible(alice, room)
            seconds = time.monotonic() - begun
            stop.set()
            await talking
            used, size = usage(process.pid).since(before), memory(process.pid)
    finally:
        await alice.close()
    median = statistics.median(waits) * 1000
    slow = sorted(waits)[int(len(waits) * 0.95)] * 1000
    return (
        f"{rooms:3} rooms: {count / seconds:7.0f} events/s   {used.cpu / count * 1000:6.2f} ms CPU per event   "
        f"RSS {size.rss / 2**20:5.0f} MB   others {median:5.0f} ms / {slow:5.0f} ms"
    )


async def run(kind: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        authority = Authority(path)
        server: TinyServer | Synapse
        if kind == "synapse":
            INSTALLATIONS.mkdir(exist_ok=True)
            python = await SynapseInstallation.install(INSTALLATIONS) / "bin" / "python"
            (path / "server").mkdir()
            server = Synapse(path / "server", python, authority)
        else:
            (path / "server").mkdir()
            server = tiny_server(path / "server", authority)
        await asyncio.to_thread(server.start)
        try:
            for rooms in (1, 20):
                print(f"{kind:10} {await measure(server, authority, rooms, count)}", flush=True)
        finally:
            await asyncio.to_thread(server.kill)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--only", choices=("tinyserver", "synapse"))
    arguments = parser.parse_args()
    for kind in (arguments.only,) if arguments.only else ("tinyserver", "synapse"):
        asyncio.run(run(kind, arguments.events))


if __name__ == "__main__":
    main()
