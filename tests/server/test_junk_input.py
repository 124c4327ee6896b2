"""Generated junk at every route: a clear error of the specification each time, and nothing of it stored.

`TINYSERVER_JUNK_EXAMPLES=500` makes as many requests for each route, other ones in every run.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tinyserver.api.routing import Endpoint
from tinyserver.config import load_config
from tinyserver.protocol import canonical_json
from tinyserver.server import Server
from tinyserver.storage import event_codec

from ..answer_schemas import check_answer
from .client import Client, timeline
from .conftest import NewUser
from .harness import TinyServer
from .junk import FILTER, Junk, Request, World

# Without federation: junk that names other servers must not send this one out to look for them.
SERVER_CONFIG = {"registration": {"allow_guests": True}, "federation": {"enabled": False}}
PER_ROUTE = int(os.environ.get("TINYSERVER_JUNK_EXAMPLES", "40"))
EXAMPLES = settings(
    max_examples=PER_ROUTE,
    derandomize="TINYSERVER_JUNK_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MAX_EVENT = 65_536


class Driver:
    """Sends raw HTTP requests over one kept-alive connection."""

    def __init__(self, server: TinyServer) -> None:
        self.world = World()
        self._server = server
        self._socket: socket.socket | None = None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, request: Request) -> tuple[HTTPResponse, bytes]:
        """The answer and its body."""
        head = [f"{request.method} {request.target(self.world)} HTTP/1.1", "host: x"]
        head += [f"{name}: {value}" for name, value in request.headers]
        if request.token is not None:
            head.append(f"authorization: Bearer {self.world.tokens[request.token]}")
        body = request.body
        if body is not None:
            body = self.world.fill(body.decode("latin-1")).encode("latin-1")
            head.append(f"content-length: {len(body)}")
        raw = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + (body or b"")
        for attempt in (1, 2):
            reused = self._socket is not None
            try:
                return self._exchange(request.method, raw)
            except (OSError, HTTPException):
                self.close()
                if not reused or attempt == 2:  # a connection that was kept alive may have been closed meanwhile
                    raise
        raise AssertionError("unreachable")

    def _exchange(self, method: str, raw: bytes) -> tuple[HTTPResponse, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._server.port), timeout=30)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # refused before it was sent: the answer says why
            self._socket.sendall(raw)
        response = HTTPResponse(self._socket, method=method)
        response.begin()
        body = response.read()
        if response.will_close:
            self.close()
        return response, body


def raw_answer(server: TinyServer, raw: bytes) -> bytes:
    """Send bytes as they are on a connection of their own, end it, and return what comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


@contextlib.contextmanager
def database(server: TinyServer) -> Iterator[sqlite3.Connection]:
    """The server's database file, to look at."""
    connection = sqlite3.connect(f"file:{server.data_dir / 'tinyserver.db'}?mode=ro", uri=True)
    try:
        yield connection
    finally:
        connection.close()


def dump(server: TinyServer) -> list[str]:
    """Every row in the database, but for the indexes of words, which follow in their own time."""
    with database(server) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        return [
            f"{table} {row}"
            for (table,) in tables
            if not table.startswith(("search_index", "user_words", "open_rooms"))
            for row in connection.execute(f'SELECT * FROM "{table}"')
            if row[0] != "search"
        ]


@pytest_asyncio.fixture
async def routes(tmp_path: Path, server: TinyServer) -> list[Endpoint]:
    """Every endpoint that the server has."""
    parts = Server(replace(load_config(server.config_file), data_dir=tmp_path / "routes"))
    try:
        return parts.router.routes()
    finally:
        await parts.stop()


async def new_world(server: TinyServer, new_user: NewUser) -> tuple[World, list[Client]]:
    """A small world of real things for the junk to refer to, and its people."""
    alice, bob, carol = people = [await new_user(name) for name in ("alice", "bob", "carol")]
    old = await alice.create_room(bob, room_version="10", preset="public_chat")
    room = await alice.create_room(bob, room_alias_name=alice.localpart, preset="public_chat")
    event = await alice.send(room, "hello")
    await bob.send(room, "hello, too")
    state = await alice.put_state(room, "m.room.topic", {"topic": "junk"})
    made = await alice.request("POST", f"/user/{alice.user_id}/filter", FILTER)
    guest = await carol.request("POST", "/register", {}, params={"kind": "guest"})
    world = World()
    world.values |= {"ROOM": room, "OLD_ROOM": old, "EVENT": event, "STATE_EVENT": state, "ALICE": alice.user_id}
    world.values |= {"BOB": bob.user_id, "DEVICE": alice.device_id, "ALIAS": f"#{alice.localpart}:{server.server_name}"}
    world.values |= {
        "SERVER": server.server_name,
        "FILTER": made["filter_id"],
        "SINCE": (await bob.sync())["next_batch"],
    }
    for name, person in zip(("ALICE", "BOB", "CAROL"), people, strict=True):
        world.tokens[name] = person.access_token or ""
    world.tokens["GUEST"] = guest["access_token"]
    return world, people


