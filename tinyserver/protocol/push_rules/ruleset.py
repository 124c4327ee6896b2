"""A user's push rules: what is stored of them, the whole set as the API shows it, and every edit that the API has.

Only what the user changed is stored (:class:`RuleChanges`): the rules of their own, and for default rules the enabled
state or actions that differ. Edits are functions from one RuleChanges to the next; nothing is changed in place.

spec: client-server-api#push-rules-api
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tinyserver.protocol.errors import BadJson, InvalidParam, NotFound, TooLarge, Unknown
from tinyserver.protocol.push_rules.defaults import (
    DEFAULT_RULES,
    KINDS,
    OVERRIDE,
    POSTCONTENT,
    default_rule,
    for_user,
)
from tinyserver.protocol.push_rules.validation import RuleBody, check_new_rule_id

MAX_RULES: Final = 5000
"""How many rules of their own a user may have."""

MAX_STORED_BYTES: Final = 1_048_576
"""How large a user's changes may be as JSON; clients get them whole whenever one rule changes."""

Json = dict[str, Any]


class UserRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule that the user made. ``conditions`` are for override and underride rules, ``pattern`` for content rules."""

    rule_id: str
    actions: list[Any]
    conditions: list[Json] | None = None
    pattern: str | None = None
    enabled: bool = True

    def rendered(self) -> Json:
        """The rule as the API shows it."""
        rule: Json = {"rule_id": self.rule_id, "default": False, "enabled": self.enabled, "actions": self.actions}
        if self.conditions is not None:
            rule["conditions"] = self.conditions
        if self.pattern is not None:
            rule["pattern"] = self.pattern
        return rule


class DefaultChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a user's copy of a default rule differs from the original; None where it does not."""

    enabled: bool | None = None
    actions: list[Any] | None = None


