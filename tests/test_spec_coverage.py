"""Every operation of the specification is served, or stands here with the reason why not; and nothing else is served
but what stands here, too. `pytest -s` prints how many there are."""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tinyserver.api.other_paths import OTHER_PATHS, others_of
from tinyserver.api.routing import Auth, Endpoint, Router, Surface
from tinyserver.config import load_config
from tinyserver.protocol.errors import Unrecognized
from tinyserver.server import Server

from .answer_schemas import operations_that_may_answer
from .server.harness import TinyServer

Operation = tuple[str, str]

OUTGOING = "this server calls it, others serve it"
"""Operations of these APIs are requests to application services and push gateways."""
OUTGOING_APIS = ("application-service", "push-gateway")

POLICY = "policy servers are servers of their own kind: this one asks them, and is asked for no signatures"

_C1, _C3, _F1 = "/_matrix/client/v1", "/_matrix/client/v3", "/_matrix/federation/v1"
LEFT_OUT: dict[str, tuple[str, ...]] = {
    POLICY: ("POST /_matrix/policy/v1/sign",),
    "each kind of query has an endpoint of its own": (f"GET {_F1}/query/{{}}",),
}

EXTRAS: dict[str, str] = {
    r"/_tinyserver/": "this server's own",
    r"/_matrix/push/v1/notify$": "the built-in push gateway",
    r"/_synapse/admin/v1/register": "how existing tools make accounts",
    r"/_matrix/key/v2/(server|query/\{\})/\{\}": "older servers name the key that they want",
    rf"{_F1}/send_(join|leave)/\{{\}}/\{{\}}": "version 1 of what has a version 2",
    rf"{_C3}/auth/\{{\}}/fallback/web": "a page of user-interactive authentication",
    r"/_matrix/static/client/login/": "a page of signing in",
    r"/oauth2/|/(account|link|register)$": "OAuth and its pages, which have no paths in the specification",
    r"/_matrix/federation/v1/3pid/onbind$": "what the identity service API says to be a POST, and the other a PUT",
    r"/account/(email|unsubscribe)$": "the pages behind the links in mails",
    r"/\.well-known/(openid-configuration|oauth-authorization-server)$": "how OAuth itself finds an issuer's metadata",
    r"/_matrix/client/v1/(rooms/\{\}/thread/|thread_subscriptions$)": "thread subscriptions: MSC4306 and MSC4308",
    rf"{_C3}/rooms/\{{\}}/delayed_event/|{_C1}/delayed_events": "delayed events: MSC4140",
    r"/_matrix/client/unstable/[a-z-]+\.": "proposals that are not in v1.19",
    r"/_matrix/client/(v1/(rendezvous|rtc)|v4)": "what comes after v1.19",
}


def normal(path: str) -> str:
    """A path with parameters that have no names."""
    return re.sub(r"\{[^}]*\}", "{}", path.strip())


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Router:
    """The endpoints of a server that has everything switched on."""
    made = TinyServer(tmp_path_factory.mktemp("coverage"))
    made.init()

    async def build() -> Router:
        parts = Server(load_config(made.config_file))
        await parts.stop()
        return parts.router

    return asyncio.run(build())


