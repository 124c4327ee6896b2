"""What holds every answer against the specification sees what is wrong with one."""

import pytest

from .answer_schemas import check_answer

C3 = "/_matrix/client/v3"


@pytest.mark.parametrize(
    ("method", "path", "status", "right", "wrong"),
    [
        ("POST", "/createRoom", 200, b'{"room_id":"!x"}', b'{"room_id":"x"}'),
        ("GET", "/account/whoami", 200, b'{"user_id":"@x:y"}', b"{}"),
        ("GET", "/rooms/!x/state", 200, b"[]", b"{}"),
        ("GET", "/rooms/!x/state/m.room.name", 200, b"{}", b"[]"),
        ("GET", "/rooms/!x/state/m.room.name/", 200, b"{}", b"[]"),
        ("GET", "/sync", 200, b'{"next_batch":"s1"}', b'{"next_batch":1}'),
        ("GET", "/sync", 401, b'{"errcode":"M_UNKNOWN_TOKEN","error":"x"}', b"{}"),
        ("POST", "/register", 401, b'{"flows":[{"stages":[]}]}', b'{"flows":{}}'),
        ("PUT", "/rooms/!x/send/m.x/1", 200, b'{"event_id":"$x"}', b'{"event_id":null}'),
        ("PUT", "/rooms/!x/send/m.x/1", 418, b'{"errcode":"M_UNKNOWN"}', b"not JSON"),
    ],
)
def test_right_and_wrong(method: str, path: str, status: int, right: bytes, wrong: bytes) -> None:
    check_answer(method, C3 + path, status, right)
    with pytest.raises(AssertionError):
        check_answer(method, C3 + path, status, wrong)


def test_what_the_specification_does_not_know_is_not_judged() -> None:
    check_answer("GET", "/_tinyserver/x", 200, b"anything")
