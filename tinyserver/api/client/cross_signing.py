"""Cross-signing keys and signatures."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.oauth.locations import reset_url_at
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.encryption.cross_signing import CrossSigning, Uploads
from tinyserver.storage.cross_signing import Usage

_SPEC = "client-server-api#cross-signing"


class SigningKeysBody(msgspec.Struct):
    """The body of `POST /keys/device_signing/upload`."""

    master_key: dict[str, Any] | None = None
    self_signing_key: dict[str, Any] | None = None
    user_signing_key: dict[str, Any] | None = None
    auth: dict[str, Any] | None = None


class CrossSigningApi:
    """The cross-signing chapter."""

    surface = Surface.CLIENT

    def __init__(self, cross_signing: CrossSigning, public_url: PublicUrl) -> None:
        self._cross_signing = cross_signing
        self._public_url = public_url

    @endpoint(
        "POST",
        "/_matrix/client/v3/keys/device_signing/upload",
        spec=_SPEC,
        auth=Auth.USER,
        body=SigningKeysBody,
        limit=Limit.OTHER,
    )
    async def upload_keys(self, call: Call[SigningKeysBody, NoQuery]) -> Answer:
        """Publish the user's cross-signing keys."""
        body = call.body
        keys = {
            Usage.MASTER: body.master_key,
            Usage.SELF_SIGNING: body.self_signing_key,
            Usage.USER_SIGNING: body.user_signing_key,
        }
        await self._cross_signing.upload_keys(call.requester, keys, body.auth, reset_url_at(self._public_url.of(call)))
        return {}

    @endpoint(
        "POST",
        "/_matrix/client/v3/keys/signatures/upload",
        spec=_SPEC,
        auth=Auth.USER,
        body=dict[str, dict[str, dict[str, Any]]],
        limit=Limit.OTHER,
    )
    async def upload_signatures(self, call: Call[Uploads, NoQuery]) -> Answer:
        """Publish signatures on keys."""
        return {"failures": await self._cross_signing.upload_signatures(call.requester, call.body)}