def check(endpoint: Endpoint, response: HTTPResponse, body: bytes) -> None:
    """The answer is one that the specification knows."""
    assert response.status < 500, "a server error"
    assert response.headers["access-control-allow-origin"] == "*", "no CORS headers"
    if response.headers.get_content_type() == "text/html":
        return  # pages for people
    if response.status in (302, 303):
        assert endpoint.path.startswith(("/oauth2/", "/_matrix/client/v3/login/sso/")), "a redirect"
        return
    if "msc4108" in endpoint.path and response.status < 400:
        return  # any text that was sent there, or none
    answer = json.loads(body.decode("utf-8"))
    body.decode("utf-8").encode("utf-8")
    if response.status >= 400:
        assert isinstance(answer, dict), "the error is no JSON object"
        told = isinstance(answer.get("errcode"), str) or (response.status == 401 and "flows" in answer)
        assert told or endpoint.path.startswith("/oauth2/"), "no errcode"
        assert isinstance(answer.get("error"), str) or "flows" in answer, "no error message"
    else:
        assert response.status == (201 if endpoint.path == "/oauth2/clients" else 200), "an unexpected status"


def throw(endpoint: Endpoint, driver: Driver, stored: sqlite3.Connection, statuses: Counter[int]) -> None:
    """Send generated junk to one endpoint and look at every answer."""

    def version() -> int:
        """A number that differs after every commit of the server."""
        number: int = stored.execute("PRAGMA data_version").fetchone()[0]
        return number

    def version_after(request: Request) -> int:
        driver.send(request)
        return version()

    @EXAMPLES
    @given(st.randoms(use_true_random=False))
    def one(random: Random) -> None:
        request = Junk(random).request(endpoint)
        before = version()
        response, body = driver.send(request)
        statuses[response.status] += 1
        try:
            check(endpoint, response, body)
            target, _, query = request.target(driver.world).partition("?")
            # Filters come back as they were stored, and may ask for parts of events, which are no events.
            if "filter" not in query and "/filter/" not in target:
                check_answer(request.method, target, response.status, body)
            if response.status >= 400 and version() != before:
                # What an earlier request goes on doing in the background may have been stored just now; not for ever.
                assert any(version() == version_after(request) for _ in range(100)), "an error stored something"
        except Exception as error:
            shown = replace(request, body=request.body and request.body[:3000])
            raise AssertionError(f"{error}: {response.status} {body[:1000]!r}\nto {shown}") from None

    one()


async def test_junk_at_every_route(server: TinyServer, routes: list[Endpoint], new_user: NewUser) -> None:
    statuses: Counter[int] = Counter()
    everybody: list[Client] = []
    with contextlib.closing(Driver(server)) as driver, database(server) as stored:
        used = True
        for endpoint in sorted(routes, key=lambda endpoint: endpoint.method != "GET"):
            if used:  # what only reads leaves the world as it is for the next
                driver.world, people = await new_world(server, new_user)
                everybody += people
            used = endpoint.method != "GET"
            throw(endpoint, driver, stored, statuses)
            server.log.check()
        print(f"{statuses.total()} requests at {len(routes)} routes: {dict(sorted(statuses.items()))}")
        assert stored.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert statuses.total() >= len(routes) * PER_ROUTE // 2
    assert statuses[200] > len(routes), "so much junk that it never got far"
    await everything_can_be_read(everybody)


async def everything_can_be_read(people: list[Client]) -> None:
    """Whatever junk was accepted, syncs and histories go on working."""
    for person in people:
        if (await person.raw("GET", "/account/whoami")).status_code != 200:
            await person.login(person.user_id, person.password)
        answer = await person.sync(full_state=True)
        for room in answer.get("rooms", {}).get("join", {}):
            await person.request("GET", f"{person.room(room)}/members")
            token = None
            while (page := await person.messages(room, from_=token, limit=100)).get("end"):
                token = page["end"]


