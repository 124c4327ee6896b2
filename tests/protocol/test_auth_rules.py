"""The authorisation rules, rule by rule and version by version. spec: rooms/v1 ... rooms/v12#authorisation-rules"""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.room_builder import ALICE, BOB, CAROL, DAVE, EVE, Branch, Room, furnished
from tinyserver.protocol.auth_rules import auth_keys_for, check_auth, check_auth_events
from tinyserver.protocol.auth_state import AuthError
from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import ROOM_VERSIONS, get_room_version
from tinyserver.protocol.signing import SigningKey, sign_json

ALL = tuple(ROOM_VERSIONS)
BEFORE_12 = ALL[:-1]
MEMBER = "m.room.member"


def since(first: int, last: int = 12) -> tuple[str, ...]:
    return tuple(str(number) for number in range(first, last + 1))


every_version = pytest.mark.parametrize("version", ALL)


def is_allowed(event: Event, branch: Branch) -> bool:
    try:
        check_auth(event, branch.state)
    except AuthError:
        return False
    return True


def may(branch: Branch, sender: str, event_type: str, content: Any = None, **more: Any) -> bool:
    return is_allowed(branch.make(sender, event_type, content, **more), branch)


def may_set(branch: Branch, sender: str, target: str, membership: Any, **content: Any) -> bool:
    return may(branch, sender, MEMBER, {"membership": membership, **content}, state_key=target)


def staffed(version: str, users: Iterable[str] = (), rule: str = "public", **levels: Any) -> Branch:
    """Alice has made the room, Bob has level 50, Carol 40; these users are in it."""
    branch = furnished(version, users)
    creator = {} if branch.room.version.privileged_creators else {ALICE: 100}
    branch.power(ALICE, {**creator, BOB: 50, CAROL: 40}, **levels)
    if rule != "public":
        branch.join_rule(ALICE, rule)
    return branch


# --- Rule 1: m.room.create


def create_event(version: str, drop: Iterable[str] = (), sender: str = ALICE, **content: Any) -> Event:
    room = Room(version)
    content = {"room_version": version, "creator": sender, **content}
    for name in drop:
        del content[name]
    return Branch(room, {}, None).make(sender, "m.room.create", content)


@every_version
def test_create(version: str) -> None:
    check_auth(create_event(version), {})
    check_auth(create_event(version, drop=["room_version"]), {})


@every_version
@pytest.mark.parametrize("named", ["99", "", None, 1, [], {}, "org.example.unknown"])
def test_create_names_an_unknown_version(version: str, named: Any) -> None:
    with pytest.raises(AuthError):
        check_auth(create_event(version, room_version=named), {})


@every_version
def test_create_after_another_event(version: str) -> None:
    branch = furnished(version)
    assert not may(branch, ALICE, "m.room.create", {"creator": ALICE})


@every_version
def test_create_without_creator(version: str) -> None:
    event = create_event(version, drop=["creator"])
    if version in since(1, 10):
        with pytest.raises(AuthError):
            check_auth(event, {})
    else:
        check_auth(event, {})


@pytest.mark.parametrize("version", BEFORE_12)
def test_create_of_a_room_of_another_server(version: str) -> None:
    with pytest.raises(AuthError):
        check_auth(create_event(version, sender=BOB), {})


def test_create_with_room_id() -> None:
    event = create_event("12")
    event.pdu["room_id"] = "!room:a.test"
    with pytest.raises(AuthError):
        check_auth(event, {})


@every_version
@pytest.mark.parametrize(
    ("more", "valid"),
    [
        ([], True),
        ([BOB], True),
        (["@Historical User!:b.test"], True),
        (None, False),
        (BOB, False),
        ({BOB: 1}, False),
        ([1], False),
        (["bob"], False),
        (["@bob"], False),
        ([f"@{'b' * 250}:b.test"], False),
        ([BOB, None], False),
    ],
)
def test_additional_creators(version: str, more: Any, valid: bool) -> None:
    event = create_event(version, additional_creators=more)
    if valid or version != "12":
        check_auth(event, {})
    else:
        with pytest.raises(AuthError):
            check_auth(event, {})


