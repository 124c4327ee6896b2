"""Calls: TURN credentials, and the token service of a LiveKit server."""

from __future__ import annotations

from typing import Any

from tinyserver.accounts.openid import OpenIdTokens
from tinyserver.api.client.calls import LIVEKIT_PATH, LiveKitApi, TransportsApi, TurnApi
from tinyserver.api.routing import Router
from tinyserver.calls.livekit import LiveKit, LiveKitTokens
from tinyserver.calls.turn import TurnServers
from tinyserver.clock import Clock
from tinyserver.config import Config
from tinyserver.federation.client import FederationClient
from tinyserver.federation.participation.openid import OpenIdQueries
from tinyserver.storage.database import Database


def call_transports(config: Config) -> list[dict[str, Any]]:
    """What carries the media of group calls, as clients get it told (MSC4143)."""
    if not _has_livekit(config):
        return []
    service = config.voip.livekit_service_url or config.public_url.rstrip("/") + LIVEKIT_PATH
    return [{"type": "livekit", "livekit_service_url": service}]


def add_calls(
    router: Router, config: Config, db: Database, clock: Clock, openid: OpenIdTokens, client: FederationClient
) -> None:
    """Build the parts and give their endpoints to the router. Nothing of it needs to be started or stopped."""
    voip = config.voip
    router.add(TurnApi(TurnServers(voip.turn_uris, voip.turn_shared_secret, voip.turn_lifetime, clock)))
    router.add(TransportsApi(call_transports(config)))
    if voip.livekit_url and voip.livekit_key and voip.livekit_secret:
        livekit = LiveKit(voip.livekit_url, voip.livekit_key, voip.livekit_secret)
        others = OpenIdQueries(client) if config.federation.enabled else None
        router.add(LiveKitApi(LiveKitTokens(db, livekit, config.server_name, openid, others)))


def _has_livekit(config: Config) -> bool:
    voip = config.voip
    built_in = voip.livekit_url and voip.livekit_key and voip.livekit_secret and config.public_url
    return bool(voip.livekit_service_url or built_in)
