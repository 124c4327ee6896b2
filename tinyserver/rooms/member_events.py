"""The content of member events: membership plus the profile of a local user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tinyserver.rooms.drafts import EventDraft
from tinyserver.storage import names, profiles
from tinyserver.storage.transaction import ReadTransaction

_PROFILE_KEYS = ("displayname", "avatar_url")


def profile_of(tx: ReadTransaction, user_id: str) -> dict[str, Any]:
    """Display name and avatar of a local user, as far as they are set."""
    nid = names.find(tx, user_id)
    fields = None if nid is None else profiles.get(tx, nid)
    if fields is None:
        return {}
    known = orjson.loads(fields)
    return {key: known[key] for key in _PROFILE_KEYS if known.get(key)}


def member_draft(
    tx: ReadTransaction,
    *,
    sender: str,
    target: str,
    membership: str,
    reason: str | None = None,
    with_profile: bool = False,
    **more: Any,
) -> EventDraft:
    """A draft of the member event by which `sender` changes the membership of `target`.

    Args:
        with_profile: add what is known of the target's profile (joins, invites and knocks).
        more: further keys of the content; None leaves one out.
    """
    content: dict[str, Any] = profile_of(tx, target) if with_profile else {}
    content["membership"] = membership
    if reason is not None:
        content["reason"] = reason
    content.update({key: value for key, value in more.items() if value is not None})
    return EventDraft("m.room.member", sender, content, state_key=target)


_OF_ONE_EVENT = frozenset(
    {*_PROFILE_KEYS, "reason", "is_direct", "third_party_invite", "join_authorised_via_users_server"}
)


def with_fresh_profile(tx: ReadTransaction, user_id: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a join with the user's present profile.

    What belongs to the event of the past alone is left out: above all who vouched for a restricted join, whose server
    would have to sign the copy too.

    spec: client-server-api#mroommember
    """
    kept = {key: value for key, value in content.items() if key not in _OF_ONE_EVENT}
    return {**kept, **profile_of(tx, user_id)}
