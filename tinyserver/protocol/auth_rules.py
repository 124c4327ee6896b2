"""Authorisation rules of all room versions, one named function per rule, in the order of the specification.

The numbers are those of room version 12 / of version 1 (versions 6 to 11 have no rule about aliases and count the later
rules one lower than version 1). What differs between versions is asked of the :class:`RoomVersion` flags.

=======  =============================================  ====================================
rule     subject                                        function
=======  =============================================  ====================================
1 / 1    ``m.room.create``                              ``_check_create``
2 / 2.4  the create event exists, and made this room    ``_check_create_exists``
3 / 2    the event's ``auth_events``                    :func:`check_auth_events`
4 / 3    rooms that do not federate                     ``_check_federation``
- / 4    ``m.room.aliases``                             ``_check_aliases``
5 / 5    ``m.room.member``                              ``_check_member``
5.3      ... joining                                    ``_check_join``
5.4      ... inviting                                   ``_check_invite``
5.4.1    ... inviting by third-party invite             ``_check_exchanged_third_party_invite``
5.5      ... leaving, kicking, unbanning                ``_check_leave``
5.6      ... banning                                    ``_check_ban``
5.7      ... knocking                                   ``_check_knock``
6 / 6    the sender is joined                           ``_check_sender_is_joined``
7 / 7    ``m.room.third_party_invite``                  ``_check_third_party_invite``
8 / 8    the power level that the type requires         ``_check_required_level``
9 / 9    state keys which are user IDs                  ``_check_state_key_owner``
10 / 10  ``m.room.power_levels``                        ``power_level_rules.check_power_levels``
- / 11   ``m.room.redaction``                           ``_check_redaction``
=======  =============================================  ====================================

Rule 5.2 (a join through a restricted join rule is signed by the server of ``join_authorised_via_users_server``) is a
question of signatures: ``event_hashes.required_signers`` names that server, and whoever checks signatures asks for it.

spec: rooms/v1#authorisation-rules ... rooms/v12#authorisation-rules, server-server-api#auth-events-selection
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tinyserver.protocol.auth_state import (
    CREATE,
    JOIN_RULES,
    POWER_LEVELS,
    AuthError,
    AuthState,
    StateLookup,
    StateMapKey,
)
from tinyserver.protocol.events import Event
from tinyserver.protocol.identifiers import InvalidIdentifier, domain_of, is_valid_user_id
from tinyserver.protocol.power_level_rules import check_power_levels
from tinyserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from tinyserver.protocol.third_party_invites import check_third_party_invite

__all__ = ["AuthError", "StateLookup", "StateMapKey", "auth_keys_for", "check_auth", "check_auth_events"]


def auth_keys_for(
    version: RoomVersion, event_type: str, sender: str, state_key: str | None, content: Mapping[str, Any]
) -> set[StateMapKey]:
    """The state that belongs into an event's ``auth_events``, as far as the room has it.

    :return: pairs of event type and state key; none for ``m.room.create``.

    spec: server-server-api#auth-events-selection
    """
    if event_type == "m.room.create":
        return set()
    keys = {POWER_LEVELS, ("m.room.member", sender)}
    if version.create_in_auth_events:
        keys.add(CREATE)
    if event_type != "m.room.member":
        return keys
    if state_key is not None:
        keys.add(("m.room.member", state_key))
    membership = content.get("membership")
    if membership in ("join", "invite", "knock"):
        keys.add(JOIN_RULES)
    if membership == "invite":
        token = _third_party_token(content)
        if token is not None:
            keys.add(("m.room.third_party_invite", token))
    if membership == "join" and version.restricted:
        authoriser = content.get("join_authorised_via_users_server")
        if isinstance(authoriser, str):
            keys.add(("m.room.member", authoriser))
    return keys


def _third_party_token(content: Mapping[str, Any]) -> str | None:
    invite = content.get("third_party_invite")
    signed = invite.get("signed") if isinstance(invite, dict) else None
    token = signed.get("token") if isinstance(signed, dict) else None
    return token if isinstance(token, str) else None


def check_auth_events(
    event: Event,
    auth_events: Iterable[Event],
    is_rejected: Callable[[Event], bool],
    create: Event | None = None,
) -> None:
    """Check which events the event cites as its ``auth_events``: rule 2, or rules 2 and 3 from version 12.

    :param auth_events: the events that ``event.auth_event_ids`` names, all of them.
    :param is_rejected: whether one of them (or the create event) was itself rejected.
    :param create: the create event which the room ID names; only rooms of version 12 need it.
    :raises AuthError: the rules refuse the event.
    """
    if event.type == "m.room.create":  # rule 1 alone decides
        return
    version = event.version
    if version.room_id_is_create_hash:
        if create is None or create.room_id != event.room_id or create.type != "m.room.create":
            raise AuthError("The room ID does not name the room's m.room.create event.")
        if is_rejected(create):
            raise AuthError("The room's m.room.create event was rejected.")
    allowed = auth_keys_for(version, event.type, event.sender, event.state_key, event.content)
    seen: set[StateMapKey] = set()
    for auth in auth_events:
        if auth.state_key is None or (auth.type, auth.state_key) not in allowed:
            raise AuthError(f"The event cites {auth.event_id} in its auth_events, which does not belong there.")
        if (auth.type, auth.state_key) in seen:
            raise AuthError(f"The event cites two {auth.type} events for the same state key in its auth_events.")
        seen.add((auth.type, auth.state_key))
        if is_rejected(auth):
            raise AuthError(f"The event cites {auth.event_id} in its auth_events, which was rejected.")
        if auth.room_id != event.room_id:
            raise AuthError(f"The event cites {auth.event_id} in its auth_events, which is in another room.")
    if version.create_in_auth_events and CREATE not in seen:
        raise AuthError("The event does not cite the room's m.room.create event in its auth_events.")


def check_auth(event: Event, state: StateLookup) -> None:
    """Check an event against a state of its room: the authorisation rules without those on ``auth_events``.

    :param state: (event type, state key) -> event. In version 12 too it has the create event.
    :raises AuthError: the rules refuse the event.
    """
    version = event.version
    if event.type == "m.room.create":
        _check_create(event)
        return
    room = AuthState(_check_create_exists(event, state), state)
    _check_federation(event, room)
    if event.type == "m.room.aliases" and version.special_case_aliases:
        _check_aliases(event)
        return
    if event.type == "m.room.member":
        _check_member(event, room)
        return
    _check_sender_is_joined(event, room)
    if event.type == "m.room.third_party_invite":
        _check_third_party_invite(event, room)
        return
    _check_required_level(event, room)
    _check_state_key_owner(event)
    if event.type == "m.room.power_levels":
        check_power_levels(event, room)
    elif event.type == "m.room.redaction" and version.redactions_authorised_by_rules:
        _check_redaction(event, room)


def _check_create(event: Event) -> None:
    """Rule 1."""
    version, content = event.version, event.content
    if event.prev_event_ids:
        raise AuthError("An m.room.create event is the first of its room and cannot have prev_events.")
    if version.room_id_is_create_hash:
        if "room_id" in event.pdu:
            raise AuthError("An m.room.create event must not have a room_id in this room version.")
    elif _domain(event.room_id) != _domain(event.sender):
        raise AuthError("The room ID belongs to another server than the sender of the m.room.create event.")
    if "room_version" in content:
        named = content["room_version"]
        if not isinstance(named, str) or named not in ROOM_VERSIONS:
            raise AuthError("The m.room.create event names a room version that the server does not know.")
    if version.creator_in_content and "creator" not in content:
        raise AuthError("The m.room.create event does not name the room's creator.")
    if version.privileged_creators and "additional_creators" in content:
        more = content["additional_creators"]
        if not isinstance(more, list) or not all(is_valid_user_id(user) for user in more):
            raise AuthError("additional_creators must be a list of user IDs.")


def _check_create_exists(event: Event, state: StateLookup) -> Event:
    """Rule 2.4; from version 12 rule 2. Returns the create event."""
    create = state.get(CREATE)
    if create is None:
        raise AuthError("The room has no m.room.create event.")
    if create.room_id != event.room_id:
        raise AuthError("The room's m.room.create event belongs to another room.")
    return create


def _check_federation(event: Event, room: AuthState) -> None:
    """Rule 4; before version 12 rule 3."""
    create = room.create
    if create.content.get("m.federate") is False and _domain(event.sender) != _domain(create.sender):
        raise AuthError("This room is closed to users of other servers.")


def _check_aliases(event: Event) -> None:
    """Rule 4 of versions 1 to 5."""
    if event.state_key is None:
        raise AuthError("An m.room.aliases event needs a state_key.")
    if event.state_key != _domain(event.sender):
        raise AuthError("A server can only list its own aliases.")


def _check_member(event: Event, room: AuthState) -> None:
    """Rule 5; versions 6 to 11 rule 4."""
    target, membership = event.state_key, event.content.get("membership")
    if target is None or "membership" not in event.content:
        raise AuthError("An m.room.member event needs a state_key and a membership.")
    if membership == "join":
        _check_join(event, target, room)
    elif membership == "invite":
        _check_invite(event, target, room)
    elif membership == "leave":
        _check_leave(event, target, room)
    elif membership == "ban":
        _check_ban(event, target, room)
    elif membership == "knock" and room.version.knock:
        _check_knock(event, target, room)
    else:
        raise AuthError("The membership is not one that this room version knows.")


def _check_join(event: Event, target: str, room: AuthState) -> None:
    """Rule 5.3."""
    if _is_creators_first_join(event, target, room):
        return
    if event.sender != target:
        raise AuthError("Nobody can join a room for somebody else.")
    current = room.membership(target)
    if current == "ban":
        raise AuthError("You are banned from this room.")
    rule, version = room.join_rule, room.version
    if rule == "public":
        return
    if rule == "invite" or (rule == "knock" and version.knock):
        if current not in ("invite", "join"):
            raise AuthError("You are not invited to this room.")
        return
    if (rule == "restricted" and version.restricted) or (rule == "knock_restricted" and version.knock_restricted):
        if current not in ("invite", "join"):
            _check_authorising_user(event.content.get("join_authorised_via_users_server"), room)
        return
    raise AuthError("The room's join rule lets nobody in.")


def _is_creators_first_join(event: Event, target: str, room: AuthState) -> bool:
    """Rule 5.3.1: the creator joins the room that has nothing but its create event."""
    create = room.create
    if event.prev_event_ids != [create.event_id]:
        return False
    return target == (create.content.get("creator") if room.version.creator_in_content else create.sender)


def _check_authorising_user(user_id: object, room: AuthState) -> None:
    """Rule 5.3.5.2: a member who may invite vouches for someone joining by the room's ``allow`` conditions."""
    if not isinstance(user_id, str) or room.membership(user_id) != "join":
        raise AuthError("You are not invited to this room, and no member of it vouches for you.")
    levels = room.power_levels
    if levels.user_level(user_id) < levels.invite:
        raise AuthError(f"{user_id} vouches for you, but may not invite to this room.")


