"""The paths by which older clients and servers call what has another path today: one table.

``r0`` and ``v1`` became ``v3``; proposals had a path of their own until the specification took them; and events were
once sent without a transaction ID. Whoever calls such a path gets the endpoint of today.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

_V3 = "/_matrix/client/v3"
_V1 = "/_matrix/client/v1"
_ROOM = _V3 + "/rooms/{roomId}"
_UNSTABLE = "/_matrix/client/unstable"
_FEDERATION = "/_matrix/federation/v1"
_UNSTABLE_FEDERATION = "/_matrix/federation/unstable"
_KNOCK = "xyz.amorgan.knock"
_SUMMARY = "/im.nheko.summary"
_MEDIA = "/org.matrix.msc3916/media"

PREFIXES: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {
    ("_matrix", "client", "r0"): (("_matrix", "client", "v3"),),
    ("_matrix", "client", "api", "v1"): (("_matrix", "client", "v3"),),
    ("_matrix", "client", "unstable"): (("_matrix", "client", "v3"), ("_matrix", "client", "v1")),
    ("_matrix", "client", "v1"): (("_matrix", "client", "v3"),),
    ("_matrix", "media", "r0"): (("_matrix", "media", "v3"),),
    ("_matrix", "media", "v1"): (("_matrix", "media", "v3"),),
}
"""What the beginning of a path that is not declared itself may mean."""


class OtherPath(NamedTuple):
    """A path that leads to the endpoint with another path, and with another method where ``method`` and
    ``known_method`` are not None. Its parameters have the names of those of the endpoint; some may be missing."""

    path: str
    known: str
    method: str | None = None
    known_method: str | None = None


OTHER_PATHS = (
    # Without a transaction ID: a request that is sent twice is then done twice.
    OtherPath(_ROOM + "/send/{eventType}", _ROOM + "/send/{eventType}/{txnId}", "POST", "PUT"),
    OtherPath(_ROOM + "/redact/{eventId}", _ROOM + "/redact/{eventId}/{txnId}", "POST", "PUT"),
    # Proposals under the names that they had before they were accepted.
    OtherPath(_UNSTABLE + _SUMMARY + "/summary/{roomIdOrAlias}", _V1 + "/room_summary/{roomIdOrAlias}"),
    OtherPath(_UNSTABLE + _SUMMARY + "/rooms/{roomIdOrAlias}/summary", _V1 + "/room_summary/{roomIdOrAlias}"),
    OtherPath(_UNSTABLE + "/org.matrix.msc2946/rooms/{roomId}/hierarchy", _V1 + "/rooms/{roomId}/hierarchy"),
    OtherPath(
        _UNSTABLE + "/org.matrix.msc3030/rooms/{roomId}/timestamp_to_event", _V1 + "/rooms/{roomId}/timestamp_to_event"
    ),
    OtherPath(_UNSTABLE + "/org.matrix.msc3856/rooms/{roomId}/threads", _V1 + "/rooms/{roomId}/threads"),
    OtherPath(_UNSTABLE + "/uk.half-shot.msc2666/user/mutual_rooms", _V1 + "/mutual_rooms"),
    OtherPath(_UNSTABLE + "/uk.tcpip.msc4133/profile/{userId}", _V3 + "/profile/{userId}"),
    OtherPath(_UNSTABLE + "/uk.tcpip.msc4133/profile/{userId}/{keyName}", _V3 + "/profile/{userId}/{keyName}"),
    OtherPath(_UNSTABLE + "/org.matrix.msc3882/login/get_token", _V1 + "/login/get_token"),
    OtherPath(_UNSTABLE + "/org.matrix.msc2965/auth_metadata", _V1 + "/auth_metadata"),
    OtherPath(_UNSTABLE + "/org.matrix.msc4151/rooms/{roomId}/report", _V3 + "/rooms/{roomId}/report"),
    OtherPath(_UNSTABLE + "/org.matrix.msc4260/users/{userId}/report", _V3 + "/users/{userId}/report"),
    OtherPath(_UNSTABLE + f"/{_KNOCK}/knock/{{roomIdOrAlias}}", _V3 + "/knock/{roomIdOrAlias}"),
    OtherPath(_UNSTABLE + "/org.matrix.msc2432/rooms/{roomId}/aliases", _V3 + "/rooms/{roomId}/aliases"),
    OtherPath(
        _UNSTABLE + "/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity",
        _V1 + "/register/m.login.registration_token/validity",
    ),
    OtherPath(_UNSTABLE + "/fi.mau.msc2659/appservice/{appserviceId}/ping", _V1 + "/appservice/{appserviceId}/ping"),
    OtherPath(_UNSTABLE + "/uk.timedout.msc4323/admin/suspend/{userId}", _V1 + "/admin/suspend/{userId}"),
    OtherPath(_UNSTABLE + "/uk.timedout.msc4323/admin/lock/{userId}", _V1 + "/admin/lock/{userId}"),
    OtherPath(_UNSTABLE + _MEDIA + "/config", _V1 + "/media/config"),
    OtherPath(_UNSTABLE + _MEDIA + "/preview_url", _V1 + "/media/preview_url"),
    OtherPath(_UNSTABLE + _MEDIA + "/download/{serverName}/{mediaId}", _V1 + "/media/download/{serverName}/{mediaId}"),
    OtherPath(
        _UNSTABLE + _MEDIA + "/download/{serverName}/{mediaId}/{fileName}",
        _V1 + "/media/download/{serverName}/{mediaId}/{fileName}",
    ),
    OtherPath(
        _UNSTABLE + _MEDIA + "/thumbnail/{serverName}/{mediaId}", _V1 + "/media/thumbnail/{serverName}/{mediaId}"
    ),
    OtherPath("/_matrix/media/unstable/fi.mau.msc2246/create", "/_matrix/media/v1/create"),
    OtherPath(
        "/_matrix/media/unstable/fi.mau.msc2246/upload/{serverName}/{mediaId}",
        "/_matrix/media/v3/upload/{serverName}/{mediaId}",
    ),
    # The same between servers.
    OtherPath(_UNSTABLE_FEDERATION + "/org.matrix.msc2946/hierarchy/{roomId}", _FEDERATION + "/hierarchy/{roomId}"),
    OtherPath(
        _UNSTABLE_FEDERATION + "/org.matrix.msc3030/timestamp_to_event/{roomId}",
        _FEDERATION + "/timestamp_to_event/{roomId}",
    ),
    OtherPath(_UNSTABLE_FEDERATION + _MEDIA + "/download/{mediaId}", _FEDERATION + "/media/download/{mediaId}"),
    OtherPath(_UNSTABLE_FEDERATION + _MEDIA + "/thumbnail/{mediaId}", _FEDERATION + "/media/thumbnail/{mediaId}"),
    OtherPath(
        _UNSTABLE_FEDERATION + f"/{_KNOCK}/make_knock/{{roomId}}/{{userId}}",
        _FEDERATION + "/make_knock/{roomId}/{userId}",
    ),
    OtherPath(
        _UNSTABLE_FEDERATION + f"/{_KNOCK}/send_knock/{{roomId}}/{{eventId}}",
        _FEDERATION + "/send_knock/{roomId}/{eventId}",
    ),
)


def others_of(method: str, path: str) -> Iterator[tuple[str, str]]:
    """(method, path) of each other way to an endpoint."""
    for other in OTHER_PATHS:
        if other.known == path and other.known_method in (None, method):
            yield other.method or method, other.path


def meanings(segments: Sequence[str]) -> Iterator[list[str]]:
    """What a path may mean, by its segments: first what it says itself."""
    yield list(segments)
    for length in (3, 4):
        for prefix in PREFIXES.get(tuple(segments[:length]), ()):
            yield [*prefix, *segments[length:]]