# --- Rules 2 and 3: the create event, and auth_events


@every_version
def test_no_room_without_create_event(version: str) -> None:
    branch = furnished(version, [BOB])
    event = branch.make(BOB, "m.room.message", {}, state_key=None)
    assert is_allowed(event, branch)
    del branch.state["m.room.create", ""]
    assert not is_allowed(event, branch)


@every_version
def test_create_event_of_another_room(version: str) -> None:
    branch = furnished(version, [BOB])
    event = branch.make(BOB, "m.room.message", {}, state_key=None)
    event.room_id = "!other:a.test"
    assert not is_allowed(event, branch)


def cited(branch: Branch, event: Event) -> list[Event]:
    return [branch.room.events[event_id] for event_id in event.auth_event_ids]


def never(_event: Event) -> bool:
    return False


def check_cited(branch: Branch, event: Event, auth_events: Iterable[Event] | None = None, **more: Any) -> None:
    more.setdefault("is_rejected", never)
    more.setdefault("create", branch.state["m.room.create", ""])
    check_auth_events(event, cited(branch, event) if auth_events is None else auth_events, **more)


@every_version
def test_auth_events(version: str) -> None:
    branch = staffed(version, [BOB])
    event = branch.make(BOB, "m.room.topic", {})
    check_cited(branch, event)
    assert len(event.auth_event_ids) == (2 if version == "12" else 3)
    check_auth_events(branch.state["m.room.create", ""], (), never)


@every_version
def test_duplicate_auth_events(version: str) -> None:
    branch = staffed(version, [BOB])
    event = branch.make(BOB, "m.room.topic", {})
    again = branch.make(BOB, MEMBER, {"membership": "join"}, state_key=BOB)
    with pytest.raises(AuthError):
        check_cited(branch, event, [*cited(branch, event), again])


@every_version
def test_superfluous_auth_events(version: str) -> None:
    branch = staffed(version, [BOB])
    event = branch.make(BOB, "m.room.topic", {})
    extra = [branch.state["m.room.join_rules", ""], branch.make(ALICE, "m.room.power_levels", {}, state_key=None)]
    if version == "12":
        extra.append(branch.state["m.room.create", ""])
    for superfluous in extra:
        with pytest.raises(AuthError):
            check_cited(branch, event, [*cited(branch, event), superfluous])


@every_version
def test_rejected_auth_events(version: str) -> None:
    branch = staffed(version, [BOB])
    event = branch.make(BOB, "m.room.topic", {})
    with pytest.raises(AuthError):
        check_cited(branch, event, is_rejected=lambda auth: auth.type == MEMBER)
    with pytest.raises(AuthError):
        check_cited(branch, event, is_rejected=lambda auth: auth.type == "m.room.create")


@every_version
def test_auth_events_without_create_event(version: str) -> None:
    branch = staffed(version, [BOB])
    event = branch.make(BOB, "m.room.topic", {})
    without = [auth for auth in cited(branch, event) if auth.type != "m.room.create"]
    if version == "12":
        check_cited(branch, event, without)
        with pytest.raises(AuthError):
            check_cited(branch, event, without, create=None)
        with pytest.raises(AuthError):
            check_cited(branch, event, without, create=Room("12", salt="other").create().tip)
        with pytest.raises(AuthError):
            check_cited(branch, event, without, create=branch.state[MEMBER, ALICE])
    else:
        with pytest.raises(AuthError):
            check_cited(branch, event, without)


@every_version
def test_auth_events_of_another_room(version: str) -> None:
    branch = staffed(version, [BOB])
    event = branch.make(BOB, "m.room.topic", {})
    for auth in cited(branch, event):
        here, auth.room_id = auth.room_id, "!elsewhere:a.test"
        with pytest.raises(AuthError):
            check_cited(branch, event)
        auth.room_id = here
    check_cited(branch, event)


