"""Previews of links."""

from __future__ import annotations

import msgspec

from tinyserver.api.calls import Call, NoBody
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.media.previews import Previews

_SPEC = "client-server-api#get_matrixclientv1mediapreview_url"


class PreviewQuery(msgspec.Struct):
    """The link, and of when the preview shall be (ms since 1970): it is always the newest that is here."""

    url: str
    ts: int | None = None


class PreviewsApi:
    """Makes previews of links.

    :param previews: looks at the pages.
    """

    surface = Surface.MEDIA

    def __init__(self, previews: Previews) -> None:
        self._previews = previews

    @endpoint(
        "GET",
        "/_matrix/client/v1/media/preview_url",
        spec=_SPEC,
        auth=Auth.USER,
        query=PreviewQuery,
        limit=Limit.MEDIA,
    )
    @endpoint("GET", "/_matrix/media/v3/preview_url", spec=_SPEC, auth=Auth.USER, query=PreviewQuery, limit=Limit.MEDIA)
    async def preview(self, call: Call[NoBody, PreviewQuery]) -> Answer:
        """What a page says of itself."""
        return await self._previews.of(call.query.url, call.headers.get("accept-language", "")[:200])
