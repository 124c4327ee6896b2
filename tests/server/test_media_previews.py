"""Previews of links, and that they show nothing of the server's own network."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ..federation.network import Reply, Seen, WebServer
from .client import Client
from .conftest import MakeServer, NewUser
from .harness import TinyServer
from .test_media import download
from .test_media_thumbnails import picture

PATHS = ("/_matrix/client/v1/media/preview_url", "/_matrix/media/v3/preview_url")
SERVER_CONFIG = {"url_previews": {"enabled": True, "allow_private_addresses": True, "blocked_domains": ["localhost"]}}


class Site(WebServer):
    """A web site: `pages` by path as (status, headers, body)."""

    def __init__(self) -> None:
        super().__init__(None, self._page)
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def html(self, path: str, body: str) -> str:
        """Put a page there; its URL."""
        self.pages[path] = (200, {"Content-Type": "text/html; charset=utf-8"}, body.encode())
        return self.url + path

    async def _page(self, seen: Seen) -> Reply:
        status, headers, body = self.pages.get(seen.target, (404, {}, b""))
        body = body.replace(b"{language}", seen.headers.get("accept-language", "").encode())
        return Reply(status, body, headers)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as made:
        yield made


async def preview(client: Client, url: str, **expectation: Any) -> Any:
    return await client.request("GET", PATHS[0], params={"url": url}, **expectation)


async def test_what_a_page_says(new_user: NewUser, server: TinyServer, site: Site) -> None:
    alice = await new_user("alice")
    image = picture(300, 200)
    site.pages["/cat.jpg"] = (200, {"Content-Type": "image/jpeg"}, image)
    url = site.html(
        "/page?x=1",
        '<html><head><title>A title</title><meta property="og:title" content="  Of   Öpen Graph ">'
        '<meta property="og:description" content="Words"><meta property="og:image" content="/cat.jpg">'
        '<meta property="og:image:width" content="99999"><meta property="og:evil>" content="x">'
        '<meta name="twitter:title" content="late"></head><body><p>text',
    )
    found = await preview(alice, url + "#part")
    uri = found.pop("og:image")
    assert found == {
        "og:title": "Of Öpen Graph",
        "og:description": "Words",
        "og:image:type": "image/jpeg",
        "og:image:width": 300,
        "og:image:height": 200,
        "matrix:image:size": len(image),
    }
    assert (await download(alice, uri)).content == image
    visits = len(site.seen)
    assert (await alice.request("GET", PATHS[1], params={"url": url}))["og:image"] == uri
    assert len(site.seen) == visits


async def test_a_page_in_the_languages_of_each_reader(new_user: NewUser, server: TinyServer, site: Site) -> None:
    alice = await new_user("alice")
    url = site.html("/languages", "<title>in {language}</title>")
    for language in ("de", "en", "de"):
        assert (await preview(alice, url, headers={"Accept-Language": language}))["og:title"] == f"in {language}"


async def test_pages_without_open_graph(new_user: NewUser, server: TinyServer, site: Site) -> None:
    alice = await new_user("alice")
    plain = site.html("/plain", "<title>Just\na title</title><h1>Heading</h1><p></p><p>First words.</p>")
    assert await preview(alice, plain) == {"og:title": "Just a title", "og:description": "First words."}
    site.pages["/latin"] = (
        200,
        {"Content-Type": "text/html; charset=iso-8859-1"},
        "<title>Köln</title>".encode("latin-1"),
    )
    assert await preview(alice, site.url + "/latin") == {"og:title": "Köln"}
    site.pages["/o.json"] = (
        200,
        {"Content-Type": "application/json"},
        json.dumps({"type": "video", "title": "A film", "provider_name": "Films", "html": "<script>"}).encode(),
    )
    oembed = site.html("/film", '<link rel="alternate" type="application/json+oembed" href="/o.json">')
    assert await preview(alice, oembed) == {"og:title": "A film", "og:site_name": "Films"}
    site.pages["/dot.png"] = (200, {"Content-Type": "image/png"}, picture(30, 20, "PNG"))
    assert (await preview(alice, site.url + "/dot.png"))["og:image:width"] == 30
    site.pages["/moved"] = (302, {"Location": "/plain"}, b"")
    assert (await preview(alice, site.url + "/moved"))["og:title"] == "Just a title"
    assert await preview(alice, site.url + "/missing") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<" * 100_000,
        b"<div>" * 100_000,
        b"\xff\xfe\x00" * 1000,
        b'<meta property="og:image" content="http://[::1"><title>x',
        b'<meta property="og:image" content="file:///etc/passwd"><title>x',
        b'<meta property="og:image" content="mxc://tiny.test/x"><title>x',
        b'<link type="application/json+oembed" href="/deep.json"><title>x',
        b"<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><title>&b;</title>",
        b"<meta property='og:title' content='" + b"x" * 500_000 + b"'>",
    ],
    ids=range(10),
)
async def test_hostile_pages(new_user: NewUser, server: TinyServer, site: Site, body: bytes) -> None:
    alice = await new_user("alice")
    site.pages["/deep.json"] = (200, {"Content-Type": "application/json"}, b"[" * 100_000)
    site.pages["/hostile"] = (200, {"Content-Type": "text/html"}, body)
    found = await preview(alice, site.url + "/hostile")
    assert "og:image" not in found
    assert all(len(str(value)) <= 1000 for value in found.values())


async def test_pages_that_do_not_end_or_do_not_answer(new_user: NewUser, server: TinyServer, site: Site) -> None:
    alice = await new_user("alice")
    site.pages["/large"] = (200, {"Content-Type": "text/html"}, b"x" * (4 * 1024 * 1024))
    site.pages["/loop"] = (302, {"Location": "/loop"}, b"")
    site.pages["/liar"] = (200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, b"no gzip")
    for path in ("/large", "/loop", "/liar"):
        await preview(alice, site.url + path, expect=502, errcode="M_UNKNOWN")


@pytest.mark.parametrize("url", ["", "x", "ftp://a.example/", "file:///etc/passwd", "http://u:p@a.example/", "http://"])
async def test_what_is_no_link(new_user: NewUser, server: TinyServer, url: str) -> None:
    alice = await new_user("alice")
    await preview(alice, url, expect=400, errcode="M_INVALID_PARAM")


async def test_domains_that_are_blocked(new_user: NewUser, server: TinyServer, site: Site) -> None:
    alice = await new_user("alice")
    await preview(alice, f"http://x.localhost:{site.port}/", expect=403, errcode="M_FORBIDDEN")
    assert site.connections == 0


async def test_nothing_of_the_own_network(new_user: NewUser, make_server: MakeServer, site: Site) -> None:
    """Also where the server itself may connect to private addresses."""
    server = make_server(
        config={"url_previews": {"enabled": True, "allow_private_addresses": False, "blocked_domains": []}}
        | {"outgoing": {"allow_private_addresses": True}}
    )
    alice = await new_user("alice", server=server)
    for host in (
        *("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]"),
        *("[::ffff:7f00:1]", "0.0.0.0", "[::]", "127.0.0.1.", "[64:ff9b::7f00:1]", "①②⑦.⓪.⓪.①"),
    ):
        answer = await alice.raw("GET", PATHS[0], params={"url": f"http://{host}:{site.port}/"})
        assert answer.status_code in (400, 502), (host, answer.text)
    assert site.connections == 0


async def test_off_unless_it_is_turned_on(new_user: NewUser, make_server: MakeServer, site: Site) -> None:
    server = make_server(config={"url_previews": {"enabled": False}})
    alice = await new_user("alice", server=server)
    await preview(alice, site.url, expect=403, errcode="M_FORBIDDEN")
    assert site.connections == 0