def _check_invite(event: Event, target: str, room: AuthState) -> None:
    """Rule 5.4."""
    if "third_party_invite" in event.content:
        _check_exchanged_third_party_invite(event, target, room)
        return
    _require_joined(event.sender, room)
    current = room.membership(target)
    if current == "join":
        raise AuthError(f"{target} is already in the room.")
    if current == "ban":
        raise AuthError(f"{target} is banned from this room. Lift the ban before you invite them.")
    levels = room.power_levels
    if levels.user_level(event.sender) < levels.invite:
        raise AuthError("You do not have permission to invite users to this room.")


def _check_exchanged_third_party_invite(event: Event, target: str, room: AuthState) -> None:
    """Rule 5.4.1."""
    if room.membership(target) == "ban":
        raise AuthError(f"{target} is banned from this room. Lift the ban before you invite them.")
    invite = event.content["third_party_invite"]
    signed = invite.get("signed") if isinstance(invite, dict) else None
    if not isinstance(signed, dict):
        raise AuthError("The third-party invite is not signed.")
    token, user_id = signed.get("token"), signed.get("mxid")
    if not isinstance(token, str) or not isinstance(user_id, str):
        raise AuthError("The third-party invite lacks its token or the user that it is for.")
    if user_id != target:
        raise AuthError("The third-party invite is for somebody else.")
    issued = room.third_party_invite(token)
    if issued is None:
        raise AuthError("The room has no third-party invite with this token. It may have been revoked.")
    if issued.sender != event.sender:
        raise AuthError("The third-party invite was sent by somebody else.")
    if not check_third_party_invite(signed, issued.content):
        raise AuthError("The signature of the third-party invite is not valid.")


