"""Push rules."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.push.rules import PushRules

_ALL = "/_matrix/client/v3/pushrules/"
_RULE = "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}"
_SPEC = "client-server-api#push-rules-api"


class PlaceQuery(msgspec.Struct):
    """Beside which of the user's own rules a rule is put."""

    before: str | None = None
    after: str | None = None


class PushRulesApi:
    """The chapter on the push rules API."""

    surface = Surface.CLIENT

    def __init__(self, rules: PushRules) -> None:
        self._rules = rules

    @endpoint("GET", _ALL, spec=_SPEC, auth=Auth.USER)
    async def get_all(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All rulesets, of which there is one."""
        return {"global": self._rules.ruleset(call.requester)}

    @endpoint("GET", _ALL + "global/", spec=_SPEC, auth=Auth.USER)
    async def get_global(self, call: Call[NoBody, NoQuery]) -> Answer:
        """All rules."""
        return self._rules.ruleset(call.requester)

    @endpoint("GET", _RULE, spec=_SPEC, auth=Auth.USER)
    async def get(self, call: Call[NoBody, NoQuery]) -> Answer:
        """One rule."""
        return self._rule(call)

    @endpoint("PUT", _RULE, spec=_SPEC, auth=Auth.USER, body=dict, query=PlaceQuery, limit=Limit.OTHER)
    async def put(self, call: Call[dict[str, Any], PlaceQuery]) -> Answer:
        """Create or change a rule."""
        kind, rule_id, query = call.path["kind"], call.path["ruleId"], call.query
        await self._rules.put(call.requester, kind, rule_id, call.body, before=query.before, after=query.after)
        return {}

    @endpoint("DELETE", _RULE, spec=_SPEC, auth=Auth.USER, limit=Limit.OTHER)
    async def delete(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Remove a rule."""
        await self._rules.delete(call.requester, call.path["kind"], call.path["ruleId"])
        return {}

    @endpoint("GET", _RULE + "/enabled", spec=_SPEC, auth=Auth.USER)
    async def get_enabled(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Whether a rule is enabled."""
        return {"enabled": self._rule(call)["enabled"]}

    @endpoint("PUT", _RULE + "/enabled", spec=_SPEC, auth=Auth.USER, body=dict, limit=Limit.OTHER)
    async def put_enabled(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Enable or disable a rule."""
        await self._rules.set_enabled(call.requester, call.path["kind"], call.path["ruleId"], call.body)
        return {}

    @endpoint("GET", _RULE + "/actions", spec=_SPEC, auth=Auth.USER)
    async def get_actions(self, call: Call[NoBody, NoQuery]) -> Answer:
        """What a rule does."""
        return {"actions": self._rule(call)["actions"]}

    @endpoint("PUT", _RULE + "/actions", spec=_SPEC, auth=Auth.USER, body=dict, limit=Limit.OTHER)
    async def put_actions(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Change what a rule does."""
        await self._rules.set_actions(call.requester, call.path["kind"], call.path["ruleId"], call.body)
        return {}

    def _rule(self, call: Call[NoBody, NoQuery]) -> dict[str, Any]:
        return self._rules.rule(call.requester, call.path["kind"], call.path["ruleId"])