CREATE, POWER, RULES = ("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.join_rules", "")
SELECTIONS: list[tuple[str, str | None, dict[str, Any], set[tuple[str, str]]]] = [
    ("m.room.message", None, {}, set()),
    ("m.room.topic", "", {"membership": "join"}, set()),
    (MEMBER, BOB, {"membership": "join"}, {(MEMBER, BOB), RULES}),
    (MEMBER, CAROL, {"membership": "invite"}, {(MEMBER, CAROL), RULES}),
    (MEMBER, BOB, {"membership": "knock"}, {RULES}),
    (MEMBER, CAROL, {"membership": "leave"}, {(MEMBER, CAROL)}),
    (MEMBER, CAROL, {"membership": "ban"}, {(MEMBER, CAROL)}),
    (MEMBER, CAROL, {}, {(MEMBER, CAROL)}),
    (MEMBER, None, {"membership": ["join"]}, set()),
    (
        MEMBER,
        CAROL,
        {"membership": "invite", "third_party_invite": {"signed": {"token": "tok"}}},
        {(MEMBER, CAROL), RULES, ("m.room.third_party_invite", "tok")},
    ),
    (MEMBER, CAROL, {"membership": "invite", "third_party_invite": {"signed": {"token": 1}}}, {(MEMBER, CAROL), RULES}),
    (MEMBER, CAROL, {"membership": "invite", "third_party_invite": {"signed": []}}, {(MEMBER, CAROL), RULES}),
    (MEMBER, CAROL, {"membership": "invite", "third_party_invite": None}, {(MEMBER, CAROL), RULES}),
    (MEMBER, CAROL, {"membership": "ban", "third_party_invite": {"signed": {"token": "tok"}}}, {(MEMBER, CAROL)}),
    (MEMBER, BOB, {"membership": "join", "join_authorised_via_users_server": 5}, {RULES}),
    (MEMBER, BOB, {"membership": "leave", "join_authorised_via_users_server": ALICE}, set()),
]


@every_version
@pytest.mark.parametrize(("event_type", "state_key", "content", "more"), SELECTIONS)
def test_auth_events_selection(
    version: str, event_type: str, state_key: str | None, content: dict[str, Any], more: set[tuple[str, str]]
) -> None:
    always = {POWER, (MEMBER, BOB)} | ({CREATE} if version != "12" else set())
    assert auth_keys_for(get_room_version(version), event_type, BOB, state_key, content) == always | more


@every_version
def test_auth_events_selection_of_a_restricted_join(version: str) -> None:
    content = {"membership": "join", "join_authorised_via_users_server": ALICE}
    keys = auth_keys_for(get_room_version(version), MEMBER, BOB, BOB, content)
    assert ((MEMBER, ALICE) in keys) == (version in since(8))
    assert auth_keys_for(get_room_version(version), "m.room.create", ALICE, "", {}) == set()


# --- Rule 4 (3): m.federate


@every_version
@pytest.mark.parametrize(("federate", "open_to_all"), [(True, True), (False, False), (0, True), (None, True)])
def test_federate(version: str, federate: Any, open_to_all: bool) -> None:
    branch = furnished(version, **{"m.federate": federate})
    assert may_set(branch, "@other:a.test", "@other:a.test", "join")
    assert may_set(branch, BOB, BOB, "join") == open_to_all


# --- Rule 4 of versions 1 to 5: m.room.aliases


@every_version
def test_aliases(version: str) -> None:
    branch = furnished(version)
    special = version in since(1, 5)
    assert may(branch, EVE, "m.room.aliases", {}, state_key="e.test") == special  # not even a member
    assert not may(branch, EVE, "m.room.aliases", {}, state_key="a.test")
    assert not may(branch, EVE, "m.room.aliases", {}, state_key=None)
    assert may(branch, ALICE, "m.room.aliases", {}, state_key="b.test") != special


