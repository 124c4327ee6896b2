"""Push conditions compiled into functions that look at one event.

Each takes a :class:`Subject`: the event and what must be known of its room and of the rules' owner. A condition of an
unknown kind, or one that is malformed, becomes :func:`never`.

spec: client-server-api#conditions-1
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tinyserver.protocol.events import Event
from tinyserver.protocol.glob import compile_glob, compile_word_glob, contains_word
from tinyserver.protocol.property_paths import MISSING, look_up, split_path
from tinyserver.protocol.push_rules.defaults import USER_ID
from tinyserver.protocol.push_rules.validation import MEMBER_COUNT, is_comparable
from tinyserver.protocol.relations import relation_of

Json = dict[str, Any]


def _nobody_may(key: str) -> bool:
    return False


def _in_no_thread() -> bool | None:
    return None


def _nothing_known(event_id: str) -> Event | None:
    return None


@dataclass(frozen=True, slots=True)
class PushContext:
    """What the rules of one user need to know beside the event.

    ``member_count``: joined members of the room. ``display_name``: the user's in that room. ``may_notify``: whether
    the event's sender has the power to notify in a way such as "room" (``notifications`` of the power levels); it is
    asked only for events that try to. ``related_event``: gives an event of the room by its ID where the server has it;
    asked only for rules about replies (``im.nheko.msc3664.related_event_match``). ``is_subscribed``: whether the user
    has subscribed to the thread that the event is in, None if it is in none.
    """

    user_id: str
    member_count: int
    display_name: str | None = None
    may_notify: Callable[[str], bool] = _nobody_may
    related_event: Callable[[str], Event | None] = _nothing_known
    is_subscribed: Callable[[], bool | None] = _in_no_thread


class Subject:
    """An event before the rules of one user."""

    __slots__ = ("_body", "content", "context", "event")

    def __init__(self, event: Event, context: PushContext) -> None:
        self.event = event
        self.content = event.content
        self.context = context

    @property
    def body(self) -> str | None:
        """``content.body`` in lower case, None if it is no string; lowered once for all keywords."""
        try:
            return self._body
        except AttributeError:
            body = self.content.get("body")
            self._body: str | None = body.lower() if isinstance(body, str) else None
            return self._body


Condition = Callable[[Subject], bool]
_Getter = Callable[[Subject], Any]


def never(subject: Subject) -> bool:
    """The condition that holds for no event."""
    return False


def compile_condition(condition: Json, *, of_default_rule: bool) -> Condition:
    """Compile one condition. In those of default rules ``defaults.USER_ID`` stands for the owner's ID."""
    kind = condition.get("kind")
    compiler = _COMPILERS.get(kind) if isinstance(kind, str) else None
    if compiler is None:
        return never
    if of_default_rule and USER_ID in (condition.get("pattern"), condition.get("value")):
        return _compile_about_owner(condition)
    return compiler(condition)


def compile_body_pattern(pattern: str) -> Condition:
    """The predefined condition of content rules: the pattern occurs in ``content.body`` between word boundaries."""
    matches = compile_word_glob(pattern)

    def holds(subject: Subject) -> bool:
        body = subject.body
        return body is not None and matches(body)

    return holds


def _compile_about_owner(condition: Json) -> Condition:
    get = _getter(condition["key"])
    if condition["kind"] == "event_match":

        def matches_owner(subject: Subject) -> bool:
            value = get(subject)
            return isinstance(value, str) and value.lower() == subject.context.user_id.lower()

        return matches_owner

    def contains_owner(subject: Subject) -> bool:
        values = get(subject)
        return isinstance(values, list) and subject.context.user_id in values

    return contains_owner


def _event_match(condition: Json) -> Condition:
    key, pattern = condition.get("key"), condition.get("pattern")
    if not isinstance(key, str) or not isinstance(pattern, str):
        return never
    if key == "content.body":
        return compile_body_pattern(pattern)
    get, matches = _getter(key), compile_glob(pattern)

    def holds(subject: Subject) -> bool:
        value = get(subject)
        return isinstance(value, str) and matches(value.lower())

    return holds


def _event_property_is(condition: Json) -> Condition:
    key, wanted = condition.get("key"), condition.get("value", MISSING)
    if not isinstance(key, str) or not is_comparable(wanted):
        return never
    get, kind = _getter(key), type(wanted)

    def holds(subject: Subject) -> bool:
        value = get(subject)
        return type(value) is kind and value == wanted  # in Python, True == 1

    return holds


