"""The server-default push rules.

They are those of the specification in its order, and four things beyond it, under the unstable names by which clients
know them:

- MSC4028 (first after the master rule): every encrypted event is pushed, so that a client can decrypt it and find a
  mention in a room where only mentions notify. It is a rule like any other: users and clients can turn it off.
- MSC4306 (a kind of its own): threads that a user has subscribed to notify, others do not. Only for who subscribes to
  threads at all: to everybody else threads are what they always were.
- MSC4075: an ``org.matrix.msc4075.rtc.notification`` that wants to ring makes the phone ring, before the ordinary
  mention rules if it mentions the user or the room, and after the user's own rules if it mentions nobody.

spec: client-server-api#predefined-rules
"""

from typing import Any, Final

OVERRIDE: Final = "override"
CONTENT: Final = "content"
POSTCONTENT: Final = "postcontent"
"""Between keywords and rooms: only the server has rules of this kind, and not for everybody."""
ROOM: Final = "room"
SENDER: Final = "sender"
UNDERRIDE: Final = "underride"

KINDS: Final = (OVERRIDE, CONTENT, POSTCONTENT, ROOM, SENDER, UNDERRIDE)
"""The kinds of rules in the order in which they are checked."""

MASTER_RULE_ID: Final = ".m.rule.master"
ENCRYPTED_EVENT_RULE_ID: Final = ".org.matrix.msc4028.encrypted_event"

USER_ID: Final = "[the user's Matrix ID]"
"""Stands in the conditions of default rules for the ID of the rules' owner."""

RTC_NOTIFICATION_TYPE: Final = "org.matrix.msc4075.rtc.notification"

Json = dict[str, Any]


def _type_is(event_type: str) -> Json:
    return {"kind": "event_match", "key": "type", "pattern": event_type}


def _matches(key: str, pattern: str) -> Json:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def _rule(rule_id: str, conditions: list[Json], actions: list[Any], *, enabled: bool = True) -> Json:
    return {"rule_id": rule_id, "default": True, "enabled": enabled, "conditions": conditions, "actions": actions}


def _sound(name: str) -> Json:
    return {"set_tweak": "sound", "value": name}


_HIGHLIGHT: Final[Json] = {"set_tweak": "highlight"}
_NO_STATE_KEY: Final = _matches("state_key", "")
_TWO_MEMBERS: Final[Json] = {"kind": "room_member_count", "is": "2"}
_MENTIONS_USER: Final[Json] = {
    "kind": "event_property_contains",
    "key": r"content.m\.mentions.user_ids",
    "value": USER_ID,
}
_MENTIONS_ROOM: Final[list[Json]] = [
    {"kind": "event_property_is", "key": r"content.m\.mentions.room", "value": True},
    {"kind": "sender_notification_permission", "key": "room"},
]
_RINGS: Final[list[Json]] = [_type_is(RTC_NOTIFICATION_TYPE), _matches("content.notification_type", "ring")]
_IS_EDIT: Final[Json] = {"kind": "event_property_is", "key": r"content.m\.relates_to.rel_type", "value": "m.replace"}

_OVERRIDES: Final = (
    _rule(MASTER_RULE_ID, [], [], enabled=False),
    _rule(ENCRYPTED_EVENT_RULE_ID, [_type_is("m.room.encrypted")], ["notify"]),
    _rule(".m.rule.suppress_notices", [_matches("content.msgtype", "m.notice")], []),
    _rule(
        ".m.rule.invite_for_me",
        [_type_is("m.room.member"), _matches("content.membership", "invite"), _matches("state_key", USER_ID)],
        ["notify", _sound("default")],
    ),
    _rule(".m.rule.member_event", [_type_is("m.room.member")], []),
    _rule(".org.matrix.msc4075.rule.rtc.ring_for_me", [*_RINGS, _MENTIONS_USER], ["notify", _sound("ring")]),
    _rule(".m.rule.is_user_mention", [_MENTIONS_USER], ["notify", _sound("default"), _HIGHLIGHT]),
    _rule(".org.matrix.msc4075.rule.rtc.ring_for_room", [*_RINGS, *_MENTIONS_ROOM], ["notify", _sound("ring")]),
    _rule(".m.rule.is_room_mention", _MENTIONS_ROOM, ["notify", _HIGHLIGHT]),
    _rule(".m.rule.tombstone", [_type_is("m.room.tombstone"), _NO_STATE_KEY], ["notify", _HIGHLIGHT]),
    _rule(".m.rule.reaction", [_type_is("m.reaction")], []),
    _rule(".m.rule.room.server_acl", [_type_is("m.room.server_acl"), _NO_STATE_KEY], []),
    _rule(".m.rule.suppress_edits", [_IS_EDIT], []),
)

_UNDERRIDES: Final = (
    _rule(".m.rule.call", [_type_is("m.call.invite")], ["notify", _sound("ring")]),
    _rule(".org.matrix.msc4075.rule.rtc.ring", _RINGS, ["notify", _sound("ring")]),
    _rule(
        ".m.rule.encrypted_room_one_to_one",
        [_TWO_MEMBERS, _type_is("m.room.encrypted")],
        ["notify", _sound("default")],
    ),
    _rule(".m.rule.room_one_to_one", [_TWO_MEMBERS, _type_is("m.room.message")], ["notify", _sound("default")]),
    _rule(".m.rule.message", [_type_is("m.room.message")], ["notify"]),
    _rule(".m.rule.encrypted", [_type_is("m.room.encrypted")], ["notify"]),
)

_POSTCONTENT: Final = tuple(
    _rule(
        f".io.element.msc4306.rule.{name}",
        [{"kind": "io.element.msc4306.thread_subscription", "subscribed": subscribed}],
        ["notify", _sound("default")] if subscribed else [],
    )
    for name, subscribed in (("unsubscribed_thread", False), ("subscribed_thread", True))
)

DEFAULT_RULES: Final[dict[str, tuple[Json, ...]]] = {
    OVERRIDE: _OVERRIDES,
    CONTENT: (),
    POSTCONTENT: _POSTCONTENT,
    ROOM: (),
    SENDER: (),
    UNDERRIDE: _UNDERRIDES,
}
"""By kind, most important first, in the shape of the API but with :data:`USER_ID` for the user's ID. Do not change."""


def default_rule(kind: str, rule_id: str) -> Json | None:
    """The default rule with this kind and ID, as in :data:`DEFAULT_RULES`, or None."""
    return next((rule for rule in DEFAULT_RULES[kind] if rule["rule_id"] == rule_id), None)


def for_user(rule: Json, user_id: str) -> Json:
    """A default rule as a new object, with the user's ID filled in."""
    return {**rule, "conditions": [_fill_in(condition, user_id) for condition in rule["conditions"]]}


def _fill_in(condition: Json, user_id: str) -> Json:
    return {name: user_id if value == USER_ID else value for name, value in condition.items()}
