"""Checks of what clients send as push rules.

What is unknown is kept: actions, tweaks and kinds of conditions that this server does not know may mean something to
clients, and an unknown condition merely never matches. What is known must be well-formed.

spec: client-server-api#push-rules, client-server-api#put_matrixclientv3pushrulesglobalkindruleid
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from tinyserver.protocol.errors import BadJson, InvalidParam, MissingParam
from tinyserver.protocol.push_rules.defaults import CONTENT, OVERRIDE, UNDERRIDE

MAX_RULE_ID_BYTES: Final = 1024
MAX_PATTERN_LENGTH: Final = 512
MAX_CONDITIONS: Final = 64
MAX_ACTIONS: Final = 32

MEMBER_COUNT: Final = re.compile(r"(==|<=|>=|<|>)?([0-9]{1,15})")
"""The grammar of ``is`` in a ``room_member_count`` condition; more than fifteen digits are refused."""

_HISTORICAL_ACTIONS: Final = frozenset(("dont_notify", "coalesce"))
_MAX_INTEGER: Final = 2**53 - 1
_KEY_NEEDED: Final = frozenset(
    ("event_match", "event_property_is", "event_property_contains", "sender_notification_permission")
)
_VALUE_NEEDED: Final = frozenset(("event_property_is", "event_property_contains"))

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RuleBody:
    """The checked body of a request that puts a rule; what does not belong to the rule's kind is None."""

    actions: list[Any]
    conditions: list[Json] | None
    pattern: str | None

    @classmethod
    def parse(cls, kind: str, body: object) -> "RuleBody":
        """Check the body (parsed JSON) for a rule of a known kind.

        :raises MissingParam: ``actions`` is missing, or ``pattern`` of a content rule.
        :raises BadJson: a value has the wrong type.
        :raises InvalidParam: a value is too large or not in its grammar.
        """
        body = _object(body)
        actions = parse_actions(body)
        conditions = _parse_conditions(body.get("conditions")) if kind in (OVERRIDE, UNDERRIDE) else None
        pattern = _parse_pattern(body) if kind == CONTENT else None
        return cls(actions, conditions, pattern)


def check_new_rule_id(rule_id: str) -> None:
    """Check the ID of a rule that a user puts.

    :raises InvalidParam: it is empty or too long, starts with a dot (those are the server's), or contains a slash, a
        backslash or what is no text.
    """
    if rule_id.startswith("."):
        raise InvalidParam("The ID of a push rule must not start with a dot; those are the server's own rules.")
    if "/" in rule_id or "\\" in rule_id:
        raise InvalidParam("The ID of a push rule must not contain slashes or backslashes.")
    if not rule_id or not _is_text(rule_id) or len(rule_id.encode()) > MAX_RULE_ID_BYTES:
        raise InvalidParam(f"The ID of a push rule must be a text of 1 to {MAX_RULE_ID_BYTES} bytes.")


def parse_actions(body: object) -> list[Any]:
    """Check ``actions`` in the body of a request and return them without the historical ones.

    :raises MissingParam: there are none.
    :raises BadJson: they are no list of strings and objects, or a tweak's name is no string.
    :raises InvalidParam: there are too many.
    """
    body = _object(body)
    if "actions" not in body:
        raise MissingParam("A push rule needs actions. To do nothing, send an empty list.")
    actions = body["actions"]
    if not isinstance(actions, list):
        raise BadJson("The actions of a push rule must be a list.")
    if len(actions) > MAX_ACTIONS:
        raise InvalidParam(f"A push rule may have {MAX_ACTIONS} actions.")
    for action in actions:
        is_tweak = isinstance(action, dict) and isinstance(action.get("set_tweak", ""), str)
        if not isinstance(action, str) and not is_tweak:
            raise BadJson("An action must be a string, or an object whose set_tweak is a string.")
    return [action for action in actions if not (isinstance(action, str) and action in _HISTORICAL_ACTIONS)]


def parse_enabled(body: object) -> bool:
    """Check ``enabled`` in the body of a request.

    :raises MissingParam: it is missing.
    :raises BadJson: it is no boolean.
    """
    body = _object(body)
    if "enabled" not in body:
        raise MissingParam("The key enabled is missing.")
    enabled = body["enabled"]
    if not isinstance(enabled, bool):
        raise BadJson("The key enabled must be true or false.")
    return enabled


def is_comparable(value: object) -> bool:
    """Whether a JSON value is one that conditions compare: a string, an integer in range, a boolean or null."""
    if isinstance(value, int) and not isinstance(value, bool):
        return -_MAX_INTEGER <= value <= _MAX_INTEGER
    return value is None or isinstance(value, str | bool)


def _object(body: object) -> Json:
    if not isinstance(body, dict):
        raise BadJson("The request must be a JSON object.")
    return body


def _parse_conditions(conditions: object) -> list[Json]:
    if conditions is None:
        return []
    if not isinstance(conditions, list):
        raise BadJson("The conditions of a push rule must be a list.")
    if len(conditions) > MAX_CONDITIONS:
        raise InvalidParam(f"A push rule may have {MAX_CONDITIONS} conditions.")
    for condition in conditions:
        _check_condition(condition)
    return conditions


def _check_condition(condition: object) -> None:
    if not isinstance(condition, dict) or not isinstance(condition.get("kind"), str):
        raise BadJson("A condition must be an object with a kind.")
    kind = condition["kind"]
    if kind in _KEY_NEEDED:
        _check_text(condition, "key", kind)
    if kind == "event_match":
        _check_text(condition, "pattern", kind)
    if kind in _VALUE_NEEDED:
        if "value" not in condition:
            raise MissingParam(f"A condition of the kind {kind} needs a value.")
        if not is_comparable(condition["value"]):
            raise BadJson(f"The value of a condition of the kind {kind} must be a string, integer, boolean or null.")
    if kind == "room_member_count":
        _check_text(condition, "is", kind)
        if not MEMBER_COUNT.fullmatch(condition["is"]):
            raise InvalidParam("room_member_count needs a number, which may follow ==, <, >, <= or >=.")


def _check_text(condition: Json, name: str, kind: str) -> None:
    if name not in condition:
        raise MissingParam(f"A condition of the kind {kind} needs the key {name}.")
    value = condition[name]
    if not isinstance(value, str):
        raise BadJson(f"{name} of a condition must be a string.")
    if len(value) > MAX_PATTERN_LENGTH:
        raise InvalidParam(f"{name} of a condition may have {MAX_PATTERN_LENGTH} characters.")


def _parse_pattern(body: Json) -> str:
    if "pattern" not in body:
        raise MissingParam("A rule of the kind content needs a pattern.")
    pattern = body["pattern"]
    if not isinstance(pattern, str):
        raise BadJson("The pattern of a push rule must be a string.")
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise InvalidParam(f"The pattern of a push rule may have {MAX_PATTERN_LENGTH} characters.")
    return pattern


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
