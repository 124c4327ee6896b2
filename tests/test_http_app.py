"""The HTTP floor on a real socket with endpoints of our own: bodies, queries, authentication, errors, long-polls."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import orjson
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import Response, StreamingResponse

from tinyserver.accounts.requester import Requester
from tinyserver.api import listeners
from tinyserver.api.app import build_app
from tinyserver.api.bodies import MAX_NESTING, BodyReader
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.listeners import HttpListener, ListenError
from tinyserver.api.rate_limits import Limit, RateLimiter
from tinyserver.api.routing import Answer, Auth, Router, Surface, endpoint
from tinyserver.config import Bucket, Listener, RateLimits
from tinyserver.protocol.errors import MatrixError, NotFound, UnknownToken

USERS = {
    "alice": Requester("@alice:x", 1, "PHONE", 1),
    "guest": Requester("@1:x", 2, is_guest=True),
    "root": Requester("@root:x", 3, is_admin=True),
}


class Body(msgspec.Struct):
    name: str
    ids: list[int] = []
    big: int | None = None
    content: dict[str, Any] = {}


class Query(msgspec.Struct):
    user: str
    limit: int = 10
    full: bool = False
    via: list[str] = []
    stable: bool = msgspec.field(default=False, name="org.example.use_it")


class Users:
    def is_exempt(self, token: str) -> bool:
        return False

    async def authenticate(self, token: str, call: Call[Any, Any]) -> Requester:
        try:
            return USERS[token]
        except KeyError:
            raise UnknownToken(soft_logout=True) from None


class EchoApi:
    surface = Surface.CLIENT

    def __init__(self) -> None:
        self.polling = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.news = asyncio.Event()

    @endpoint("POST", "/body", spec="s", auth=Auth.NONE, body=Body)
    async def body(self, call: Call[Body, NoQuery]) -> Answer:
        return call.body

    @endpoint("PUT", "/any", spec="s", auth=Auth.NONE, body=dict, max_body=100_000)
    async def any(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        return {"body": call.body, "length": len(call.raw_body)}

    @endpoint("POST", "/optional", spec="s", auth=Auth.NONE, body=dict, body_optional=True)
    async def optional(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        return call.body

    @endpoint("GET", "/query", spec="s", auth=Auth.NONE, query=Query)
    async def query(self, call: Call[NoBody, Query]) -> Answer:
        return call.query

    @endpoint("GET", "/path/{a}/{b?}", spec="s", auth=Auth.NONE)
    async def path(self, call: Call[NoBody, NoQuery]) -> Answer:
        return dict(call.path)

    @endpoint("GET", "/user", spec="s", auth=Auth.USER)
    @endpoint("GET", "/guests", spec="s", auth=Auth.USER, guests=True)
    @endpoint("GET", "/admin", spec="s", auth=Auth.ADMIN)
    async def whoami(self, call: Call[NoBody, NoQuery]) -> Answer:
        return {"user_id": call.requester.user_id}

    @endpoint("GET", "/maybe", spec="s", auth=Auth.OPTIONAL)
    async def maybe(self, call: Call[NoBody, NoQuery]) -> Answer:
        return {"user_id": call.optional_requester.user_id if call.optional_requester else None}

    @endpoint("GET", "/limited", spec="s", auth=Auth.OPTIONAL, limit=Limit.MESSAGE)
    async def limited(self, call: Call[NoBody, NoQuery]) -> Answer:
        return {"address": call.client_address}

    @endpoint("GET", "/error", spec="s", auth=Auth.NONE)
    async def error(self, call: Call[NoBody, NoQuery]) -> Answer:
        raise NotFound("No such thing", extra={"more": [1]}, headers={"X-More": "yes"})

    @endpoint("GET", "/crash", spec="s", auth=Auth.NONE)
    async def crash(self, call: Call[NoBody, NoQuery]) -> Answer:
        raise ValueError("a secret detail")

    @endpoint("GET", "/answers/{kind}", spec="s", auth=Auth.NONE)
    async def answers(self, call: Call[NoBody, NoQuery]) -> Answer:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"%d" % number

        kinds: dict[str, Answer] = {
            "bytes": b'{"a":1}',
            "list": [1, 2],
            "fragment": orjson.Fragment(b"[3]"),
            "nested": {"event": orjson.Fragment(b'{"x":1}'), "struct": Body("n")},
            "huge": {"n": 2**70, "event": orjson.Fragment(b'{"x":1}'), "text": "é"},
            "response": Response("text", 202, {"X-Own": "1", "Access-Control-Allow-Origin": "https://only.example"}),
            "stream": StreamingResponse(pieces()),
        }
        return kinds[call.path["kind"]]

    @endpoint("POST", "/stream", spec="s", auth=Auth.NONE)
    async def stream(self, call: Call[NoBody, NoQuery]) -> Answer:
        return {"size": sum([len(piece) async for piece in call.stream(300_000)])}

    @endpoint("POST", "/starlette", spec="s", auth=Auth.NONE)
    async def starlette(self, call: Call[NoBody, NoQuery]) -> Answer:
        return {"size": len(await call.request.body())}

    @endpoint("GET", "/poll", spec="s", auth=Auth.NONE, long_poll=True)
    async def poll(self, call: Call[NoBody, NoQuery]) -> Answer:
        self.polling.set()
        try:
            await self.news.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {"news": True}


class AdminApi:
    surface = Surface.METRICS

    @endpoint("GET", "/metrics", spec="s", auth=Auth.NONE)
    async def metrics(self, call: Call[NoBody, NoQuery]) -> Answer:
        return {}


class Site:
    """A listener on a free port, and a client for it."""

    def __init__(self, **options: Any) -> None:
        self.api = EchoApi()
        router = Router()
        router.add(self.api)
        router.add(AdminApi())
        limits = RateLimits(message=Bucket(0.01, 2))
        app = build_app(router, Users(), RateLimiter(limits, asyncio.get_running_loop().time), **options)
        self.listener = HttpListener(Listener(address="127.0.0.1:0"), app)
        self.http = httpx.AsyncClient(trust_env=False, timeout=20)

    async def open(self) -> None:
        await self.listener.open()
        self.http.base_url = httpx.URL(self.listener.url)

    async def close(self) -> None:
        await self.http.aclose()
        self.listener.stop_accepting()
        await self.listener.finish(5)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes over a connection of their own; everything that comes back until the server closes it."""
        url = httpx.URL(self.listener.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(data)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        return answer


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    opened = Site(surfaces=[Surface.CLIENT], trusted_proxies=["127.0.0.1", "10.0.0.0/8"])
    await opened.open()
    yield opened
    await opened.close()


def assert_error(answer: httpx.Response, status: int, errcode: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    body = answer.json()
    assert body["errcode"] == errcode
    message: str = body["error"]
    assert message
    return message


BAD_BODIES = [
    (b"", "M_NOT_JSON", ""),
    (b"{", "M_NOT_JSON", ""),
    (b'{"name": "a",}', "M_NOT_JSON", ""),
    (b"name=a", "M_NOT_JSON", ""),
    (b'\xef\xbb\xbf{"name":"a"}', "M_NOT_JSON", ""),
    (b'{"name":"\xff"}', "M_NOT_JSON", "UTF-8"),
    (b'{"name":"\xed\xa0\x80"}', "M_NOT_JSON", "UTF-8"),
    (b'{"name":"\\ud800 lone"}', "M_NOT_JSON", ""),
    (b'{"name":"\\udc00 lone"}', "M_NOT_JSON", ""),
    (b'{"name":"a","content":{"x":NaN}}', "M_NOT_JSON", ""),
    (b"[]", "M_BAD_JSON", "object"),
    (b"null", "M_BAD_JSON", "object"),
    (b'"text"', "M_BAD_JSON", "object"),
    (b"{}", "M_BAD_JSON", "name"),
    (b'{"name":1}', "M_BAD_JSON", "$.name"),
    (b'{"name":null}', "M_BAD_JSON", "$.name"),
    (b'{"name":"a","ids":[1,"x"]}', "M_BAD_JSON", "$.ids[1]"),
    (b'{"name":"a","ids":{}}', "M_BAD_JSON", "$.ids"),
    (b'{"name":"a","big":1.5}', "M_BAD_JSON", "$.big"),
    (b'{"name":"a","content":{"x":1e999}}', "M_BAD_JSON", "range"),
    (b'{"name":"a","content":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "M_BAD_JSON", "deep"),
    (b'{"name":"a","content":{"x":' + b"[" * MAX_NESTING + b"]" * MAX_NESTING + b"}}", "M_BAD_JSON", "deep"),
]


@pytest.mark.parametrize(("body", "errcode", "words"), BAD_BODIES, ids=range(len(BAD_BODIES)))
async def test_bad_bodies(site: Site, body: bytes, errcode: str, words: str) -> None:
    assert words in assert_error(await site.http.post("/body", content=body), 400, errcode)


async def test_good_bodies(site: Site) -> None:
    sent = {
        "name": "ü\u0000😀",
        "ids": [1, 2],
        "big": 10**30,
        "content": {"deep": [[{}]], "\u0000": 1.5},
        "extra": {"x": 1},
    }
    answer = await site.http.post("/body", content=json.dumps(sent).encode())
    assert answer.status_code == 200
    assert answer.json() == {key: value for key, value in sent.items() if key != "extra"}
    many = {"name": "a", "content": {"x": [{}] * 1000, "brackets": '[{\\"' * 1000}}
    assert (await site.http.post("/body", content=json.dumps(many).encode())).status_code == 200


async def test_optional_bodies(site: Site) -> None:
    assert (await site.http.post("/optional")).json() == {}
    assert (await site.http.post("/optional", content=b'{"reason":"x"}')).json() == {"reason": "x"}
    assert_error(await site.http.post("/optional", content=b"x"), 400, "M_NOT_JSON")


async def test_body_limits(site: Site) -> None:
    body = b'{"a":"' + b"x" * 99_992 + b'"}'
    answer = await site.http.put("/any", content=body)
    assert answer.json()["length"] == 100_000
    assert "100000 bytes" in assert_error(await site.http.put("/any", content=body + b" "), 413, "M_TOO_LARGE")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" " * 10_000

    assert_error(await site.http.put("/any", content=endless()), 413, "M_TOO_LARGE")
    huge = b"PUT /any HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 99999999999999\r\n\r\n"
    assert b"M_TOO_LARGE" in await site.raw(huge)


async def test_streams(site: Site) -> None:
    assert (await site.http.post("/stream", content=b"x" * 300_000)).json() == {"size": 300_000}
    assert_error(await site.http.post("/stream", content=b"x" * 300_001), 413, "M_TOO_LARGE")
    assert (await site.http.post("/starlette", content=b"x" * 300_001)).json() == {"size": 300_001}


async def test_queries(site: Site) -> None:
    answer = await site.http.get("/query?user=%40a%3Ab&limit=5&full=true&via=a&via=b+c&other=1&org.example.use_it=true")
    assert answer.json() == {
        "user": "@a:b", "limit": 5, "full": True, "via": ["a", "b c"], "org.example.use_it": True
    }  # fmt: skip
    assert (await site.http.get("/query?user=")).json()["user"] == ""
    assert (await site.http.get("/query?user=a&user=b&limit=99999999999999999999")).json()[
        "limit"
    ] == 99999999999999999999


@pytest.mark.parametrize(
    ("query", "errcode", "words"),
    [
        ("", "M_MISSING_PARAM", "'user'"),
        ("user=a&limit=ten", "M_INVALID_PARAM", "$.limit"),
        ("user=a&limit=", "M_INVALID_PARAM", "$.limit"),
        ("user=a&full=maybe", "M_INVALID_PARAM", "$.full"),
        ("user=%ff", "M_INVALID_PARAM", "UTF-8"),
        ("user=a&limit=" + "9" * 5000, "M_INVALID_PARAM", "$.limit"),
        ("user=a" + "&via=x" * 1000, "M_INVALID_PARAM", "too long"),
    ],
)
async def test_bad_queries(site: Site, query: str, errcode: str, words: str) -> None:
    assert words in assert_error(await site.http.get("/query?" + query), 400, errcode)


async def test_paths_over_http(site: Site) -> None:
    assert (await site.http.get("/path/a%2Fb/%F0%9F%98%80")).json() == {"a": "a/b", "b": "😀"}
    assert (await site.http.get("/path/a")).json() == {"a": "a", "b": ""}
    assert_error(await site.http.get("/path/%ff"), 400, "M_INVALID_PARAM")
    assert_error(await site.http.get("/nowhere"), 404, "M_UNRECOGNIZED")
    answer = await site.http.post("/query")
    assert_error(answer, 405, "M_UNRECOGNIZED")
    assert answer.headers["allow"] == "GET"


async def test_authentication(site: Site) -> None:
    async def get(path: str, token: str = "", query: str = "") -> httpx.Response:
        return await site.http.get(path + query, headers={"Authorization": f"Bearer {token}"} if token else {})

    assert (await get("/user", "alice")).json() == {"user_id": "@alice:x"}
    assert (await get("/user", query="?access_token=alice")).json() == {"user_id": "@alice:x"}
    assert (await get("/user", "alice", "?access_token=root")).json() == {"user_id": "@alice:x"}
    assert_error(await get("/user"), 401, "M_MISSING_TOKEN")
    unknown = await get("/user", "mallory")
    assert_error(unknown, 401, "M_UNKNOWN_TOKEN")
    assert unknown.json()["soft_logout"] is True
    assert_error(await get("/user", "guest"), 403, "M_GUEST_ACCESS_FORBIDDEN")
    assert (await get("/guests", "guest")).status_code == 200
    assert_error(await get("/admin", "alice"), 403, "M_FORBIDDEN")
    assert (await get("/admin", "root")).status_code == 200
    assert (await get("/maybe")).json() == {"user_id": None}
    assert (await get("/maybe", "alice")).json() == {"user_id": "@alice:x"}
    assert_error(await get("/maybe", "mallory"), 401, "M_UNKNOWN_TOKEN")
    for header in ("bearer alice", "Bearer  alice"):
        assert (await site.http.get("/user", headers={"Authorization": header})).status_code == 200
    for header in ("alice", "Bearer", "Basic YTpi", "X-Matrix origin=a"):
        assert_error(await site.http.get("/user", headers={"Authorization": header}), 401, "M_MISSING_TOKEN")


async def test_rate_limits_and_client_addresses(site: Site) -> None:
    async def get(forwarded: str | None, token: str = "") -> httpx.Response:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        return await site.http.get(
            "/limited", headers=headers | ({"Authorization": f"Bearer {token}"} if token else {})
        )

    assert (await get(None)).json() == {"address": "127.0.0.1"}
    assert (await get("192.0.2.1")).json() == {"address": "192.0.2.1"}
    # What the client wrote into the header by itself stands left of what the trusted proxies added.
    assert (await get("1.1.1.1, 192.0.2.1, 10.1.2.3")).json() == {"address": "192.0.2.1"}
    refused = await get("192.0.2.1:5000")
    assert_error(refused, 429, "M_LIMIT_EXCEEDED")
    assert 0 < refused.json()["retry_after_ms"] <= 100_000
    assert int(refused.headers["retry-after"]) == -(-refused.json()["retry_after_ms"] // 1000)
    assert (await get("192.0.2.2")).json() == {"address": "192.0.2.2"}
    assert (await get("junk, <script>")).json() == {"address": "127.0.0.1"}
    for status in (200, 200, 429):
        assert (await get("192.0.2.1", "alice")).status_code == status
    for _ in range(5):
        assert (await get(None, "root")).status_code == 200


async def test_forwarded_addresses_of_strangers_are_not_believed() -> None:
    site = Site(trusted_proxies=["10.0.0.0/8"])
    await site.open()
    answer = await site.http.get("/limited", headers={"X-Forwarded-For": "192.0.2.1"})
    await site.close()
    assert answer.json() == {"address": "127.0.0.1"}


async def test_errors(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    answer = await site.http.get("/error")
    assert assert_error(answer, 404, "M_NOT_FOUND") == "No such thing"
    assert answer.json()["more"] == [1]
    assert answer.headers["x-more"] == "yes"
    with caplog.at_level(logging.ERROR):
        crash = await site.http.get("/crash?access_token=hidden")
    message = assert_error(crash, 500, "M_UNKNOWN")
    assert "secret" not in message
    assert message.split()[-1].rstrip(".") in caplog.text
    assert "a secret detail" in caplog.text
    assert "hidden" not in caplog.text


async def test_answers(site: Site) -> None:
    async def get(kind: str) -> httpx.Response:
        return await site.http.get("/answers/" + kind)

    assert (await get("bytes")).json() == {"a": 1}
    assert (await get("list")).json() == [1, 2]
    assert (await get("fragment")).json() == [3]
    assert (await get("nested")).json()["event"] == {"x": 1}
    assert (await get("nested")).json()["struct"]["name"] == "n"
    assert (await get("huge")).json() == {"n": 2**70, "event": {"x": 1}, "text": "é"}
    response = await get("response")
    assert (response.status_code, response.text, response.headers["x-own"]) == (202, "text", "1")
    assert response.headers.get_list("access-control-allow-origin") == ["https://only.example"]
    assert "authorization" in response.headers["access-control-allow-headers"].lower()
    stream = await get("stream")
    assert stream.text == "012"
    assert stream.headers["access-control-allow-origin"] == "*"


async def test_head_and_options(site: Site) -> None:
    head = await site.http.head("/answers/list")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "5")
    for path in ("/user", "/nowhere"):
        options = await site.http.options(path)
        assert (options.status_code, options.content) == (204, b"")
        assert options.headers["access-control-allow-origin"] == "*"
        assert {"GET", "PUT", "POST", "DELETE", "OPTIONS"} <= set(
            options.headers["access-control-allow-methods"].split(", ")
        )


async def test_other_surfaces_are_not_served(site: Site) -> None:
    assert_error(await site.http.get("/metrics"), 404, "M_UNRECOGNIZED")


async def test_a_long_poll_ends_with_its_client(site: Site) -> None:
    request = asyncio.create_task(site.http.get("/poll"))
    await asyncio.wait_for(site.api.polling.wait(), 10)
    request.cancel()
    await asyncio.wait_for(site.api.cancelled.wait(), 10)


async def test_a_long_poll_gets_its_news(site: Site) -> None:
    request = asyncio.create_task(site.http.get("/poll"))
    await asyncio.wait_for(site.api.polling.wait(), 10)
    site.api.news.set()
    assert (await request).json() == {"news": True}
    assert not site.api.cancelled.is_set()


async def test_draining_answers_what_is_open_and_takes_nothing_new(site: Site) -> None:
    url = site.listener.url
    request = asyncio.create_task(site.http.get("/poll"))
    await asyncio.wait_for(site.api.polling.wait(), 10)
    site.listener.stop_accepting()
    async with httpx.AsyncClient(trust_env=False) as other:
        with pytest.raises(httpx.ConnectError):
            await other.get(url)
    site.api.news.set()
    assert (await request).json() == {"news": True}
    await asyncio.wait_for(site.listener.finish(10), 5)


async def test_draining_cancels_what_does_not_end(site: Site) -> None:
    request = asyncio.create_task(site.http.get("/poll"))
    await asyncio.wait_for(site.api.polling.wait(), 10)
    site.listener.stop_accepting()
    await asyncio.wait_for(site.listener.finish(0.05), 5)
    assert site.api.cancelled.is_set()
    with pytest.raises(httpx.HTTPError):
        (await request).raise_for_status()


async def test_pipelined_and_kept_alive_requests(site: Site) -> None:
    one = b"GET /path/a HTTP/1.1\r\nhost: x\r\n\r\n"
    last = b"GET /path/b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = await site.raw(one + one + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"\r\ndate: ") == 3


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"a" * 200_000,
        b"GET /" + b"a" * 200_000,
    ],
    ids=range(9),
)
async def test_junk_instead_of_http(site: Site, junk: bytes) -> None:
    answer = await site.raw(junk)
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"404", b"204"), answer
    assert (await site.http.get("/path/a")).status_code == 200


async def test_an_address_in_use(site: Site) -> None:
    address = site.listener.url.removeprefix("http://")
    with pytest.raises(ListenError, match=address):
        await HttpListener(Listener(address=address), lambda *_: None).open()  # type: ignore[arg-type,return-value]


async def test_a_certificate_that_is_not_there() -> None:
    with pytest.raises(ListenError, match=r"nowhere\.pem"):
        HttpListener(Listener(tls_certificate="nowhere.pem", tls_key="k"), lambda *_: None)  # type: ignore[arg-type,return-value]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_decoded_or_refused(raw: bytes) -> None:
    for kind in (Body, dict):
        try:
            BodyReader(kind).decode(raw)
        except MatrixError as error:
            if error.status != 400:
                raise


async def test_who_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_STALL_SECONDS", 0.2)
    sent, gone = 0, asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        watching = asyncio.ensure_future(until_gone(receive))
        while not gone.is_set():
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
            sent += 100_000
        await watching

    async def until_gone(receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    listener = HttpListener(Listener(address="127.0.0.1:0"), endless)
    await listener.open()
    host, port = listener.url.removeprefix("http://").split(":")
    slow, writer = await asyncio.open_connection(host, int(port), limit=1000)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await slow.readexactly(200_000)
    assert not gone.is_set()  # who reads is served on
    async with asyncio.timeout(10):
        await gone.wait()
    assert sent < 50_000_000
    writer.transport.abort()
    listener.stop_accepting()
    await listener.finish(5)