def _check_leave(event: Event, target: str, room: AuthState) -> None:
    """Rule 5.5."""
    sender = event.sender
    current = room.membership(target)
    if sender == target:
        if not (current in ("invite", "join") or (current == "knock" and room.version.knock)):
            raise AuthError("You are not in this room, nor invited to it.")
        return
    _require_joined(sender, room)
    levels = room.power_levels
    own = levels.user_level(sender)
    if current == "ban" and own < levels.ban:
        raise AuthError("You do not have permission to lift bans in this room.")
    if own < levels.kick:
        raise AuthError("You do not have permission to remove users from this room.")
    if levels.user_level(target) >= own:
        raise AuthError(f"You cannot remove {target}: their power level is not below yours.")


def _check_ban(event: Event, target: str, room: AuthState) -> None:
    """Rule 5.6."""
    _require_joined(event.sender, room)
    levels = room.power_levels
    own = levels.user_level(event.sender)
    if own < levels.ban:
        raise AuthError("You do not have permission to ban users from this room.")
    if levels.user_level(target) >= own:
        raise AuthError(f"You cannot ban {target}: their power level is not below yours.")


def _check_knock(event: Event, target: str, room: AuthState) -> None:
    """Rule 5.7."""
    rule = room.join_rule
    if rule != "knock" and not (rule == "knock_restricted" and room.version.knock_restricted):
        raise AuthError("This room does not allow knocking.")
    if event.sender != target:
        raise AuthError("Nobody can knock for somebody else.")
    current = room.membership(target)
    if current == "ban":
        raise AuthError("You are banned from this room.")
    if current in ("invite", "join"):
        raise AuthError("You are already in this room, or invited to it.")


