"""The page on which whoever reads mails about missed messages ends them. The link is all that is needed: no account, no
cookie. Mail programs send the form without showing it (RFC 8058)."""

from __future__ import annotations

import msgspec

from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call, NoBody
from tinyserver.api.oauth.locations import UNSUBSCRIBE
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.web.page import button, escape, facts, frame, page_headers, paragraph
from tinyserver.api.web.texts import TEXTS, preferred_language
from tinyserver.push.emails import Subscriptions

_SPEC = "client-server-api#post_matrixclientv3pushersset"


class UnsubscribeQuery(msgspec.Struct):
    """Which pusher, and what only its mails say."""

    pusher: int
    key: str


class UnsubscribePages:
    """The page."""

    surface = Surface.CLIENT

    def __init__(self, subscriptions: Subscriptions, server_name: str) -> None:
        self._subscriptions = subscriptions
        self._server_name = server_name

    @endpoint("GET", UNSUBSCRIBE, spec=_SPEC, auth=Auth.NONE, query=UnsubscribeQuery)
    async def show(self, call: Call[NoBody, UnsubscribeQuery]) -> Answer:
        """The button."""
        texts = TEXTS[preferred_language(call.headers.get("accept-language", ""))]
        address = self._subscriptions.address_of(_number(call), call.query.key)
        if address is None:
            return self._page(call, paragraph(texts["error_unsubscribe"], "error"), 404)
        content = facts([(texts["email_address"], escape(address))])
        form = f'<form method="post">{button("unsubscribe", texts["unsubscribe"])}</form>'
        return self._page(call, paragraph(texts["unsubscribe_text"]) + content + form)

    @endpoint("POST", UNSUBSCRIBE, spec=_SPEC, auth=Auth.NONE, query=UnsubscribeQuery, limit=Limit.OTHER)
    async def end(self, call: Call[NoBody, UnsubscribeQuery]) -> Answer:
        """No more mails."""
        texts = TEXTS[preferred_language(call.headers.get("accept-language", ""))]
        if not await self._subscriptions.end(_number(call), call.query.key):
            return self._page(call, paragraph(texts["error_unsubscribe"], "error"), 404)
        return self._page(call, paragraph(texts["done_unsubscribed"], "good"))

    def _page(self, call: Call[NoBody, UnsubscribeQuery], content: str, status: int = 200) -> FullAnswer:
        language = preferred_language(call.headers.get("accept-language", ""))
        title = TEXTS[language]["unsubscribe_title"]
        return FullAnswer(status, frame(language, self._server_name, title, content), page_headers())


def _number(call: Call[NoBody, UnsubscribeQuery]) -> int:
    """The number of the pusher, as far as there can be such a one; 0 is none."""
    return call.query.pusher if 0 < call.query.pusher < 2**63 else 0