# --- Rule 5: m.room.member


@every_version
@pytest.mark.parametrize(
    ("content", "state_key"),
    [
        ({"membership": "join"}, None),
        ({}, BOB),
        ({"membership": None}, BOB),
        ({"membership": 1}, BOB),
        ({"membership": ["join"]}, BOB),
        ({"membership": "JOIN"}, BOB),
        ({"membership": "unheard-of"}, BOB),
    ],
)
def test_member_events_that_make_no_sense(version: str, content: dict[str, Any], state_key: str | None) -> None:
    assert not may(furnished(version), BOB, MEMBER, content, state_key=state_key)


# 5.3: join


@every_version
def test_the_creator_joins_first(version: str) -> None:
    branch = Room(version).create()
    assert may_set(branch, ALICE, ALICE, "join")
    assert not may_set(branch, BOB, BOB, "join")
    member = branch.join(ALICE)
    late = {"prev_events": [member.event_id]}
    del branch.state[MEMBER, ALICE]
    assert not may(branch, ALICE, MEMBER, {"membership": "join"}, state_key=ALICE, **late)  # join rule: invite


@every_version
def test_who_the_creator_is(version: str) -> None:
    branch = Room(version).create(sender=ALICE, creator=CAROL)
    assert may_set(branch, CAROL, CAROL, "join") == (version in since(1, 10))
    assert may_set(branch, ALICE, ALICE, "join") == (version in since(11))


def test_an_additional_creator_does_not_join_by_the_creators_rule() -> None:
    branch = Room("12").create(additional_creators=[BOB])
    assert not may_set(branch, BOB, BOB, "join")


@every_version
def test_nobody_joins_for_somebody_else(version: str) -> None:
    branch = furnished(version, [BOB])
    assert not may_set(branch, BOB, CAROL, "join")
    assert not may_set(branch, ALICE, CAROL, "join")


# join rule -> versions in which it is known, and who may join by it
JOINS: dict[Any, tuple[tuple[str, ...], set[str]]] = {
    "public": (ALL, {"leave", "invite", "join", "knock"}),
    "invite": (ALL, {"invite", "join"}),
    "knock": (since(7), {"invite", "join"}),
    "restricted": (since(8), {"invite", "join"}),
    "knock_restricted": (since(10), {"invite", "join"}),
    "private": ((), set()),
    "unheard-of": ((), set()),
    None: (ALL, {"invite", "join"}),  # no join rules at all
    5: (ALL, {"invite", "join"}),
}


@every_version
@pytest.mark.parametrize("rule", JOINS)
@pytest.mark.parametrize("current", ["leave", "invite", "join", "knock", "ban"])
def test_join_rules(version: str, rule: Any, current: str) -> None:
    branch = furnished(version, rule="public")
    branch.add(branch.make(ALICE, MEMBER, {"membership": current}, state_key=BOB))
    branch.add(branch.make(ALICE, "m.room.join_rules", {} if rule is None else {"join_rule": rule}))
    versions, memberships = JOINS[rule]
    assert may_set(branch, BOB, BOB, "join") == (version in versions and current in memberships)


@every_version
@pytest.mark.parametrize("rule", ["restricted", "knock_restricted"])
def test_restricted_joins(version: str, rule: str) -> None:
    branch = staffed(version, [BOB, CAROL], invite=50)
    branch.join_rule(ALICE, rule)
    known = version in JOINS[rule][0]

    def joins_by(voucher: Any) -> bool:
        return may_set(branch, DAVE, DAVE, "join", join_authorised_via_users_server=voucher)

    assert joins_by(BOB) == known
    assert joins_by(ALICE) == known
    assert not joins_by(CAROL)  # may not invite
    assert not joins_by(EVE)  # not in the room
    assert not joins_by(None)
    assert not joins_by([BOB])
    branch.member(ALICE, BOB, "leave")
    assert not joins_by(BOB)
    branch.member(ALICE, DAVE, "ban")
    assert not joins_by(ALICE)


