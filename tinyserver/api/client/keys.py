"""Keys for end-to-end encryption: uploading, querying and claiming them, and whose have changed."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.timeouts import seconds
from tinyserver.bell import Bell
from tinyserver.encryption.device_keys import DeviceKeys, KeyUpload
from tinyserver.encryption.device_news import DeviceNewsReader
from tinyserver.rooms.tokens import parse_token

DEFAULT_TIMEOUT_MS = 10_000
MAX_QUERY_BODY = 4 * 1024 * 1024
_UNSTABLE_FALLBACK_KEYS = "org.matrix.msc2732.fallback_keys"


class UploadBody(msgspec.Struct):
    """The body of `POST /keys/upload`; older clients spell the fallback keys in their own way."""

    device_keys: dict[str, Any] | None = None
    one_time_keys: dict[str, Any] | None = None
    fallback_keys: dict[str, Any] | None = None
    unstable_fallback_keys: dict[str, Any] | None = msgspec.field(name=_UNSTABLE_FALLBACK_KEYS, default=None)


class QueryBody(msgspec.Struct):
    """The body of `POST /keys/query`; `timeout` is in milliseconds."""

    device_keys: dict[str, list[str]]
    timeout: int = DEFAULT_TIMEOUT_MS


class ClaimBody(msgspec.Struct):
    """The body of `POST /keys/claim`; `timeout` is in milliseconds."""

    one_time_keys: dict[str, dict[str, str]]
    timeout: int = DEFAULT_TIMEOUT_MS


class ChangesQuery(msgspec.Struct):
    """The parameters of `GET /keys/changes`."""

    start: str = msgspec.field(name="from")
    to: str


class KeysApi:
    """The endpoints of the key distribution chapter."""

    surface = Surface.CLIENT

    def __init__(self, keys: DeviceKeys, news: DeviceNewsReader, bell: Bell) -> None:
        self._keys = keys
        self._news = news
        self._bell = bell

    @endpoint(
        "POST",
        "/_matrix/client/v3/keys/upload",
        spec="client-server-api#post_matrixclientv3keysupload",
        auth=Auth.USER,
        body=UploadBody,
        guests=True,
        limit=Limit.OTHER,
    )
    async def upload(self, call: Call[UploadBody, NoQuery]) -> Answer:
        """Publish keys of the device that calls."""
        body = call.body
        fallback_keys = body.unstable_fallback_keys if body.fallback_keys is None else body.fallback_keys
        upload = KeyUpload(body.device_keys, body.one_time_keys, fallback_keys)
        return {"one_time_key_counts": await self._keys.upload(call.requester, upload)}

    @endpoint(
        "POST",
        "/_matrix/client/v3/keys/query",
        spec="client-server-api#post_matrixclientv3keysquery",
        auth=Auth.USER,
        body=QueryBody,
        max_body=MAX_QUERY_BODY,
        guests=True,
        limit=Limit.OTHER,
    )
    async def query(self, call: Call[QueryBody, NoQuery]) -> Answer:
        """The keys of users."""
        found = await self._keys.query(call.requester, call.body.device_keys, seconds(call.body.timeout))
        return {
            "device_keys": found.device_keys,
            "master_keys": found.master_keys,
            "self_signing_keys": found.self_signing_keys,
            "user_signing_keys": found.user_signing_keys,
            "failures": found.failures,
        }

    @endpoint(
        "POST",
        "/_matrix/client/v3/keys/claim",
        spec="client-server-api#post_matrixclientv3keysclaim",
        auth=Auth.USER,
        body=ClaimBody,
        max_body=MAX_QUERY_BODY,
        guests=True,
        limit=Limit.OTHER,
    )
    async def claim(self, call: Call[ClaimBody, NoQuery]) -> Answer:
        """One-time keys of devices, each given out once."""
        keys, failures = await self._keys.claim(call.body.one_time_keys, seconds(call.body.timeout))
        return {"one_time_keys": keys, "failures": failures}

    @endpoint(
        "GET",
        "/_matrix/client/v3/keys/changes",
        spec="client-server-api#get_matrixclientv3keyschanges",
        auth=Auth.USER,
        query=ChangesQuery,
    )
    async def changes(self, call: Call[NoBody, ChangesQuery]) -> Answer:
        """Whose keys changed between two points."""
        since = parse_token(call.query.start, "from").position
        until = min(parse_token(call.query.to, "to").position, self._bell.position)
        changed, left = await self._news.list_changes(call.requester.user_nid, since, until)
        return {"changed": changed, "left": left}
