"""Notification classes: unread counts without evaluating push rules for every member of a room.

The problem: a message in a room with 2,000 local members must not cost 2,000 evaluations, nor 2,000 written rows.

The observation: nearly all rules of nearly all users ask about very little, and that little can be put into one byte.

**One byte per event.** :func:`notification_class` computes it when the event is stored, without looking at any user:
in the low four bits the :class:`EventKind` (the event types that default rules name), above them one bit each for: it
is a notice, it is an edit, it validly mentions the room, the room had exactly two members. Class :data:`SILENT` is for
events that count for nobody whatever the rules (redacted ones): storage needs no index entry for them.

**Two numbers per user.** :class:`RuleSetSummary` turns a user's rules into :class:`ClassOutcomes`: two 256-bit masks
telling which classes notify and which highlight. Rules are taken in their order as sets of classes: what an earlier
rule has caught, a later one does not get. Changed actions or disabled default rules, muted rooms (override rules on the
``room_id``), mentions-only and all-messages rooms (room rules) are all exact this way; all rooms without rules of their
own share one pair of masks. An unread count is then ``SELECT class, count(*) ... GROUP BY class`` over the events after
the read receipt that others sent, summed up by :meth:`ClassOutcomes.count`.

**Rows only for exceptions.** The byte cannot know two things, and both are rare. So when an event is stored:

1. each local user in :func:`mentioned_users` has their rules evaluated (``CompiledRules``), and
2. so does each local member whose summary is not :attr:`~RuleSetSummary.exact` (keywords, rules on senders, unusual
   conditions),

and where the answer differs from the outcome of the class, a row (user, event, difference) is written. Everyone else
costs nothing. Pushers evaluate for those users who have a pusher.

Where a user changes rules, counts by class follow at once also for events that are unread already (a room just muted
has no unread messages any more); the rows of exceptions stay as they were.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from tinyserver.protocol.events import Event
from tinyserver.protocol.glob import Matcher, compile_glob, has_wildcards
from tinyserver.protocol.push_rules.conditions import compile_condition, never
from tinyserver.protocol.push_rules.defaults import KINDS, ROOM, RTC_NOTIFICATION_TYPE, USER_ID
from tinyserver.protocol.push_rules.evaluation import PushActions
from tinyserver.protocol.push_rules.ruleset import RuleChanges, effective_rules

Json = dict[str, Any]


class EventKind(IntEnum):
    """The low four bits of a notification class."""

    SILENT = 0
    OTHER = 1
    MESSAGE = 2
    ENCRYPTED = 3
    MEMBER = 4
    REACTION = 5
    SERVER_ACL = 6
    TOMBSTONE = 7
    CALL = 8
    RTC_RING = 9
    REDACTION = 10  # no default rule names it; counts that are kept in memory must be made anew after one


SILENT: Final = int(EventKind.SILENT)
"""The class of events which count for nobody. Never returned by :func:`notification_class`."""

NOTICE: Final = 0x10
EDIT: Final = 0x20
ROOM_MENTION: Final = 0x40
ONE_TO_ONE: Final = 0x80

CLASSES: Final = 256

_KIND_BITS: Final = 0x0F
_KINDS_BY_TYPE: Final = {
    "m.room.message": EventKind.MESSAGE,
    "m.room.encrypted": EventKind.ENCRYPTED,
    "m.room.member": EventKind.MEMBER,
    "m.reaction": EventKind.REACTION,
    "m.call.invite": EventKind.CALL,
    "m.room.redaction": EventKind.REDACTION,
}
_KINDS_BY_TYPE_WITHOUT_KEY: Final = {
    "m.room.server_acl": EventKind.SERVER_ACL,
    "m.room.tombstone": EventKind.TOMBSTONE,
}
_MAX_USER_ID_BYTES: Final = 255


def kind_of_class(event_class: int) -> int:
    """The :class:`EventKind` of a class, as a plain number."""
    return event_class & _KIND_BITS


def notification_class(event: Event, *, member_count: int, room_mention_allowed: bool) -> int:
    """The class (1 to 255) of an event.

    ``member_count``: joined members of the room at the event. ``room_mention_allowed``: whether the sender has the
    power to notify the room; only looked at if :func:`mentions_room`.
    """
    event_type, content = event.type.lower(), event.content
    kind = _KINDS_BY_TYPE.get(event_type, EventKind.OTHER)
    if kind is EventKind.OTHER:
        if event_type in _KINDS_BY_TYPE_WITHOUT_KEY and event.state_key == "":
            kind = _KINDS_BY_TYPE_WITHOUT_KEY[event_type]
        elif event_type == RTC_NOTIFICATION_TYPE and _lower(content.get("notification_type")) == "ring":
            kind = EventKind.RTC_RING
    result = int(kind)
    if _lower(content.get("msgtype")) == "m.notice":
        result |= NOTICE
    relates_to = content.get("m.relates_to")
    if isinstance(relates_to, dict) and relates_to.get("rel_type") == "m.replace":
        result |= EDIT
    if room_mention_allowed and mentions_room(event):
        result |= ROOM_MENTION
    if member_count == 2:
        result |= ONE_TO_ONE
    return result


def mentions_room(event: Event) -> bool:
    """Whether the event tries to mention the whole room; its sender may lack the power."""
    mentions = event.content.get("m.mentions")
    return isinstance(mentions, dict) and mentions.get("room") is True


def mentioned_users(event: Event) -> frozenset[str]:
    """The users for whom the event may mean more than its class says: those it mentions, and the one it invites.

    They need not be members or exist. Values that are no user IDs are left out, so that the others can be looked up.
    """
    mentions = event.content.get("m.mentions")
    user_ids = mentions.get("user_ids") if isinstance(mentions, dict) else None
    found = {user_id for user_id in user_ids if _is_user_id(user_id)} if isinstance(user_ids, list) else set()
    invites = event.type.lower() == "m.room.member" and _lower(event.content.get("membership")) == "invite"
    if invites and event.state_key is not None and _is_user_id(event.state_key):
        found |= {event.state_key, event.state_key.lower()}  # event_match ignores case
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class ClassOutcomes:
    """Which classes of events notify a user in a room, as sets of bits: class N is bit N."""

    notify_mask: int
    highlight_mask: int

    def notifies(self, event_class: int) -> bool:
        """Whether events of the class count as notifications."""
        return bool(self.notify_mask >> event_class & 1)

    def highlights(self, event_class: int) -> bool:
        """Whether events of the class count as highlights, which are notifications too."""
        return bool(self.highlight_mask >> event_class & 1)

    def count(self, events_by_class: Iterable[tuple[int, int]]) -> tuple[int, int]:
        """Sum up (class, number of events) pairs to (notification count, highlight count)."""
        notifications = highlights = 0
        for event_class, number in events_by_class:
            if self.notifies(event_class):
                notifications += number
                if self.highlights(event_class):
                    highlights += number
        return notifications, highlights


@dataclass(frozen=True, slots=True)
class _ClassRule:
    """A rule as a set of classes. With ``room_id`` (exact) or ``room_pattern`` (a lowered glob), for certain rooms."""

    place: int
    mask: int
    notify: bool
    highlight: bool
    room_id: str | None = None
    room_pattern: str | None = None


class RuleSetSummary:
    """What a user's push rules say about whole classes of events. Like compiled rules, it does not depend on the user.

    ``exact``: whether :meth:`outcomes` is the whole truth for every event that neither was sent by the user nor has
    the user among its :func:`mentioned_users`. If not, each event has to be evaluated for this user.
    """

    __slots__ = ("_by_room", "_elsewhere", "_everywhere", "_globs", "exact")

    def __init__(self, changes: RuleChanges) -> None:
        rules, self.exact = _to_class_rules(changes)
        everywhere: list[_ClassRule] = []
        globs: list[tuple[Matcher, _ClassRule]] = []
        self._by_room: dict[str, list[_ClassRule]] = {}
        for rule in rules:
            room = rule.room_pattern if rule.room_id is None else rule.room_id.lower()
            if room is None:
                everywhere.append(rule)
            elif rule.room_id is None and has_wildcards(room):
                globs.append((compile_glob(room), rule))
            else:
                self._by_room.setdefault(room, []).append(rule)
        self._everywhere = tuple(everywhere)
        self._globs = tuple(globs)
        self._elsewhere = _outcomes(everywhere)

    def outcomes(self, room_id: str) -> ClassOutcomes:
        """Which classes of events notify in this room."""
        lowered = room_id.lower()
        here = [rule for rule in self._by_room.get(lowered, ()) if rule.room_id in (None, room_id)]
        here += [rule for matches, rule in self._globs if matches(lowered)]
        if not here:
            return self._elsewhere
        return _outcomes(sorted([*self._everywhere, *here], key=_place))


def _place(rule: _ClassRule) -> int:
    return rule.place


def _outcomes(rules: Iterable[_ClassRule]) -> ClassOutcomes:
    left = _ALL & ~_SILENT_CLASSES
    notify = highlight = 0
    for rule in rules:
        caught = rule.mask & left
        left &= ~caught
        if rule.notify:
            notify |= caught
            if rule.highlight:
                highlight |= caught
    return ClassOutcomes(notify, highlight)


def _mask_of_kind(kind: EventKind) -> int:
    return sum(1 << event_class for event_class in range(CLASSES) if event_class & _KIND_BITS == kind)


def _mask_of_flag(flag: int) -> int:
    return sum(1 << event_class for event_class in range(CLASSES) if event_class & flag)


_ALL: Final = (1 << CLASSES) - 1
_SILENT_CLASSES: Final = _mask_of_kind(EventKind.SILENT)


def _signature(condition: Json) -> tuple[Any, ...]:
    """What a condition is about, comparable: texts that match without regard to case in lower case."""
    kind, key = condition.get("kind"), condition.get("key")
    if kind == "event_match":
        pattern = condition.get("pattern")
        return (kind, key, pattern.lower() if isinstance(pattern, str) and pattern != USER_ID else pattern)
    if kind == "room_member_count":
        text = condition.get("is")
        return (kind, text.removeprefix("==") if isinstance(text, str) else None)
    value = condition.get("value")
    return (kind, key, type(value).__name__, value if isinstance(value, str | bool) else None)


def _type_is(event_type: str) -> tuple[Any, ...]:
    return ("event_match", "type", event_type)


_KEYLESS: Final = ("event_match", "state_key", "")
_MENTIONS_ROOM: Final = ("event_property_is", r"content.m\.mentions.room", "bool", True)
_MAY_NOTIFY_ROOM: Final = ("sender_notification_permission", "room", "NoneType", None)
_NOTICE: Final = ("event_match", "content.msgtype", "m.notice")
_EDIT: Final = ("event_property_is", r"content.m\.relates_to.rel_type", "str", "m.replace")
_RINGS: Final = ("event_match", "content.notification_type", "ring")

_MASKS: Final[tuple[tuple[frozenset[tuple[Any, ...]], int], ...]] = (
    *(
        (frozenset((_type_is(event_type), _KEYLESS)), _mask_of_kind(kind))
        for event_type, kind in _KINDS_BY_TYPE_WITHOUT_KEY.items()
    ),
    (frozenset((_type_is(RTC_NOTIFICATION_TYPE), _RINGS)), _mask_of_kind(EventKind.RTC_RING)),
    (frozenset((_MENTIONS_ROOM, _MAY_NOTIFY_ROOM)), _mask_of_flag(ROOM_MENTION)),
    *((frozenset((_type_is(event_type),)), _mask_of_kind(kind)) for event_type, kind in _KINDS_BY_TYPE.items()),
    (frozenset((_NOTICE,)), _mask_of_flag(NOTICE)),
    (frozenset((_EDIT,)), _mask_of_flag(EDIT)),
    (frozenset((("room_member_count", "2"),)), _mask_of_flag(ONE_TO_ONE)),
)
"""Which classes have events for which a set of conditions holds, namely exactly those events."""

_ABOUT_OWNER: Final = frozenset(
    (
        ("event_match", "state_key", USER_ID),
        ("event_property_contains", r"content.m\.mentions.user_ids", "str", USER_ID),
    )
)


def _to_class_rules(changes: RuleChanges) -> tuple[list[_ClassRule], bool]:
    """The enabled rules as sets of classes, in their order, and whether that was possible for all of them."""
    class_rules: list[_ClassRule] = []
    exact = True
    for kind in KINDS:
        for rule in effective_rules(changes, kind):
            if not rule["enabled"] or _never_matches(rule):
                continue
            class_rule = _to_class_rule(len(class_rules), kind, rule)
            if class_rule is None:
                exact = False
            else:
                class_rules.append(class_rule)
    return class_rules, exact


def _never_matches(rule: Json) -> bool:
    """Whether the rule has a condition that this server does not know, or a default one about the rules' owner."""
    conditions = rule.get("conditions") or ()
    if rule["default"] and any(_signature(condition) in _ABOUT_OWNER for condition in conditions):
        return True  # it concerns only those among mentioned_users()
    return any(compile_condition(condition, of_default_rule=rule["default"]) is never for condition in conditions)


def _to_class_rule(place: int, kind: str, rule: Json) -> _ClassRule | None:
    """The rule as a set of classes, or None if the class of an event does not tell whether it matches."""
    actions = PushActions.of_rule(rule["rule_id"], rule["actions"])
    if kind == ROOM:
        return _ClassRule(place, _ALL, actions.notify, actions.highlight, room_id=rule["rule_id"])
    if "conditions" not in rule:
        return None
    room_pattern = None
    left = set()
    for condition in rule["conditions"]:
        signature = _signature(condition)
        if signature[:2] == ("event_match", "room_id") and room_pattern in (None, signature[2]):
            room_pattern = signature[2]
        else:
            left.add(signature)
    mask = _ALL
    for known, classes in _MASKS:
        if known <= left:
            left -= known
            mask &= classes
    if left:
        return None
    return _ClassRule(place, mask, actions.notify, actions.highlight, room_pattern=room_pattern)


def _lower(value: Any) -> str | None:
    return value.lower() if isinstance(value, str) else None


def _is_user_id(value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith("@") or ":" not in value:
        return False
    try:
        return len(value.encode()) <= _MAX_USER_ID_BYTES
    except UnicodeEncodeError:
        return False