class RuleChanges(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that is stored of a user's push rules; made to be encoded as JSON by ``msgspec``.

    ``rules``: by kind, the user's own rules, most important first; kinds without rules are left out.
    ``defaults``: the changes to default rules, by rule ID. ``threads``: whether the user subscribes to threads, so that
    there are rules of the kind ``postcontent``.
    """

    rules: dict[str, tuple[UserRule, ...]] = {}
    defaults: dict[str, DefaultChange] = {}
    threads: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the user has just the default rules."""
        return not self.rules and not self.defaults and not self.threads

    def has_kind(self, kind: str) -> bool:
        """Whether the user has rules of a kind, be it none at present."""
        return kind != POSTCONTENT or self.threads

    def of_kind(self, kind: str) -> tuple[UserRule, ...]:
        """The user's own rules of a kind, most important first."""
        return self.rules.get(kind, ())


NO_CHANGES: Final = RuleChanges()


def effective_rules(changes: RuleChanges, kind: str) -> Iterator[Json]:
    """The rules of a kind, most important first, as the API shows them but with ``defaults.USER_ID`` left in.

    The user's own come before the default ones, except that the master rule comes before everything.
    """
    if not changes.has_kind(kind):
        return
    defaults = [_changed(rule, changes.defaults.get(rule["rule_id"])) for rule in DEFAULT_RULES[kind]]
    if kind == OVERRIDE:
        yield defaults.pop(0)
    for rule in changes.of_kind(kind):
        yield rule.rendered()
    yield from defaults


def render_ruleset(changes: RuleChanges, user_id: str) -> dict[str, list[Json]]:
    """The user's whole ruleset: the value of ``global`` in ``GET /pushrules/`` and in ``m.push_rules``."""
    return {
        kind: [_for_api(rule, user_id) for rule in effective_rules(changes, kind)]
        for kind in KINDS
        if changes.has_kind(kind)
    }


def get_rule(changes: RuleChanges, user_id: str, kind: str, rule_id: str) -> Json:
    """One rule as the API shows it.

    :raises InvalidParam: there is no such kind.
    :raises NotFound: there is no such rule.
    """
    _check_kind(changes, kind)
    for rule in effective_rules(changes, kind):
        if rule["rule_id"] == rule_id:
            return _for_api(rule, user_id)
    raise NotFound("The push rule was not found.")


def put_rule(
    changes: RuleChanges,
    kind: str,
    rule_id: str,
    body: object,
    *,
    before: str | None = None,
    after: str | None = None,
) -> RuleChanges:
    """Create a rule, or change one of the user's own, from the body of a request.

    A new rule is the most important of its kind, or stands right before or after another rule of the user (``before``
    wins over ``after``); a changed one keeps its place unless one of the two is given, and stays as enabled as it was.

    :raises InvalidParam: no such kind, a rule ID that is not allowed, or too many rules.
    :raises BadJson, MissingParam, InvalidParam: see :meth:`validation.RuleBody.parse`.
    :raises TooLarge: the user's rules would take too much space.
    :raises Unknown: (400) ``before`` or ``after`` does not name one of the user's own rules of this kind.
    """
    _check_kind(changes, kind)
    if kind == POSTCONTENT:
        raise InvalidParam("Only the server has push rules of this kind.")
    check_new_rule_id(rule_id)
    parsed = RuleBody.parse(kind, body)
    rules = list(changes.of_kind(kind))
    place = _place_of(rules, rule_id)
    if place is None and sum(map(len, changes.rules.values())) >= MAX_RULES:
        raise InvalidParam(f"You have {MAX_RULES} push rules already. Remove some first.")
    rule = UserRule(
        rule_id=rule_id,
        actions=parsed.actions,
        conditions=parsed.conditions,
        pattern=parsed.pattern,
        enabled=True if place is None else rules[place].enabled,
    )
    neighbour = before if before is not None else after
    if place is not None and neighbour in (None, rule_id):
        rules[place] = rule
    else:
        if place is not None:
            del rules[place]
        rules.insert(0 if neighbour is None else _place_beside(rules, neighbour, below=before is None), rule)
    return _storable(_with_rules(changes, kind, rules))


def delete_rule(changes: RuleChanges, kind: str, rule_id: str) -> RuleChanges:
    """Remove one of the user's own rules.

    :raises InvalidParam: there is no such kind, or it is a default rule.
    :raises NotFound: there is no such rule.
    """
    _check_kind(changes, kind)
    if default_rule(kind, rule_id) is not None:
        raise InvalidParam("A rule of the server cannot be removed. Disable it instead.")
    rules = [rule for rule in changes.of_kind(kind) if rule.rule_id != rule_id]
    if len(rules) == len(changes.of_kind(kind)):
        raise NotFound("The push rule was not found.")
    return _with_rules(changes, kind, rules)


def set_enabled(changes: RuleChanges, kind: str, rule_id: str, enabled: bool) -> RuleChanges:
    """Enable or disable a rule, one of the user's own or a default one.

    :raises InvalidParam: there is no such kind.
    :raises NotFound: there is no such rule.
    """
    default = _default_rule_of(changes, kind, rule_id)
    if default is None:
        return _replace_own(changes, kind, rule_id, {"enabled": enabled})
    change = changes.defaults.get(rule_id, DefaultChange())
    new = DefaultChange(None if enabled == default["enabled"] else enabled, change.actions)
    return _with_default(changes, rule_id, new)


def set_actions(changes: RuleChanges, kind: str, rule_id: str, actions: list[Any]) -> RuleChanges:
    """Set the actions (as :func:`validation.parse_actions` gives them) of a rule, own or default.

    :raises InvalidParam: there is no such kind.
    :raises NotFound: there is no such rule.
    :raises BadJson: the actions contain what is no text.
    :raises TooLarge: the user's rules would take too much space.
    """
    default = _default_rule_of(changes, kind, rule_id)
    if default is None:
        return _storable(_replace_own(changes, kind, rule_id, {"actions": actions}))
    change = changes.defaults.get(rule_id, DefaultChange())
    new = DefaultChange(change.enabled, None if actions == default["actions"] else actions)
    return _storable(_with_default(changes, rule_id, new))


def _check_kind(changes: RuleChanges, kind: str) -> None:
    kinds = list(filter(changes.has_kind, KINDS))
    if kind not in kinds:
        raise InvalidParam(f"There is no such kind of push rule. It must be one of {', '.join(kinds)}.")


def _default_rule_of(changes: RuleChanges, kind: str, rule_id: str) -> Json | None:
    _check_kind(changes, kind)
    return default_rule(kind, rule_id)


def _storable(changes: RuleChanges) -> RuleChanges:
    try:
        size = len(msgspec.json.encode(changes))
    except (UnicodeEncodeError, RecursionError):
        raise BadJson("The push rule contains what is no text, or is nested too deeply.") from None
    if size > MAX_STORED_BYTES:
        raise TooLarge("Your push rules take too much space. Remove some first.")
    return changes


def _changed(rule: Json, change: DefaultChange | None) -> Json:
    if change is None:
        return rule
    enabled = rule["enabled"] if change.enabled is None else change.enabled
    actions = rule["actions"] if change.actions is None else change.actions
    return {**rule, "enabled": enabled, "actions": actions}


def _for_api(rule: Json, user_id: str) -> Json:
    return for_user(rule, user_id) if rule["default"] else rule


def _place_of(rules: list[UserRule], rule_id: str) -> int | None:
    return next((place for place, rule in enumerate(rules) if rule.rule_id == rule_id), None)


def _place_beside(rules: list[UserRule], neighbour: str, *, below: bool) -> int:
    place = _place_of(rules, neighbour)
    if place is None:
        raise Unknown(f"before/after rule not found: {neighbour}", status=400)
    return place + below


def _with_rules(changes: RuleChanges, kind: str, rules: list[UserRule]) -> RuleChanges:
    by_kind = {other: of_kind for other, of_kind in changes.rules.items() if other != kind}
    if rules:
        by_kind[kind] = tuple(rules)
    return msgspec.structs.replace(changes, rules=by_kind)


def _with_default(changes: RuleChanges, rule_id: str, change: DefaultChange) -> RuleChanges:
    defaults = {other: of_other for other, of_other in changes.defaults.items() if other != rule_id}
    if change != DefaultChange():
        defaults[rule_id] = change
    return msgspec.structs.replace(changes, defaults=defaults)


def _replace_own(changes: RuleChanges, kind: str, rule_id: str, values: Mapping[str, Any]) -> RuleChanges:
    rules = list(changes.of_kind(kind))
    place = _place_of(rules, rule_id)
    if place is None:
        raise NotFound("The push rule was not found.")
    rules[place] = msgspec.structs.replace(rules[place], **values)
    return _with_rules(changes, kind, rules)


def follow_threads(changes: RuleChanges) -> RuleChanges:
    """The changes of a user who subscribes to threads. spec: MSC4306"""
    return msgspec.structs.replace(changes, threads=True)


def copy_rules_of_room(changes: RuleChanges, old_id: str, new_id: str) -> RuleChanges:
    """The changes with a copy, for another room, of each of the user's rules that are named after a room.

    Clients mute a room by an override rule with the room's ID as its own, and set its other levels by a room rule.
    """
    rules = dict(changes.rules)
    for kind, of_kind in changes.rules.items():
        known = {rule.rule_id: rule for rule in of_kind}
        if old_id in known and new_id not in known and len(of_kind) < MAX_RULES:
            rules[kind] = (_renamed(known[old_id], old_id, new_id), *of_kind)
    return msgspec.structs.replace(changes, rules=rules)


def _renamed(rule: UserRule, old_id: str, new_id: str) -> UserRule:
    conditions = rule.conditions
    if conditions is not None:
        conditions = [
            {key: new_id if value == old_id else value for key, value in condition.items()} for condition in conditions
        ]
    return msgspec.structs.replace(rule, rule_id=new_id, conditions=conditions)
