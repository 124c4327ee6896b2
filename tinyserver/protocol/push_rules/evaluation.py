"""Evaluation of a user's push rules against events.

The enabled rules are numbered in the order in which they are checked and filed by what they need: rules that name one
event type (most default rules), one room or one sender are only looked at for such events, and rules about a part of
the content only if it is there. An ordinary message meets three of the nineteen default rules. Nothing in compiled
rules depends on whose they are: all users who changed nothing can share one object.

spec: client-server-api#push-rules
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from tinyserver.protocol.events import Event
from tinyserver.protocol.glob import has_wildcards
from tinyserver.protocol.push_rules.conditions import (
    Condition,
    PushContext,
    Subject,
    compile_body_pattern,
    compile_condition,
    content_key,
    never,
)
from tinyserver.protocol.push_rules.defaults import CONTENT, KINDS, ROOM, SENDER
from tinyserver.protocol.push_rules.ruleset import RuleChanges, effective_rules

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PushActions:
    """What a user is to be told of an event.

    ``actions`` are those of the rule as ``GET /notifications`` shows them, ``tweaks`` as push gateways want them.
    Shared between events: not to be changed.
    """

    notify: bool = False
    highlight: bool = False
    sound: str | None = None
    tweaks: Json = field(default_factory=dict)
    actions: list[Any] = field(default_factory=list)
    rule_id: str | None = None

    @classmethod
    def of_rule(cls, rule_id: str, actions: list[Any]) -> "PushActions":
        """Read the list of actions of a rule. Actions and tweaks that are not understood are passed over or on."""
        tweaks: Json = {}
        for action in actions:
            name = action.get("set_tweak") if isinstance(action, dict) else None
            if isinstance(name, str):
                tweaks[name] = action.get("value", True) if name == "highlight" else action.get("value")
        sound = tweaks.get("sound")
        return cls(
            notify="notify" in actions,
            highlight=tweaks.get("highlight") is True,
            sound=sound if isinstance(sound, str) else None,
            tweaks=tweaks,
            actions=actions,
            rule_id=rule_id,
        )


NO_PUSH: Final = PushActions()
"""No rule matched, or the user sent the event."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A compiled rule. ``place`` is its number in the order of checking; the literals are in lower case."""

    place: int
    conditions: tuple[Condition, ...]
    result: PushActions
    content_key: str | None = None
    """A key without which the content cannot match."""
    event_type: str | None = None
    room_id: str | None = None
    sender: str | None = None


_Rules = tuple[_Rule, ...]


class CompiledRules:
    """The push rules of one user, or of all users with the same changes, ready to be asked about events."""

    __slots__ = ("_anywhere", "_by_room", "_by_sender", "_by_type")

    def __init__(self, changes: RuleChanges) -> None:
        anywhere: list[_Rule] = []
        by_room: dict[str, list[_Rule]] = defaultdict(list)
        by_sender: dict[str, list[_Rule]] = defaultdict(list)
        for rule in _compile_all(changes):
            if rule.room_id is not None:
                by_room[rule.room_id].append(rule)
            elif rule.sender is not None:
                by_sender[rule.sender].append(rule)
            else:
                anywhere.append(rule)
        self._anywhere = tuple(rule for rule in anywhere if rule.event_type is None)
        self._by_type: dict[str, _Rules] = {
            event_type: tuple(rule for rule in anywhere if rule.event_type in (None, event_type))
            for event_type in {rule.event_type for rule in anywhere if rule.event_type is not None}
        }
        self._by_room: dict[str, _Rules] = {room: tuple(rules) for room, rules in by_room.items()}
        self._by_sender: dict[str, _Rules] = {sender: tuple(rules) for sender, rules in by_sender.items()}

    def evaluate(self, event: Event, context: PushContext) -> PushActions:
        """The actions of the first rule that matches; :data:`NO_PUSH` if none does or the user sent the event."""
        if event.sender == context.user_id:
            return NO_PUSH
        subject = Subject(event, context)
        content = event.content
        for rule in self._candidates(event):
            if rule.content_key is not None and rule.content_key not in content:
                continue
            for holds in rule.conditions:
                if not holds(subject):
                    break
            else:
                return rule.result
        return NO_PUSH

    def _candidates(self, event: Event) -> _Rules | list[_Rule]:
        event_type = event.type.lower()
        rules = self._by_type.get(event_type, self._anywhere)
        special: list[_Rule] = []
        if self._by_room:
            special += self._by_room.get(event.room_id.lower(), ())
        if self._by_sender:
            special += self._by_sender.get(event.sender.lower(), ())
        if not special:
            return rules
        special = [rule for rule in special if rule.event_type in (None, event_type)]
        return sorted([*rules, *special], key=_place)


def _place(rule: _Rule) -> int:
    return rule.place


def _compile_all(changes: RuleChanges) -> list[_Rule]:
    compiled = []
    place = 0
    for kind in KINDS:
        for rule in effective_rules(changes, kind):
            place += 1
            if rule["enabled"]:
                one = _compile_rule(place, kind, rule)
                if never not in one.conditions:
                    compiled.append(one)
    return compiled


def _compile_rule(place: int, kind: str, rule: Json) -> _Rule:
    rule_id = rule["rule_id"]
    result = PushActions.of_rule(rule_id, rule["actions"])
    if kind == CONTENT:
        return _Rule(place, (compile_body_pattern(rule.get("pattern", "")),), result, content_key="body")
    if kind == ROOM:
        return _Rule(place, (lambda subject: subject.event.room_id == rule_id,), result, room_id=rule_id.lower())
    if kind == SENDER:
        return _Rule(place, (lambda subject: subject.event.sender == rule_id,), result, sender=rule_id.lower())
    return _compile_conditional(place, rule, result)


def _compile_conditional(place: int, rule: Json, result: PushActions) -> _Rule:
    """Compile an override or underride rule; one literal each for type, room and sender goes into the filing."""
    filed: dict[str, str] = {}
    conditions = []
    content_keys = [content_key(condition) for condition in rule.get("conditions", ())]
    for condition in rule.get("conditions", ()):
        literal = literal_match(condition)
        if literal is not None and literal[0] in _FILED and literal[0] not in filed:
            filed[literal[0]] = literal[1]
            if literal[0] == "type":
                continue  # being filed under the type is the whole test
        conditions.append(compile_condition(condition, of_default_rule=rule["default"]))
    return _Rule(
        place,
        tuple(conditions),
        result,
        content_key=next((key for key in content_keys if key is not None), None),
        event_type=filed.get("type"),
        room_id=filed.get("room_id"),
        sender=filed.get("sender"),
    )


_FILED: Final = frozenset(("type", "room_id", "sender"))


def literal_match(condition: Json) -> tuple[str, str] | None:
    """The (key, text in lower case) of an ``event_match`` condition without wildcards; None for other conditions."""
    key, pattern = condition.get("key"), condition.get("pattern")
    if condition.get("kind") != "event_match" or not isinstance(key, str) or not isinstance(pattern, str):
        return None
    return None if has_wildcards(pattern) else (key, pattern.lower())