@pytest.fixture(scope="module")
def specified() -> dict[Operation, str]:
    """(method, path) of every operation that this server is to serve, with its name."""
    text = (Path(__file__).parent / "vectors" / "endpoints.tsv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines()[1:], delimiter="\t")
    return {(row["method"], normal(row["path"])): row["operationId"] for row in rows if row["api"] not in OUTGOING_APIS}


def left_out() -> set[Operation]:
    return {(entry.split()[0], entry.split()[1]) for entries in LEFT_OUT.values() for entry in entries}


def forms(endpoint: Endpoint) -> set[Operation]:
    """An endpoint as operations: two where its last parameter may be missing."""
    shorter = re.sub(r"/\{\w+\?\}$", "", endpoint.path)
    return {(endpoint.method, normal(path)) for path in (endpoint.path, shorter)}


def served(endpoints: Iterable[Endpoint]) -> set[Operation]:
    return {form for endpoint in endpoints for form in forms(endpoint)}


def test_every_operation_is_served_or_has_a_reason(router: Router, specified: dict[Operation, str]) -> None:
    found = served(router.routes())
    answered = specified.keys() & found
    print(f"{len(answered)} of {len(specified)} operations of the specification are served")
    assert specified.keys() - found - left_out() == set()


def test_reasons_are_not_kept_for_what_is_served(router: Router, specified: dict[Operation, str]) -> None:
    assert left_out() & served(router.routes()) == set()
    assert left_out() - specified.keys() == set()


def test_everything_else_that_is_served_is_known(router: Router, specified: dict[Operation, str]) -> None:
    beyond = served(endpoint for endpoint in router.routes() if not forms(endpoint) & specified.keys())
    assert [path for _, path in beyond if not any(re.match(known, path) for known in EXTRAS)] == []
    assert [known for known in EXTRAS if not any(re.match(known, path) for _, path in beyond)] == []


UNLIMITED = (
    r"POST .*/logout(/all)?$",  # whoever wants to go can go
    r"POST .*/sync$",  # waits by itself
)
"""What may change something, and as often as one likes."""


def test_who_changes_something_or_is_nobody_is_limited(router: Router) -> None:
    """Endpoints that only read what is here are limited by what they cost; all others by the rate limits."""
    served_here = [
        endpoint
        for endpoint in router.routes()
        if endpoint.surface in (Surface.CLIENT, Surface.MEDIA)
        and endpoint.path.startswith("/_matrix/")
        and endpoint.auth in (Auth.NONE, Auth.OPTIONAL, Auth.USER)
    ]
    unlimited = {f"{each.method} {normal(each.path)}" for each in served_here if each.limit is None}
    changing = {each for each in unlimited if not each.startswith("GET ")}
    assert [each for each in changing if not any(re.match(known, each) for known in UNLIMITED)] == []
    # Other servers are asked on behalf of these.
    assert [each for each in unlimited if re.search("/(profile|directory|publicRooms|hierarchy|summary)", each)] == []
    assert unlimited & operations_that_may_answer(429) == set()


def test_other_paths_lead_to_operations_of_today(router: Router, specified: dict[Operation, str]) -> None:
    paths = {path for _, path in specified}
    assert [other for other in OTHER_PATHS if normal(other.known) not in paths] == []
    for endpoint in router.routes():
        for method, path in others_of(endpoint.method, endpoint.path):
            assert router.match(method, path.replace("{", "").replace("}", "").encode())[0].endpoint is endpoint


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/_matrix/client/r0/sync", f"{_C3}/sync"),
        ("GET", "/_matrix/client/api/v1/publicRooms", f"{_C3}/publicRooms"),
        ("POST", "/_matrix/client/unstable/keys/device_signing/upload", f"{_C3}/keys/device_signing/upload"),
        ("GET", "/_matrix/client/unstable/rooms/r/relations/e", f"{_C1}/rooms/{{roomId}}/relations/{{eventId}}"),
        ("GET", "/_matrix/client/v1/joined_rooms", f"{_C3}/joined_rooms"),
    ],
)
def test_older_prefixes(router: Router, method: str, path: str, known: str) -> None:
    assert router.match(method, path.encode())[0].endpoint.path == known


def test_what_nobody_knows_is_not_recognised(router: Router) -> None:
    for path, status in (
        ("/_matrix/client/unstable/org.example.msc9999/sync", 404),
        ("/_matrix/client/r1/sync", 404),
        ("/_matrix/client/r0/sync", 405),
    ):
        with pytest.raises(Unrecognized) as caught:
            router.match("DELETE", path.encode())
        assert caught.value.status == status


def test_the_page_about_the_specification_names_what_exists() -> None:
    top = Path(__file__).parent.parent
    page = (top / "docs" / "spec-coverage.md").read_text("utf-8")
    paths = re.findall(r"`([a-z_/]+(?:\.py|/))`", page)
    assert len(paths) > 50
    assert [path for path in paths if not ((top / "tinyserver" / path).exists() or (top / path).exists())] == []
