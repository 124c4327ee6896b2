import re

import pytest

from tinyserver.protocol import errors
from tinyserver.protocol.errors import ERROR_CLASSES, MatrixError


def test_every_error_has_a_code_a_status_and_a_sentence_of_its_own() -> None:
    here = [cls for cls in MatrixError.__subclasses__() if cls.__module__ == errors.__name__]
    assert len(ERROR_CLASSES) == len(here)
    assert all(cls.errcode == code for code, cls in ERROR_CLASSES.items())
    for cls in ERROR_CLASSES.values():
        assert 400 <= cls.default_status < 600
        assert cls.default_message[0].isupper()
        assert cls.default_message[-1] in ".+"


def test_a_class_is_named_like_its_code() -> None:
    for code, cls in ERROR_CLASSES.items():
        words = re.findall("[A-Z][a-z]*", cls.__name__)
        assert "M_" + "_".join(words).upper() == code
        assert getattr(errors, cls.__name__) is cls


def test_the_body_is_the_standard_error_response() -> None:
    error = errors.Forbidden("You are banned from this room")
    assert (error.status, error.body()) == (403, {"errcode": "M_FORBIDDEN", "error": "You are banned from this room"})
    assert str(error) == "You are banned from this room"


def test_status_headers_and_further_keys_can_be_given() -> None:
    error = errors.Unrecognized(status=405, headers={"Allow": "GET"}, extra={"hint": 1})
    assert (error.status, error.headers) == (405, {"Allow": "GET"})
    assert error.body() == {"errcode": "M_UNRECOGNIZED", "error": errors.Unrecognized.default_message, "hint": 1}


def test_errors_do_not_share_their_further_keys() -> None:
    errors.NotFound().extra["a"] = 1
    assert errors.NotFound().extra == {}


@pytest.mark.parametrize(("milliseconds", "seconds"), [(0, "0"), (1, "1"), (1000, "1"), (1001, "2"), (2500, "3")])
def test_rate_limiting_says_when_to_come_back(milliseconds: int, seconds: str) -> None:
    error = errors.LimitExceeded(milliseconds)
    assert error.status == 429
    assert error.body()["retry_after_ms"] == milliseconds
    assert error.headers == {"Retry-After": seconds}


def test_errors_with_keys_which_the_specification_demands() -> None:
    assert errors.UnknownToken(soft_logout=True).body()["soft_logout"] is True
    assert errors.UserLocked().body()["soft_logout"] is True
    assert (
        errors.ResourceLimitExceeded("mailto:admin@example.org").body()["admin_contact"] == "mailto:admin@example.org"
    )
    limit = errors.UserLimitExceeded("https://example.org/limits", can_upgrade=True).body()
    assert (limit["info_uri"], limit["can_upgrade"]) == ("https://example.org/limits", True)
    assert errors.IncompatibleRoomVersion("org.example.9").body()["room_version"] == "org.example.9"
    assert errors.WrongRoomKeysVersion(current_version="42").body()["current_version"] == "42"
    bad_status = errors.BadStatus(403, "{}")
    assert (bad_status.status, bad_status.body()["status"], bad_status.body()["body"]) == (502, 403, "{}")
