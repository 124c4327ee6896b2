"""A server with one room of very many members, which others join: scripted, always the same, signing all it says.

The members are spread over a hundred servers, `s0.test` to `s99.test`. All of them are this one process: it answers
their names in DNS, has certificates for them, and signs with the one key that they share. A tinyserver that is given
its DNS server and its authority takes it for the whole network.

    python -m benchmarks.crowd_peer --members 50000 --version 11    # makes the room and keeps it in .bench
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx

from tests.federation.network import Authority, Reply, Seen, WebServer, Zone, dns_server, json_reply
from tinyserver.protocol.auth_rules import auth_keys_for
from tinyserver.protocol.event_hashes import add_content_hash, event_id_of, sign_event
from tinyserver.protocol.events import build_pdu
from tinyserver.protocol.request_auth import authorization
from tinyserver.protocol.room_versions import get_room_version
from tinyserver.protocol.server_keys import make_key_document
from tinyserver.protocol.signing import sign_json

from .forked_rooms import CREATOR, KEY, SERVERS, Branch, Key, auth_ids, crowd

RESIDENT = "s0.test"
CACHE = Path(__file__).parent.parent / ".bench"
_KEYS_VALID_MS = 6 * 24 * 3600 * 1000
_MEMBER = "m.room.member"


def crowded_room(version: str, members: int, servers: int = SERVERS) -> Branch:
    """The room, from the cache if it was made before."""
    file = CACHE / f"crowd-{version}-{members}-{servers}.jsonl"
    if not file.exists():
        room, _ = crowd(version, members, servers)
        room.send(CREATOR, "m.room.name", {"name": "Everybody"})
        CACHE.mkdir(exist_ok=True)
        unfinished = file.with_suffix(".new")
        unfinished.write_text("".join(json.dumps(pdu, separators=(",", ":")) + "\n" for pdu in room.events.values()))
        unfinished.rename(file)
    room_version = get_room_version(version)
    found = Branch(room_version, {})
    with file.open() as lines:
        for line in lines:
            _add(found, json.loads(line))
    return found


def _add(room: Branch, pdu: dict[str, Any]) -> str:
    """Put a finished event at the end of a room."""
    event_id = event_id_of(pdu, room.version)
    room.events[event_id] = pdu
    if room.room_id is None:
        room.room_id = pdu.get("room_id") or "!" + event_id[1:]
    if "state_key" in pdu:
        room.state[pdu["type"], pdu["state_key"]] = event_id
    room.tip, room.depth, room.now = event_id, pdu["depth"], max(room.now, pdu["origin_server_ts"])
    return event_id


class CrowdPeer:
    """All servers of the room but the one that joins.

    Args:
        room: the room as it stands.
        omits: whether it leaves members out when it may.

    Attributes:
        gate: what asks for the whole state waits for it; set unless the test clears it.
        cut_after: the answer with the whole state breaks off after so many events; None: it does not.
        asked: what was asked for so far: `send_join`, `state` and so on.
        forgetful: it does not tell what precedes an event.
        leaves_out: by server, a type of state that is missing in the states that it tells.
        dead: the servers that answer nothing sensible any more.
        received: the PDUs that were sent to it.
    """

    def __init__(self, room: Branch, *, omits: bool = True) -> None:
        self.room = room
        self.omits = omits
        self.gate = asyncio.Event()
        self.gate.set()
        self.cut_after: int | None = None
        self.dead: set[str] = set()
        self.forgetful = False
        self.leaves_out: dict[str, str] = {}
        self.asked: list[str] = []
        self.received: list[dict[str, Any]] = []
        self._before: dict[str, dict[Key, str]] = {}
        self._transactions = 0

    @property
    def room_id(self) -> str:
        assert self.room.room_id is not None
        return self.room.room_id

    def joined(self) -> list[str]:
        """The members."""
        return [
            user
            for (kind, user), event_id in self.room.state.items()
            if kind == _MEMBER and self.room.events[event_id]["content"]["membership"] == "join"
        ]

    # -- what it says ----------------------------------------------------------------------------

    def make(
        self,
        sender: str,
        kind: str,
        content: Mapping[str, Any],
        state_key: str | None = None,
        cite: Mapping[Key, str] | None = None,
        after: str | None = None,
    ) -> dict[str, Any]:
        """An event of a member at the end of the room, not yet sent anywhere; `cite` names auth events other than those
        of the state, `after` an event that it follows instead of the newest."""
        room = self.room
        keys = auth_keys_for(room.version, kind, sender, state_key, content)
        cited = {key: room.state[key] for key in keys if key in room.state} | dict(cite or {})
        room.now += 1000
        pdu = build_pdu(
            room.version,
            room_id=room.room_id,
            type=kind,
            sender=sender,
            state_key=state_key,
            content=content,
            prev_events=[after or room.tip or ""],
            auth_events=[cited[key] for key in sorted(cited)],
            depth=room.depth + 1,
            origin_server_ts=room.now,
        )
        signed = sign_event(add_content_hash(pdu), room.version, sender.partition(":")[2], KEY)
        _add(room, signed)
        return signed

    async def tell(self, base_url: str, server_name: str, *pdus: dict[str, Any]) -> dict[str, Any]:
        """Send events to the server that joined, from the server of the first sender; its answer."""
        origin = pdus[0]["sender"].partition(":")[2]
        self._transactions += 1
        target = f"/_matrix/federation/v1/send/t{self._transactions}"
        content = {"origin": origin, "origin_server_ts": self.room.now, "pdus": list(pdus), "edus": []}
        header = authorization("PUT", target, origin, server_name, content, KEY)
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            answer = await http.put(base_url + target, json=content, headers={"Authorization": header})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()["pdus"]
        return told

    # -- what it answers -------------------------------------------------------------------------

    async def handle(self, seen: Seen) -> Reply:
        """One request."""
        path, _, query = seen.target.partition("?")
        parts = [unquote(part) for part in path.split("/")[3:]]
        self.asked.append(parts[1])
        host = seen.headers.get("host", "").partition(":")[0]
        if host in self.dead:
            return Reply(503, b"down")
        arguments = parse_qs(query)
        match parts:
            case ["v2", "server"]:
                return json_reply(_key_document(host))
            case ["v2", "query"]:
                wanted = json.loads(seen.body)["server_keys"]
                return json_reply({"server_keys": [sign_json(_key_document(name), host, KEY) for name in wanted]})
            case [_, "make_join", _, user]:
                return json_reply(self._template(user))
            case [_, "send_join", _, _]:
                return self._joined(json.loads(seen.body), arguments.get("omit_members") == ["true"])
            case [_, "state_ids", _]:
                state = self._state_before(arguments["event_id"][0], host)
                return json_reply({"pdu_ids": state, "auth_chain_ids": sorted(self._chain(state))})
            case [_, "state", _]:
                await self.gate.wait()
                state = self._state_before(arguments["event_id"][0], host)
                return self._whole(state)
            case [_, "event_auth", _, event_id]:
                return Reply(body=_object(auth_chain=self._texts(self._chain([event_id]))))
            case [_, "event", event_id] if event_id in self.room.events:
                return Reply(body=_object(pdus=self._texts([event_id])))
            case [_, "get_missing_events", _]:
                return Reply(body=_object(events=self._texts(self._missing(json.loads(seen.body)))))
            case [_, "send", _]:
                return self._sent(json.loads(seen.body)["pdus"])
        return json_reply({"errcode": "M_UNRECOGNIZED", "error": "No"}, 404)

    def _template(self, user: str) -> dict[str, Any]:
        room = self.room
        keys = auth_keys_for(room.version, _MEMBER, user, user, {"membership": "join"})
        event = {
            "auth_events": [room.state[key] for key in keys if key in room.state],
            "prev_events": [room.tip],
            "depth": room.depth + 1,
            "content": {"membership": "join"},
        }
        return {"room_version": room.version.identifier, "event": event}

    def _joined(self, join: dict[str, Any], may_omit: bool) -> Reply:
        room = self.room
        before = dict(room.state)
        self._before[_add(room, join)] = before
        omit = may_omit and self.omits
        state = [event_id for key, event_id in before.items() if not omit or key[0] != _MEMBER]
        chain = self._chain([*state, *auth_ids(join)]) | set(auth_ids(join))
        if may_omit:
            chain -= set(state)
        return Reply(
            body=_object(
                origin=json.dumps(RESIDENT).encode(),
                event=json.dumps(join).encode(),
                members_omitted=b"true" if omit else b"false",
                servers_in_room=json.dumps(sorted({user.partition(":")[2] for user in self.joined()})).encode(),
                state=self._texts(state),
                auth_chain=self._texts(sorted(chain)),
            )
        )

    def _whole(self, state: list[str]) -> Reply:
        body = _object(pdus=self._texts(state), auth_chain=self._texts(self._chain(state)))
        if self.cut_after is None:
            return Reply(body=body)
        head = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        kept = _object(pdus=self._texts(state[: self.cut_after]))
        return Reply(raw=head + kept[:-2])

    def _state_before(self, event_id: str, host: str) -> list[str]:
        if event_id in self._before:
            return [other for key, other in self._before[event_id].items() if key[0] != self.leaves_out.get(host)]
        state: dict[Key, str] = {}
        for other, pdu in self.room.events.items():
            if other == event_id:
                break
            if "state_key" in pdu:
                state[pdu["type"], pdu["state_key"]] = other
        return list(state.values())

    def _chain(self, event_ids: Iterable[str]) -> set[str]:
        chain: set[str] = set()
        todo = list(event_ids)
        while todo:
            further = [auth for auth in auth_ids(self.room.events[todo.pop()]) if auth not in chain]
            chain.update(further)
            todo += further
        return chain

    def _missing(self, wanted: Mapping[str, Any]) -> list[str]:
        known, todo = set(wanted["earliest_events"]), list(wanted["latest_events"])
        found: list[str] = []
        while todo and not self.forgetful and len(found) < int(wanted["limit"]):
            for parent in self.room.events.get(todo.pop(0), {}).get("prev_events", ()):
                if parent not in known and parent in self.room.events:
                    known.add(parent)
                    found.append(parent)
                    todo.append(parent)
        return found[::-1]

    def _sent(self, pdus: list[dict[str, Any]]) -> Reply:
        results = {}
        for pdu in pdus:
            event_id = event_id_of(pdu, self.room.version)
            results[event_id] = dict[str, Any]()
            if event_id not in self.room.events:
                self.received.append(pdu)
                _add(self.room, pdu)
        return json_reply({"pdus": results})

    def _texts(self, event_ids: Collection[str]) -> bytes:
        events = self.room.events
        return b"[%b]" % b",".join(
            json.dumps(events[event_id], separators=(",", ":")).encode() for event_id in event_ids
        )


def _object(**members: bytes) -> bytes:
    return b"{%b}" % b",".join(json.dumps(name).encode() + b":" + value for name, value in members.items())


def _key_document(server: str) -> dict[str, Any]:
    return make_key_document(server, [KEY], [], int(time.time() * 1000) + _KEYS_VALID_MS)


@asynccontextmanager
async def on_the_network(peer: CrowdPeer, directory: Path) -> AsyncIterator[dict[str, Any]]:
    """The peer's servers are there; gives the `[outgoing]` configuration of a server that is to find them."""
    names = [f"s{number}.test" for number in range(SERVERS)]
    authority, zone = Authority(directory), Zone()
    async with WebServer(authority.issue(*names), peer.handle) as web, dns_server(zone) as dns:
        for name in names:
            zone.add_address(name, "127.0.0.1")
            zone.add_srv(f"_matrix-fed._tcp.{name}", name, web.port)
        yield {"dns_servers": [dns], "extra_ca_files": [str(authority.ca_file)], "allow_private_addresses": True}


async def _serve(room: Branch, *, omits: bool) -> None:
    """For the benchmark: say in one line of JSON how to be found and joined, and serve until the input ends."""
    with tempfile.TemporaryDirectory() as directory:
        peer = CrowdPeer(room, omits=omits)
        async with on_the_network(peer, Path(directory)) as outgoing:
            print(
                json.dumps({"outgoing": outgoing, "room_id": peer.room_id, "members": len(peer.joined())}), flush=True
            )
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, input_ended)


def input_ended() -> None:
    """Wait until the standard input is closed."""
    sys.stdin.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=50_000)
    parser.add_argument("--version", default="11")
    parser.add_argument("--serve", action="store_true", help="serve the room until the standard input ends")
    parser.add_argument("--whole", action="store_true", help="answer joins with all members")
    arguments = parser.parse_args()
    room = crowded_room(arguments.version, arguments.members)
    if arguments.serve:
        asyncio.run(_serve(room, omits=not arguments.whole))


if __name__ == "__main__":
    main()