# 5.4: invite


@every_version
def test_invite(version: str) -> None:
    branch = staffed(version, [BOB, CAROL], invite=50)
    assert may_set(branch, BOB, DAVE, "invite")
    assert not may_set(branch, CAROL, DAVE, "invite")
    assert not may_set(branch, EVE, DAVE, "invite")
    assert not may_set(branch, BOB, CAROL, "invite")
    branch.member(ALICE, DAVE, "ban")
    assert not may_set(branch, BOB, DAVE, "invite")
    branch.member(ALICE, DAVE, "leave")
    branch.member(BOB, DAVE, "invite")
    assert may_set(branch, BOB, DAVE, "invite")


KEY, OTHER_KEY = SigningKey("1", b"k" * 32), SigningKey("1", b"o" * 32)


def exchanged(key: SigningKey = KEY, **changes: Any) -> dict[str, Any]:
    """The content of a member event for Dave by a third-party invite."""
    signed = {"mxid": DAVE, "token": "tok", **changes}
    signed = {name: value for name, value in signed.items() if value is not None}
    return {"third_party_invite": {"display_name": "d...", "signed": sign_json(signed, "identity.test", key)}}


def with_third_party_invite(version: str, **content: Any) -> Branch:
    branch = staffed(version, [BOB], rule="invite")
    content = content or {"public_key": KEY.verify_key_base64}
    branch.send(BOB, "m.room.third_party_invite", content, state_key="tok")
    return branch


@every_version
def test_third_party_invite(version: str) -> None:
    branch = with_third_party_invite(version)
    assert may_set(branch, BOB, DAVE, "invite", **exchanged())
    assert not may_set(branch, ALICE, DAVE, "invite", **exchanged())  # did not send the invite
    assert not may_set(branch, BOB, EVE, "invite", **exchanged())  # is for Dave
    assert not may_set(branch, BOB, DAVE, "invite", **exchanged(OTHER_KEY))
    assert not may_set(branch, BOB, DAVE, "invite", **exchanged(token="unknown"))
    assert not may_set(branch, BOB, DAVE, "invite", **exchanged(token=None))
    assert not may_set(branch, BOB, DAVE, "invite", **exchanged(mxid=None))
    assert not may_set(branch, BOB, DAVE, "invite", **exchanged(token=["tok"]))
    for broken in (None, {}, [], {"signed": None}, {"signed": []}, {"signed": {"mxid": DAVE, "token": "tok"}}):
        assert not may_set(branch, BOB, DAVE, "invite", third_party_invite=broken)
    branch.member(BOB, BOB, "leave")
    assert may_set(branch, BOB, DAVE, "invite", **exchanged())  # the sender need not be in the room any more
    branch.member(ALICE, DAVE, "ban")
    assert not may_set(branch, BOB, DAVE, "invite", **exchanged())


@pytest.mark.parametrize(
    ("content", "accepted"),
    [
        ({"public_key": OTHER_KEY.verify_key_base64}, False),
        ({"public_keys": [{"public_key": KEY.verify_key_base64}]}, True),
        ({"public_key": OTHER_KEY.verify_key_base64, "public_keys": [{"public_key": KEY.verify_key_base64}]}, True),
        ({"public_key": 1, "public_keys": [None, 1, {"public_key": None}, {}]}, False),
        ({"public_key": "not base64!", "public_keys": {"public_key": KEY.verify_key_base64}}, False),
        ({"public_key": KEY.verify_key_base64[:-4]}, False),
        ({"display_name": "no key"}, False),
    ],
)
def test_keys_of_third_party_invites(content: dict[str, Any], accepted: bool) -> None:
    branch = with_third_party_invite("11", **content)
    assert may_set(branch, BOB, DAVE, "invite", **exchanged()) == accepted