@pytest.mark.parametrize("timeout", ["-1", "9" * 18, "9" * 30, "9" * 400])
async def test_a_patience_beyond_all_numbers(new_user: NewUser, timeout: str) -> None:
    """Where there is something to tell, so that nobody waits."""
    alice = await new_user()
    await alice.create_room()
    for path in ("/sync", "/events"):
        await alice.request("GET", path, params={"timeout": timeout, "from": "s0"}, expect=(200, 400))
    for path, key in (("/keys/query", "device_keys"), ("/keys/claim", "one_time_keys")):
        await alice.request("POST", path, content=f'{{"{key}":{{}},"timeout":{timeout}}}'.encode(), expect=(200, 400))


# Framing of HTTP itself


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("content-length: 100", b'{"a":1}'),
        ("content-length: 3", b'{"a":1}'),
        ("content-length: -1", b"{}"),
        ("content-length: 1x", b"{}"),
        ("content-length: 99999999999999999999", b"{}"),
        ("content-length: 2\r\ncontent-length: 3", b"{}"),
        ("transfer-encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked", b"zz\r\n{}\r\n"),
        ("transfer-encoding: chunked", b"FFFFFFFFFFFFFFFFFF\r\n{}\r\n"),
        ("transfer-encoding: chunked\r\ncontent-length: 2", b"{}"),
        ("content-type application/json", b"{}"),
        ("\0: x", b"{}"),
        ("content-length: 2\r\nexpect: 100-continue", b"{}"),
    ],
)
def test_broken_framing(server: TinyServer, head: str, body: bytes) -> None:
    request = f"POST /_matrix/client/v3/login HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode("latin-1") + body
    answer = raw_answer(server, request)
    for status in [line.split(b" ")[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]:
        assert status in (b"100", b"400", b"413"), answer


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 2 * 1024 * 1024])
def test_a_body_that_is_too_large(server: TinyServer, size: int) -> None:
    body = b'{"type":"' + b"x" * (size - 11) + b'"}'
    head = f"POST /_matrix/client/v3/login HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    chunked = "POST /_matrix/client/v3/login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    for request in (head.encode() + body, chunked.encode() + pieces):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}") and (piece := connection.recv(65536)):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 413 "), answer
        assert b"M_TOO_LARGE" in answer


# Events


def stored_size(server: TinyServer, event_type: str) -> int:
    """The size of the newest event of a type as it stands in the database, in bytes of canonical JSON."""
    with database(server) as connection:
        (body,) = connection.execute(
            "SELECT body FROM events WHERE type = (SELECT nid FROM names WHERE name = ?) ORDER BY nid DESC LIMIT 1",
            (event_type,),
        ).fetchone()
    return len(canonical_json.encode(event_codec.decode(body)))