def _check_sender_is_joined(event: Event, room: AuthState) -> None:
    """Rule 6; versions 6 to 11 rule 5."""
    _require_joined(event.sender, room)


def _require_joined(user_id: str, room: AuthState) -> None:
    if room.membership(user_id) != "join":
        raise AuthError(f"{user_id} is not in this room.")


def _check_third_party_invite(event: Event, room: AuthState) -> None:
    """Rule 7; versions 6 to 11 rule 6."""
    levels = room.power_levels
    if levels.user_level(event.sender) < levels.invite:
        raise AuthError("You do not have permission to invite users to this room.")


def _check_required_level(event: Event, room: AuthState) -> None:
    """Rule 8; versions 6 to 11 rule 7."""
    levels = room.power_levels
    required = levels.event_level(event.type, event.state_key is not None)
    own = levels.user_level(event.sender)
    if required > own:
        raise AuthError(f"To send {event.type} events here you need power level {required}; you have {own}.")


def _check_state_key_owner(event: Event) -> None:
    """Rule 9; versions 6 to 11 rule 8."""
    state_key = event.state_key
    if state_key is not None and state_key.startswith("@") and state_key != event.sender:
        raise AuthError("A state key that is a user ID must be your own.")


def _check_redaction(event: Event, room: AuthState) -> None:
    """Rule 11 of versions 1 and 2."""
    levels = room.power_levels
    if levels.user_level(event.sender) >= levels.redact:
        return
    redacts = event.redacts
    if redacts is None or _domain(redacts) is None or _domain(redacts) != _domain(event.event_id):
        raise AuthError("You do not have permission to redact the events of others in this room.")


def _domain(identifier: str) -> str | None:
    """The server name in an identifier; ``None`` if it has none."""
    try:
        return domain_of(identifier)
    except InvalidIdentifier:
        return None