@pytest.mark.parametrize("signatures", [None, [], {}, {"s": None}, {"s": {"ed25519:1": 5}}, {"s": {"rsa:1": "aaaa"}}])
def test_signatures_of_third_party_invites_that_make_no_sense(signatures: Any) -> None:
    branch = with_third_party_invite("11")
    content = exchanged()
    content["third_party_invite"]["signed"]["signatures"] = signatures
    assert not may_set(branch, BOB, DAVE, "invite", **content)


def test_a_flood_of_signatures_and_keys_is_not_worked_through() -> None:
    keys = [{"public_key": "A" * 42 + letter} for letter in "AEIMQUYcgkosw048"]
    branch = with_third_party_invite("11", public_keys=[*keys, {"public_key": KEY.verify_key_base64}])
    content = exchanged()
    signed = content["third_party_invite"]["signed"]
    right = signed["signatures"]["identity.test"]["ed25519:1"]
    wrong = {f"ed25519:w{number}": KEY.sign(b"%d" % number) for number in range(30)}
    signed["signatures"] = {"identity.test": {"ed25519:1": right, **wrong}}
    assert may_set(branch, BOB, DAVE, "invite", **content)
    signed["signatures"] = {"identity.test": {**wrong, "ed25519:1": right}}  # the last of 527 pairs
    assert not may_set(branch, BOB, DAVE, "invite", **content)


# 5.5: leave


@every_version
@pytest.mark.parametrize(
    ("current", "versions"),
    [("join", ALL), ("invite", ALL), ("knock", since(7)), ("leave", ()), ("ban", ()), (None, ())],
)
def test_leave(version: str, current: str | None, versions: tuple[str, ...]) -> None:
    branch = furnished(version)
    if current:
        branch.add(branch.make(ALICE, MEMBER, {"membership": current}, state_key=BOB))
    assert may_set(branch, BOB, BOB, "leave") == (version in versions)


@every_version
def test_kick(version: str) -> None:
    branch = staffed(version, [BOB, CAROL, DAVE], kick=45)
    assert may_set(branch, BOB, DAVE, "leave")
    assert may_set(branch, BOB, CAROL, "leave")
    assert may_set(branch, ALICE, BOB, "leave")
    assert may_set(branch, BOB, EVE, "leave")  # also who is not in the room
    assert not may_set(branch, BOB, ALICE, "leave")
    assert not may_set(branch, CAROL, DAVE, "leave")  # below the kick level
    assert not may_set(branch, EVE, DAVE, "leave")
    branch.power(ALICE, ({} if version == "12" else {ALICE: 100}) | {BOB: 50, CAROL: 50})
    assert not may_set(branch, BOB, CAROL, "leave")  # not below one's own


@every_version
def test_unban(version: str) -> None:
    branch = staffed(version, [BOB, CAROL], kick=40, ban=50)
    branch.member(ALICE, DAVE, "ban")
    assert may_set(branch, BOB, DAVE, "leave")
    assert not may_set(branch, CAROL, DAVE, "leave")  # may kick, but not lift bans
    branch.power(ALICE, ({} if version == "12" else {ALICE: 100}) | {BOB: 50, CAROL: 40}, kick=60, ban=50)
    assert not may_set(branch, BOB, DAVE, "leave")  # may ban, but not kick


# 5.6: ban


@every_version
def test_ban(version: str) -> None:
    branch = staffed(version, [BOB, CAROL, DAVE], ban=45)
    assert may_set(branch, BOB, DAVE, "ban")
    assert may_set(branch, BOB, EVE, "ban")
    assert may_set(branch, ALICE, BOB, "ban")
    assert not may_set(branch, BOB, ALICE, "ban")
    assert not may_set(branch, BOB, BOB, "ban")
    assert not may_set(branch, CAROL, DAVE, "ban")
    assert not may_set(branch, EVE, DAVE, "ban")