async def test_the_largest_event(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user()
    room = await alice.create_room()
    for number in range(5):  # the depth has two digits from now on
        await alice.send(room, f"{number}")
    await alice.send(room, {"body": ""}, "org.example.large")
    fits = MAX_EVENT - stored_size(server, "org.example.large")
    before = dump(server)
    await alice.send(room, {"body": "x" * (fits + 1)}, "org.example.large", expect=413, errcode="M_TOO_LARGE")
    assert dump(server) == before
    largest = await alice.send(room, {"body": "x" * fits}, "org.example.large")
    assert stored_size(server, "org.example.large") == MAX_EVENT
    await alice.sync_until(lambda answer: largest in [event["event_id"] for event in timeline(answer, room)])


@pytest.mark.parametrize(
    "content", [b'{"a":1.5}', b'{"a":[{"b":1e2}]}', b'{"a":9007199254740992}', b'{"a":-9007199254740992}', b'{"a":1.0}']
)
@pytest.mark.parametrize("version", ["6", "9", "10", "11", "12"])
async def test_numbers_that_canonical_json_does_not_have(
    server: TinyServer, new_user: NewUser, version: str, content: bytes
) -> None:
    alice = await new_user()
    room = await alice.create_room(room_version=version)
    before = dump(server)
    for path in ("send/org.example.x/t1", "state/org.example.x/", "state/org.example.x"):
        await alice.request("PUT", f"{alice.room(room)}/{path}", content=content, expect=400, errcode="M_BAD_JSON")
    assert dump(server) == before
    for number in (b"9007199254740991", b"-9007199254740991"):
        await alice.request(
            "PUT", f"{alice.room(room)}/send/org.example.x/t{number.decode()}", content=b'{"a":%b}' % number
        )


async def test_errors_store_nothing(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room()
    await alice.send(room, "hello", txn="t")
    at = alice.room(room)
    before = dump(server)
    nested = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
    for person, method, path, content, errcode in (
        (bob, "PUT", f"{at}/send/m.room.message/x", b'{"body":"x"}', "M_FORBIDDEN"),
        (bob, "PUT", f"{at}/state/m.room.name/", b'{"name":"x"}', "M_FORBIDDEN"),
        (bob, "POST", f"{at}/join", b"{}", "M_FORBIDDEN"),
        (bob, "POST", f"{at}/invite", json.dumps({"user_id": bob.user_id}).encode(), "M_FORBIDDEN"),
        (bob, "POST", f"{at}/leave", b"{}", "M_FORBIDDEN"),
        (alice, "PUT", f"{at}/send/m.room.message/x", b'{"body":', "M_NOT_JSON"),
        (alice, "PUT", f"{at}/send/m.room.message/x", b'{"body":"\\ud800"}', None),
        (alice, "PUT", f"{at}/send/m.room.message/x", b'{"body":"\xff"}', "M_NOT_JSON"),
        (alice, "PUT", f"{at}/send/m.room.message/x", nested, None),
        (alice, "PUT", f"{at}/send/{'x' * 256}/x", b"{}", None),
        (alice, "PUT", f"{at}/state/org.example/{'x' * 256}", b"{}", None),
        (alice, "PUT", f"{at}/state/m.room.create/", b'{"room_version":"1"}', None),
        (alice, "PUT", f"{at}/state/m.room.member/{bob.user_id}", b'{"membership":"lurk"}', None),
        (alice, "PUT", f"{at}/state/m.room.power_levels/", b'{"users":{"nobody":1}}', None),
        (alice, "PUT", f"{at}/state/m.room.power_levels/", b'{"ban":"x"}', None),
        (alice, "PUT", f"{at}/state/m.room.power_levels/", b'{"ban":1e400}', None),
        (alice, "POST", f"{at}/invite", b'{"user_id":3}', "M_BAD_JSON"),
        (alice, "POST", f"{at}/invite", b'{"user_id":"nobody"}', "M_INVALID_PARAM"),
        (alice, "POST", f"{at}/kick", json.dumps({"user_id": bob.user_id}).encode(), None),
        (alice, "POST", f"{at}/upgrade", b'{"new_version":"99"}', "M_UNSUPPORTED_ROOM_VERSION"),
        (alice, "POST", "/createRoom", b'{"room_version":"99"}', "M_UNSUPPORTED_ROOM_VERSION"),
        (alice, "POST", "/createRoom", b'{"invite":["nobody"]}', None),
        (alice, "POST", "/createRoom", b'{"power_level_content_override":{"users":{"x":"y"}}}', None),
        (
            alice,
            "POST",
            "/createRoom",
            b'{"initial_state":[{"type":"m.room.create","content":{}},{"type":3}]}',
            "M_BAD_JSON",
        ),
        (alice, "POST", "/createRoom", b'{"room_alias_name":"a b\\u0000"}', None),
        (alice, "PUT", f"/user/{bob.user_id}/account_data/m.x", b"{}", "M_FORBIDDEN"),
        (alice, "PUT", f"/user/{alice.user_id}/account_data/m.x", b"[]", "M_BAD_JSON"),
        (alice, "PUT", f"/profile/{bob.user_id}/displayname", b'{"displayname":"x"}', "M_FORBIDDEN"),
        (alice, "PUT", f"/profile/{alice.user_id}/displayname", b'{"displayname":3}', None),
    ):
        answer = await person.request(method, path, content=content, expect=(400, 403, 404, 413), errcode=errcode)
        assert dump(server) == before, (method, path, content[:200], answer)
    async with Client(server.base_url, "not-a-token") as stranger:
        await stranger.send(room, "x", expect=401, errcode="M_UNKNOWN_TOKEN")
    assert dump(server) == before