def _event_property_contains(condition: Json) -> Condition:
    key, wanted = condition.get("key"), condition.get("value", MISSING)
    if not isinstance(key, str) or not is_comparable(wanted):
        return never
    get, kind = _getter(key), type(wanted)

    def holds(subject: Subject) -> bool:
        values = get(subject)
        return isinstance(values, list) and any(type(value) is kind and value == wanted for value in values)

    return holds


def _contains_display_name(condition: Json) -> Condition:
    def holds(subject: Subject) -> bool:
        name, body = subject.context.display_name, subject.body
        return name is not None and name != "" and body is not None and contains_word(body, name.lower())

    return holds


_COMPARISONS: Final[dict[str | None, Callable[[int, int], bool]]] = {
    None: operator.eq,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def _room_member_count(condition: Json) -> Condition:
    text = condition.get("is")
    match = MEMBER_COUNT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return never
    compare, number = _COMPARISONS[match[1]], int(match[2])
    return lambda subject: compare(subject.context.member_count, number)


def _sender_notification_permission(condition: Json) -> Condition:
    key = condition.get("key")
    if not isinstance(key, str):
        return never
    return lambda subject: subject.context.may_notify(key)


def _related_event_match(condition: Json) -> Condition:
    """MSC3664: a property of the event that this one relates to, or replies to if ``rel_type`` is m.in_reply_to."""
    rel_type = condition.get("rel_type")
    if not isinstance(rel_type, str):
        return never
    with_fallback = condition.get("include_fallback") is True
    has_pattern = "key" in condition or "pattern" in condition
    parent_matches = _event_match(condition) if has_pattern else None

    def holds(subject: Subject) -> bool:
        relation = relation_of(subject.event.content)
        if rel_type == "m.in_reply_to":
            parent_id = relation.in_reply_to if with_fallback or not relation.is_falling_back else None
        else:
            parent_id = relation.parent_id if relation.rel_type == rel_type else None
        if parent_id is None or parent_matches is None:
            return parent_id is not None
        parent = subject.context.related_event(parent_id)
        if parent is None or parent.room_id != subject.event.room_id:
            return False
        return parent_matches(Subject(parent, subject.context))

    return holds


def _thread_subscription(condition: Json) -> Condition:
    """MSC4306: the event is in a thread to which the user has subscribed, or has not."""
    wanted = condition.get("subscribed")
    if not isinstance(wanted, bool):
        return never
    return lambda subject: subject.context.is_subscribed() is wanted


_COMPILERS: Final[dict[str, Callable[[Json], Condition]]] = {
    "event_match": _event_match,
    "event_property_is": _event_property_is,
    "event_property_contains": _event_property_contains,
    "contains_display_name": _contains_display_name,
    "room_member_count": _room_member_count,
    "sender_notification_permission": _sender_notification_permission,
    "im.nheko.msc3664.related_event_match": _related_event_match,
    "io.element.msc4306.thread_subscription": _thread_subscription,
    "thread_subscription": _thread_subscription,
}


_ATTRIBUTES: Final[dict[str, _Getter]] = {
    name: operator.attrgetter(f"event.{name}") for name in ("type", "sender", "room_id", "event_id", "origin_server_ts")
}


def content_key(condition: Json) -> str | None:
    """The key that an event's content must have for the condition to hold, None if it needs none."""
    key = condition.get("key")
    if condition.get("kind") not in _ABOUT_PROPERTIES or not isinstance(key, str):
        return None
    names = split_path(key)
    return names[1] if names[0] == "content" and len(names) > 1 else None


_ABOUT_PROPERTIES: Final = frozenset(("event_match", "event_property_is", "event_property_contains"))


def _getter(key: str) -> _Getter:
    """A function that reads the property at a dot-separated path from an event as clients see it."""
    root, *below = split_path(key)
    names = tuple(below)
    if root == "content":
        return _content_getter(names)
    if not names and root in _ATTRIBUTES:
        return _ATTRIBUTES[root]
    if not names and root in ("state_key", "redacts"):
        read = operator.attrgetter(f"event.{root}")

        def get_optional(subject: Subject) -> Any:
            value = read(subject)
            return MISSING if value is None else value

        return get_optional
    return lambda subject: MISSING


def _content_getter(names: tuple[str, ...]) -> _Getter:
    """Paths of one and two names, which nearly all are, have quick ways."""
    if len(names) == 1:
        name = names[0]
        return lambda subject: subject.content.get(name, MISSING)
    if len(names) == 2:
        outer, inner = names

        def get_inner(subject: Subject) -> Any:
            value = subject.content.get(outer)
            return value.get(inner, MISSING) if isinstance(value, dict) else MISSING

        return get_inner
    return lambda subject: look_up(subject.content, names)