# 5.7: knock

KNOCKS = {"knock": since(7), "knock_restricted": since(10), "public": (), "invite": (), "restricted": ()}


@every_version
@pytest.mark.parametrize("rule", KNOCKS)
@pytest.mark.parametrize("current", ["leave", "invite", "join", "knock", "ban"])
def test_knock(version: str, rule: str, current: str) -> None:
    branch = furnished(version, rule=rule)
    branch.add(branch.make(ALICE, MEMBER, {"membership": current}, state_key=BOB))
    assert may_set(branch, BOB, BOB, "knock") == (version in KNOCKS[rule] and current in ("leave", "knock"))
    assert not may_set(branch, CAROL, BOB, "knock")


# --- Rules 6 to 9


@every_version
@pytest.mark.parametrize("current", ["leave", "invite", "ban", None])
def test_only_members_send_events(version: str, current: str | None) -> None:
    branch = furnished(version)
    if current:
        branch.add(branch.make(ALICE, MEMBER, {"membership": current}, state_key=BOB))
    assert not may(branch, BOB, "m.room.message", state_key=None)
    assert may(branch, ALICE, "m.room.message", state_key=None)


@every_version
def test_sending_third_party_invites(version: str) -> None:
    branch = staffed(version, [BOB, CAROL], invite=50, state_default=90)
    assert may(branch, BOB, "m.room.third_party_invite", {}, state_key="tok")
    assert not may(branch, CAROL, "m.room.third_party_invite", {}, state_key="tok")
    assert not may(branch, EVE, "m.room.third_party_invite", {}, state_key="tok")


@every_version
def test_required_level(version: str) -> None:
    branch = staffed(version, [BOB, CAROL, DAVE], events={"m.room.name": 30, "m.room.message": 41})
    assert may(branch, BOB, "m.room.topic")
    assert not may(branch, CAROL, "m.room.topic")
    assert may(branch, CAROL, "m.room.name")
    assert may(branch, DAVE, "test.message", state_key=None)
    assert not may(branch, CAROL, "m.room.message", state_key=None)
    assert may(branch, BOB, "m.room.message", state_key=None)


@every_version
def test_levels_without_power_levels_event(version: str) -> None:
    branch = Room(version).create()
    branch.join(ALICE)
    branch.join_rule(ALICE, "public")
    branch.join(BOB)
    assert may(branch, ALICE, "m.room.topic")
    assert not may(branch, BOB, "m.room.topic")
    assert may(branch, BOB, "m.room.message", state_key=None)
    assert may(branch, ALICE, "m.room.power_levels", {"users": {BOB: 10}})


@every_version
def test_power_levels_under_a_state_key_change_nothing(version: str) -> None:
    branch = staffed(version, [BOB, CAROL], events={"m.room.power_levels": 0})
    levels = {"users": {BOB: 70, CAROL: 1000}}
    assert not may(branch, BOB, "m.room.power_levels", levels)
    assert may(branch, BOB, "m.room.power_levels", levels, state_key="other")
    assert not may(branch, BOB, "m.room.power_levels", {"users": {BOB: "x"}}, state_key="other")


@every_version
def test_state_keys_that_are_user_ids(version: str) -> None:
    branch = furnished(version, [BOB])
    for state_key, allowed in ((ALICE, True), (BOB, False), ("@", False), ("bob", True), ("_" + BOB, True), ("", True)):
        assert may(branch, ALICE, "test.own", state_key=state_key) == allowed


# --- Rule 11 of versions 1 and 2: m.room.redaction


