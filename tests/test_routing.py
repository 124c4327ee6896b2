"""The router: which endpoint a method and a path lead to."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyserver.api.calls import Call
from tinyserver.api.routing import Answer, Auth, Router, Surface, endpoint
from tinyserver.protocol.errors import InvalidParam, MatrixError, Unrecognized

V3 = "/_matrix/client/v3"


def build_router(*paths: tuple[str, str]) -> Router:
    """A router with one endpoint for each (method, path)."""
    router = Router()
    for method, path in paths:

        class Api:
            surface = Surface.CLIENT

            @endpoint(method, path, spec="client-server-api", auth=Auth.NONE)
            async def handle(self, call: Call[Any, Any]) -> Answer:
                return {}

        router.add(Api())
    return router


def match(router: Router, method: str, path: str | bytes) -> tuple[str, dict[str, str]]:
    route, parameters = router.match(method, path.encode() if isinstance(path, str) else path)
    return route.endpoint.path, parameters


def status(router: Router, method: str, path: str) -> int:
    with pytest.raises(MatrixError) as caught:
        router.match(method, path.encode())
    return caught.value.status


def test_parameters_are_decoded_one_by_one() -> None:
    router = build_router(("PUT", V3 + "/rooms/{roomId}/send/{eventType}/{txnId}"))
    _, parameters = match(router, "PUT", V3 + "/rooms/%21a%3Ab.c/send/m.room.message/a%2Fb%20c+d%C3%A9")
    assert parameters == {"roomId": "!a:b.c", "eventType": "m.room.message", "txnId": "a/b c+dé"}


def test_unencoded_sigils_are_fine() -> None:
    router = build_router(("GET", V3 + "/profile/{userId}"))
    assert match(router, "GET", V3 + "/profile/@alice:example.org:8448")[1] == {"userId": "@alice:example.org:8448"}


def test_literal_segments_win_whatever_the_order() -> None:
    paths = [("GET", "/a/{x}/c"), ("GET", "/a/b/{y}"), ("GET", "/a/b/c"), ("GET", "/a/{x}/d/e")]
    for ordered in (paths, paths[::-1]):
        router = build_router(*ordered)
        assert match(router, "GET", "/a/b/c") == ("/a/b/c", {})
        assert match(router, "GET", "/a/b/z") == ("/a/b/{y}", {"y": "z"})
        assert match(router, "GET", "/a/z/c") == ("/a/{x}/c", {"x": "z"})
        # A literal that leads nowhere does not hide the parameter beside it.
        assert match(router, "GET", "/a/b/d/e") == ("/a/{x}/d/e", {"x": "b"})


def test_one_place_with_different_names() -> None:
    router = build_router(("GET", "/r/{roomId}"), ("PUT", "/r/{alias}"), ("GET", "/r/{roomIdOrAlias}/x"))
    assert match(router, "GET", "/r/1")[1] == {"roomId": "1"}
    assert match(router, "PUT", "/r/1")[1] == {"alias": "1"}
    assert match(router, "GET", "/r/1/x")[1] == {"roomIdOrAlias": "1"}


def test_the_literal_of_another_method_does_not_hide_a_parameter() -> None:
    router = build_router(("POST", "/keys/upload"), ("GET", "/keys/{x}"))
    assert match(router, "GET", "/keys/upload") == ("/keys/{x}", {"x": "upload"})


def test_optional_last_parameter() -> None:
    router = build_router(
        ("PUT", V3 + "/rooms/{roomId}/state/{eventType}/{stateKey?}"), ("GET", V3 + "/rooms/{roomId}/state")
    )
    expected = {"roomId": "r", "eventType": "t", "stateKey": ""}
    assert match(router, "PUT", V3 + "/rooms/r/state/t")[1] == expected
    assert match(router, "PUT", V3 + "/rooms/r/state/t/")[1] == expected
    assert match(router, "PUT", V3 + "/rooms/r/state/t/k")[1] == {**expected, "stateKey": "k"}
    assert match(router, "PUT", V3 + "/rooms/r/state/t/%40a%3Ab")[1] == {**expected, "stateKey": "@a:b"}
    assert match(router, "GET", V3 + "/rooms/r/state")[1] == {"roomId": "r"}
    assert status(router, "PUT", V3 + "/rooms/r/state/t/k/") == 404
    assert status(router, "PUT", V3 + "/rooms/r/state") == 405


def test_trailing_slash_only_where_declared() -> None:
    router = build_router(("GET", V3 + "/pushrules/"), ("GET", V3 + "/devices"))
    assert match(router, "GET", V3 + "/pushrules")[0] == V3 + "/pushrules/"
    assert match(router, "GET", V3 + "/pushrules/")[0] == V3 + "/pushrules/"
    assert status(router, "GET", V3 + "/devices/") == 404


def test_empty_parameters_do_not_match() -> None:
    router = build_router(("GET", V3 + "/rooms/{roomId}/messages"))
    assert status(router, "GET", V3 + "/rooms//messages") == 404


def test_r0_is_v3() -> None:
    router = build_router(("GET", V3 + "/sync"), ("GET", "/_matrix/media/v3/config"), ("GET", "/_matrix/client/v1/x"))
    assert match(router, "GET", "/_matrix/client/r0/sync")[0] == V3 + "/sync"
    assert match(router, "GET", "/_matrix/media/r0/config")[0] == "/_matrix/media/v3/config"
    assert status(router, "GET", "/_matrix/client/r0/x") == 404
    assert status(router, "GET", "/_matrix/federation/r0/sync") == 404


def test_unknown_path_and_unknown_method() -> None:
    router = build_router(("GET", "/a"), ("PUT", "/a"))
    with pytest.raises(Unrecognized) as caught:
        router.match("DELETE", b"/a")
    assert caught.value.status == 405
    assert caught.value.headers == {"Allow": "GET, PUT"}
    assert status(router, "GET", "/b") == 404
    assert status(router, "GET", "/a/b") == 404
    assert match(router, "HEAD", "/a") == ("/a", {})


def test_a_path_that_is_not_utf8() -> None:
    with pytest.raises(InvalidParam):
        build_router(("GET", "/{x}")).match("GET", b"/%ff")


def test_nothing_is_declared_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        build_router(("GET", "/a/{x}"), ("GET", "/a/{y}"))
    with pytest.raises(ValueError, match="slash"):
        build_router(("GET", "a"))


def test_stacked_declarations_and_surface() -> None:
    class Api:
        surface = Surface.ADMIN

        @endpoint("GET", "/stable", spec="s", auth=Auth.NONE)
        @endpoint("GET", "/unstable", spec="s", auth=Auth.NONE)
        async def handle(self, call: Call[Any, Any]) -> Answer:
            return {}

    router = Router()
    router.add(Api())
    assert [(route.path, route.surface) for route in router.routes()] == [
        ("/stable", Surface.ADMIN),
        ("/unstable", Surface.ADMIN),
    ]


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(["GET", "PUT", "PATCH", "", "\u00e9"]))
def test_junk_is_answered_with_a_matrix_error(path: bytes, method: str) -> None:
    router = build_router(("GET", V3 + "/rooms/{roomId}/state/{eventType}/{stateKey?}"), ("GET", "/{a}/{b?}"))
    with suppress(MatrixError):
        router.match(method, b"/" + path)


def test_cost_does_not_grow_with_the_number_of_routes() -> None:
    def seconds(router: Router) -> float:
        best = 1.0
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(2000):
                router.match("GET", b"/p/r7/x/1")
            best = min(best, time.perf_counter() - start)
        return best

    small = build_router(*(("GET", f"/p/r{number}/x/{{y}}") for number in range(8)))
    large = build_router(*(("GET", f"/p/r{number}/x/{{y}}") for number in range(800)))
    assert seconds(large) < 4 * seconds(small)
