"""Push rules: which events a user is notified of, and how.

- ``defaults``: the rules that everyone has.
- ``ruleset``: what is stored of a user's changes, the whole set as the API shows it, and its edits.
- ``validation``: checks of what clients send.
- ``conditions``, ``evaluation``: one user's rules against one event.
- ``classes``: unread counts for all members of a room from one byte per event; its docstring explains the design.

spec: client-server-api#push-notifications
"""

from tinyserver.protocol.push_rules.classes import (
    SILENT,
    ClassOutcomes,
    EventKind,
    RuleSetSummary,
    kind_of_class,
    mentioned_users,
    mentions_room,
    notification_class,
)
from tinyserver.protocol.push_rules.conditions import PushContext
from tinyserver.protocol.push_rules.evaluation import NO_PUSH, CompiledRules, PushActions
from tinyserver.protocol.push_rules.ruleset import (
    NO_CHANGES,
    RuleChanges,
    copy_rules_of_room,
    delete_rule,
    follow_threads,
    get_rule,
    put_rule,
    render_ruleset,
    set_actions,
    set_enabled,
)
from tinyserver.protocol.push_rules.validation import parse_actions, parse_enabled

__all__ = [
    "NO_CHANGES",
    "NO_PUSH",
    "SILENT",
    "ClassOutcomes",
    "CompiledRules",
    "EventKind",
    "PushActions",
    "PushContext",
    "RuleChanges",
    "RuleSetSummary",
    "copy_rules_of_room",
    "delete_rule",
    "follow_threads",
    "get_rule",
    "kind_of_class",
    "mentioned_users",
    "mentions_room",
    "notification_class",
    "parse_actions",
    "parse_enabled",
    "put_rule",
    "render_ruleset",
    "set_actions",
    "set_enabled",
]