@every_version
def test_redaction(version: str) -> None:
    branch = staffed(version, [BOB, CAROL], redact=45)
    judged = version in ("1", "2")

    def redacts(sender: str, target: str | None) -> bool:
        return may(branch, sender, "m.room.redaction", {}, state_key=None, redacts=target)

    assert redacts(BOB, "$event:elsewhere.test")
    assert redacts(CAROL, "$event:a.test")  # the event IDs of these rooms are of a.test
    assert redacts(CAROL, "$event:elsewhere.test") != judged
    assert redacts(CAROL, None) != judged
    assert redacts(CAROL, "") != judged
    assert redacts(CAROL, "$event") != judged
    assert not redacts(DAVE, "$event:a.test")


# --- Version 12: creators


def test_creators_of_version_12_have_infinite_power() -> None:
    branch = Room("12").create(additional_creators=[BOB])
    branch.join(ALICE)
    branch.join_rule(ALICE, "public")
    branch.join(BOB)
    branch.join(CAROL)
    most = 2**53 - 1
    branch.power(BOB, {CAROL: most}, events={"m.room.tombstone": most}, ban=most)
    assert may(branch, ALICE, "m.room.tombstone")
    assert may(branch, BOB, "m.room.tombstone")
    assert may_set(branch, BOB, CAROL, "ban")
    assert not may_set(branch, CAROL, BOB, "ban")
    assert not may_set(branch, CAROL, ALICE, "leave")
    assert not may_set(branch, ALICE, BOB, "leave")  # not below one's own


@every_version
def test_additional_creators_mean_nothing_before_version_12(version: str) -> None:
    branch = furnished(version, [BOB], additional_creators=[BOB])
    assert may(branch, BOB, "m.room.topic") == (version == "12")


# --- Hostile content


def test_refusals_are_sentences_for_a_forbidden_request() -> None:
    branch = furnished("11")
    with pytest.raises(AuthError) as refused:
        branch.member(BOB, ALICE, "ban")
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    assert refused.value.message == f"{BOB} is not in this room."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5) | st.just(BOB),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just(BOB), values, max_size=3)
    ),
    max_leaves=6,
)
NAMES = (
    "membership",
    "third_party_invite",
    "join_authorised_via_users_server",
    "join_rule",
    "users",
    "events",
    "notifications",
    "ban",
    "users_default",
    "creator",
    "additional_creators",
    "room_version",
    "m.federate",
    "public_key",
    "public_keys",
)
SIGNED = st.fixed_dictionaries(
    {}, optional={"mxid": st.just(DAVE) | JSON, "token": st.just("tok") | JSON, "signatures": JSON}
)
CONTENT = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(NAMES, JSON)
    | {
        "membership": st.sampled_from(("join", "invite", "leave", "ban", "knock")) | JSON,
        "third_party_invite": st.fixed_dictionaries({"signed": SIGNED}) | JSON,
        "users": st.dictionaries(st.just(BOB) | st.text(max_size=3), JSON, max_size=3) | JSON,
    },
)
TYPES = (
    "m.room.create",
    MEMBER,
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.third_party_invite",
    "m.room.aliases",
    "m.room.redaction",
    "m.room.topic",
)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(ALL),
    st.sampled_from(TYPES),
    CONTENT,
    st.sampled_from((None, "", BOB, DAVE, "tok", "\ud800")),
    st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from(("", ALICE, BOB, "tok")), CONTENT), max_size=4),
    st.sampled_from((None, "", "$x:a.test", "\ud800")),
)
def test_no_content_upsets_the_rules(
    version: str,
    event_type: str,
    content: dict[str, Any],
    state_key: str | None,
    state: list[tuple[str, str, dict[str, Any]]],
    redacts: str | None,
) -> None:
    branch = furnished(version, [BOB])
    for state_type, key, state_content in state:
        branch.add(branch.make(ALICE, state_type, state_content, state_key=key))
    event = branch.make(BOB, event_type, content, state_key=state_key, redacts=redacts)
    assert is_allowed(event, branch) in (True, False)
    assert all(isinstance(key, tuple) for key in auth_keys_for(event.version, event_type, BOB, state_key, content))
