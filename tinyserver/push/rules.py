"""Users' push rules: read, changed, and made ready for evaluation.

spec: client-server-api#push-rules-api
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.push_rules import (
    NO_CHANGES,
    CompiledRules,
    RuleChanges,
    RuleSetSummary,
    delete_rule,
    follow_threads,
    get_rule,
    parse_actions,
    parse_enabled,
    put_rule,
    render_ruleset,
    set_actions,
    set_enabled,
)
from tinyserver.storage import names, push_rules
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

Edit = Callable[[RuleChanges], RuleChanges]

_WEIGHT = 2_000
_WEIGHT_OF_RULE = 1_000


class UserRules:
    """The push rules of one user, or of all who changed nothing.

    `position` is where they were changed last; `summary` what they say of notification classes.
    """

    __slots__ = ("_changes", "_compiled", "position", "summary", "weight")

    def __init__(self, changes: RuleChanges, position: int) -> None:
        self.position = position
        self.summary = RuleSetSummary(changes)
        self.weight = _WEIGHT + _WEIGHT_OF_RULE * sum(map(len, changes.rules.values()))
        self._changes = changes
        self._compiled: CompiledRules | None = None

    @property
    def compiled(self) -> CompiledRules:
        """The rules ready to be asked about events."""
        if self._compiled is None:
            self._compiled = CompiledRules(self._changes)
        return self._compiled


class PushRules:
    """The push rules of all local users.

    Args:
        db: where the users' changes are stored.
        budget: bytes for rules made ready.
    """

    def __init__(self, db: Database, budget: int = 1024 * 1024) -> None:
        self._db = db
        self._default = UserRules(NO_CHANGES, 0)
        self._ready: BoundedCache[int, UserRules] = BoundedCache(budget, lambda rules: rules.weight)
        self.inexact_users = db.glance(push_rules.inexact_users)
        """The users who must be asked about each single event; another set after every change."""

    # -- for counting and marking, from any thread -----------------------------------------------

    def of_user(self, tx: ReadTransaction, user: int) -> UserRules:
        """A user's rules, made ready."""
        position = push_rules.position_of(tx, user)
        if position == 0:
            return self._default
        rules = self._ready.get(user)
        if rules is None or rules.position != position:
            rules = UserRules(_changes(tx, user), position)
            self._ready.put(user, rules)
        return rules

    # -- for clients -----------------------------------------------------------------------------

    def ruleset(self, requester: Requester) -> dict[str, Any]:
        """All rules of the requester, default ones included, by kind."""
        return self._db.glance(lambda tx: render_ruleset(_changes(tx, requester.user_nid), requester.user_id))

    def rule(self, requester: Requester, kind: str, rule_id: str) -> dict[str, Any]:
        """One rule. Raises InvalidParam (no such kind), NotFound."""
        return self._db.glance(lambda tx: get_rule(_changes(tx, requester.user_nid), requester.user_id, kind, rule_id))

    async def put(
        self,
        requester: Requester,
        kind: str,
        rule_id: str,
        body: dict[str, Any],
        *,
        before: str | None = None,
        after: str | None = None,
    ) -> None:
        """Create or change a rule of the requester; raises as `protocol.push_rules.put_rule` does."""
        await self._edit(requester, lambda changes: put_rule(changes, kind, rule_id, body, before=before, after=after))

    async def delete(self, requester: Requester, kind: str, rule_id: str) -> None:
        """Remove a rule. Raises InvalidParam, NotFound."""
        await self._edit(requester, lambda changes: delete_rule(changes, kind, rule_id))

    async def set_enabled(self, requester: Requester, kind: str, rule_id: str, body: dict[str, Any]) -> None:
        """Enable or disable a rule. Raises BadJson, MissingParam, InvalidParam, NotFound."""
        enabled = parse_enabled(body)
        await self._edit(requester, lambda changes: set_enabled(changes, kind, rule_id, enabled))

    async def set_actions(self, requester: Requester, kind: str, rule_id: str, body: dict[str, Any]) -> None:
        """Set the actions of a rule. Raises BadJson, MissingParam, InvalidParam, NotFound, TooLarge."""
        actions = parse_actions(body)
        await self._edit(requester, lambda changes: set_actions(changes, kind, rule_id, actions))

    def changed_since(self, tx: ReadTransaction, user: int, since: int, until: int) -> Mapping[str, Any] | None:
        """The content of `m.push_rules` if the user's rules changed after `since`, up to `until` (from 0: always)."""
        if since > 0 and not since < push_rules.position_of(tx, user) <= until:
            return None
        return self.content(tx, user)

    def content(self, tx: ReadTransaction, user: int) -> dict[str, Any]:
        """The content of a user's `m.push_rules` account data."""
        return {"global": render_ruleset(_changes(tx, user), names.text(tx, user))}

    def follow_threads(self, tx: WriteTransaction, user: int) -> None:
        """A user subscribes to a thread: from the first time on there are rules for that (MSC4306)."""
        self._store(tx, user, follow_threads)

    async def _edit(self, requester: Requester, edit: Edit) -> None:
        user = requester.user_nid

        await self._db.write(lambda tx: self._store(tx, user, edit))

    def _store(self, tx: WriteTransaction, user: int, edit: Edit) -> None:
        before = _changes(tx, user)
        after = edit(before)
        if after == before:
            return
        exact = RuleSetSummary(after).exact
        push_rules.put(tx, user, msgspec.json.encode(after), exact=exact)
        tx.on_commit(lambda: self._note(user, exact))

    def _note(self, user: int, exact: bool) -> None:
        if exact == (user in self.inexact_users):
            self.inexact_users = self.inexact_users ^ {user}


def _changes(tx: ReadTransaction, user: int) -> RuleChanges:
    stored = push_rules.get(tx, user)
    return NO_CHANGES if stored is None else msgspec.json.decode(stored, type=RuleChanges)
