import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol import vectors
from tests.protocol.strategies import JUNK, VERSIONS, make_pdu, pdus
from tinyserver.protocol import canonical_json
from tinyserver.protocol.errors import BadJson, MatrixError, TooLarge
from tinyserver.protocol.event_hashes import event_id_of
from tinyserver.protocol.events import Event, build_pdu, parse_pdu
from tinyserver.protocol.redaction import redact
from tinyserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion

V1, V5, V6, V10, V11, V12 = (ROOM_VERSIONS[name] for name in ("1", "5", "6", "10", "11", "12"))
ALL = pytest.mark.parametrize("version", list(ROOM_VERSIONS.values()), ids=list(ROOM_VERSIONS))
EVENT_IDS = vectors.load("event_ids")
MISSING = object()
LONG = "é" * 200
"""200 code points, 400 bytes."""


def changed(version: RoomVersion, **changes: Any) -> dict[str, Any]:
    """A valid PDU in which fields are replaced, or removed with ``MISSING``."""
    pdu = {**make_pdu(version), **changes}
    return {key: value for key, value in pdu.items() if value is not MISSING}


@given(pdus())
def test_valid_pdus_are_accepted_whatever_they_contain(case: tuple[RoomVersion, dict[str, Any]]) -> None:
    version, pdu = case
    event = parse_pdu(pdu, version)
    assert event.pdu is pdu
    assert event.event_id == event_id_of(pdu, version)
    for name in ("type", "sender", "content", "depth", "origin_server_ts"):
        assert getattr(event, name) == pdu[name]
    assert event.state_key == pdu.get("state_key")
    assert event.is_state == ("state_key" in pdu)
    assert event.prev_event_ids == ["$prev:example.org"]
    assert event.auth_event_ids == ["$create:example.org", "$member:example.org"]
    trusted = Event.from_trusted(pdu, version, event.event_id)
    assert all(getattr(trusted, name) == getattr(event, name) for name in Event.__slots__)
    redacted = parse_pdu(redact(pdu, version), version)
    assert (redacted.event_id, redacted.room_id) == (event.event_id, event.room_id)


@given(VERSIONS, JUNK)
def test_junk_is_refused(version: RoomVersion, value: Any) -> None:
    with pytest.raises(MatrixError) as error:
        parse_pdu(value, version)
    json.dumps(error.value.body(), ensure_ascii=False).encode()


@given(VERSIONS, st.data())
def test_a_pdu_with_junk_in_one_place_is_accepted_or_refused(version: RoomVersion, data: st.DataObject) -> None:
    pdu = make_pdu(
        version, type=data.draw(st.sampled_from(["m.room.member", "m.room.create", "m.room.redaction", "x"]))
    )
    field = data.draw(st.sampled_from([*pdu, "state_key", "redacts", "unsigned", "room_id", "event_id", "extra"]))
    place = data.draw(st.sampled_from(["field", "inside", "list"]))
    junk = data.draw(JUNK)
    key = data.draw(st.sampled_from(["sha256", "membership", "join_authorised_via_users_server", "x"]))
    pdu[field] = {"field": junk, "inside": {key: junk}, "list": [junk, [junk, {"sha256": junk}]]}[place]
    try:
        event = parse_pdu(pdu, version)
    except MatrixError as error:
        assert error.status in (400, 413)  # noqa: PT017 - most draws raise, some do not
        json.dumps(error.body(), ensure_ascii=False).encode()
        return
    for name in ("prev_event_ids", "auth_event_ids", "redacts", "membership", "depth", "is_state"):
        getattr(event, name)
    repr(event)
    json.dumps(event.pdu, ensure_ascii=False, allow_nan=False).encode()


@ALL
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", MISSING),
        ("type", 1),
        ("sender", MISSING),
        ("sender", "alice"),
        ("sender", "@alice"),
        ("sender", "#alice:example.org"),
        ("content", MISSING),
        ("content", []),
        ("content", None),
        ("depth", MISSING),
        ("depth", "1"),
        ("depth", -1),
        ("depth", 1.0),
        ("depth", True),
        ("depth", 2**63),
        ("origin_server_ts", MISSING),
        ("origin_server_ts", "1"),
        ("origin_server_ts", 1.5),
        ("origin_server_ts", 2**63),
        ("hashes", MISSING),
        ("hashes", {}),
        ("hashes", {"sha256": 1}),
        ("signatures", MISSING),
        ("signatures", {"example.org": "x"}),
        ("signatures", {"example.org": {"ed25519:1": 1}}),
        ("prev_events", MISSING),
        ("prev_events", {}),
        ("prev_events", [1]),
        ("prev_events", ["not an event ID"]),
        ("prev_events", [["$a:b"]]),
        ("prev_events", [["$a:b", {"sha256": 1}]]),
        ("auth_events", MISSING),
        ("auth_events", [None]),
        ("auth_events", ["$" + "a" * 255]),
        ("room_id", MISSING),
        ("room_id", 1),
        ("room_id", "#room:example.org"),
        ("room_id", "!room"),
        ("state_key", None),
        ("state_key", 1),
        ("unsigned", []),
        ("unsigned", None),
        ("content", {"a": float("nan")}),
        ("content", {"a": "\ud800"}),
    ],
)
def test_fields_of_the_wrong_form(version: RoomVersion, field: str, value: Any) -> None:
    with pytest.raises(BadJson):
        parse_pdu(changed(version, **{field: value}), version)


@ALL
def test_there_are_limits_to_the_number_of_parents(version: RoomVersion) -> None:
    for field, limit in (("prev_events", 20), ("auth_events", 10)):
        reference = make_pdu(version)["prev_events"][0]
        parse_pdu(changed(version, **{field: [reference] * limit}), version)
        with pytest.raises(BadJson):
            parse_pdu(changed(version, **{field: [reference] * (limit + 1)}), version)


@ALL
def test_depth_has_a_greatest_value(version: RoomVersion) -> None:
    assert parse_pdu(changed(version, depth=version.max_depth), version).depth == version.max_depth
    with pytest.raises(BadJson):
        parse_pdu(changed(version, depth=version.max_depth + 1), version)


@ALL
def test_numbers_are_restricted_from_version_6_on(version: RoomVersion) -> None:
    for number in (1.5, 2**53, -(2**53), 2**70):
        pdu = changed(version, content={"number": number})
        if version.strict_canonical_json:
            with pytest.raises(BadJson):
                parse_pdu(pdu, version)
        else:
            assert parse_pdu(pdu, version).content == {"number": number}
    parse_pdu(changed(version, content={"number": 2**53 - 1}), version)


@ALL
def test_an_event_has_at_most_65536_bytes(version: RoomVersion) -> None:
    pdu = changed(version, content={"body": ""})
    room = 65536 - len(canonical_json.encode(pdu))
    assert parse_pdu(changed(version, content={"body": "a" * room}), version)
    for body in ("a" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(TooLarge):
            parse_pdu(changed(version, content={"body": body}), version)


@ALL
def test_single_fields_have_at_most_255_bytes(version: RoomVersion) -> None:
    for field in ("type", "state_key"):
        parse_pdu(changed(version, **{field: "a" * 255}), version)
        with pytest.raises(TooLarge):
            parse_pdu(changed(version, **{field: "a" * 256}), version)
        if version.field_limits_in_bytes:
            with pytest.raises(TooLarge):
                parse_pdu(changed(version, **{field: LONG}), version)
        else:
            parse_pdu(changed(version, **{field: LONG}), version)
    for field in ("sender", "room_id"):
        with pytest.raises(BadJson):
            parse_pdu(changed(version, **{field: make_pdu(version)[field][0] + "a" * 255 + ":example.org"}), version)


@ALL
@pytest.mark.parametrize("levels", [101, 300, 5000])
def test_deep_nesting_is_refused(version: RoomVersion, levels: int) -> None:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    with pytest.raises(MatrixError):
        parse_pdu(changed(version, content={"a": value}), version)


@ALL
def test_the_room_id_has_the_form_of_its_version(version: RoomVersion) -> None:
    other = "!room:example.org" if version.room_id_is_create_hash else "!" + "r" * 43
    with pytest.raises(BadJson):
        parse_pdu(changed(version, room_id=other), version)


def test_in_the_first_versions_an_event_names_itself() -> None:
    assert parse_pdu(make_pdu(V1), V1).event_id == "$event:example.org"
    for event_id in (MISSING, 1, "$event", "event:example.org", "$event:", "$" + "a" * 255 + ":b"):
        with pytest.raises(BadJson):
            parse_pdu(changed(V1, event_id=event_id), V1)


def test_the_room_id_of_a_version_12_create_event_is_its_own_id() -> None:
    case = EVENT_IDS["room_version_12_create"]
    event = parse_pdu(case["event"], V12)
    assert (event.event_id, event.room_id) == (case["event_id"], case["room_id"])
    assert event.key == ("m.room.create", "")
    with pytest.raises(BadJson):
        parse_pdu({**case["event"], "room_id": case["room_id"]}, V12)


@pytest.mark.parametrize("value", ["nobody", 1, None, {}])
def test_who_authorised_a_restricted_join_must_be_a_user(value: Any) -> None:
    content = {"membership": "join", "join_authorised_via_users_server": value}
    join = {"type": "m.room.member", "state_key": "@alice:example.org", "content": content}
    with pytest.raises(BadJson):
        parse_pdu(changed(V12, **join), V12)
    assert parse_pdu(changed(V6, **join), V6).membership == "join"


def test_what_a_redaction_redacts() -> None:
    for version in ROOM_VERSIONS.values():
        pdu = make_pdu(version, type="m.room.redaction", redacts="$target")
        event = parse_pdu(pdu, version)
        assert event.redacts == "$target"
        assert ("redacts" in event.content) == version.redacts_in_content
        assert parse_pdu(make_pdu(version, redacts="$target"), version).redacts is None
    assert parse_pdu(make_pdu(V11, type="m.room.redaction", content={"redacts": 1}), V11).redacts is None
    with pytest.raises(BadJson):
        parse_pdu(changed(V10, redacts=1), V10)


def test_membership_and_key() -> None:
    member = parse_pdu(changed(V12, type="m.room.member", state_key="@a:b", content={"membership": "join"}), V12)
    assert (member.membership, member.key) == ("join", ("m.room.member", "@a:b"))
    odd = parse_pdu(changed(V12, type="m.room.member", content={"membership": ["join"]}), V12)
    assert odd.membership is None
    with pytest.raises(ValueError, match="not a state event"):
        odd.key  # noqa: B018 - reading the property is the test


def test_building_cuts_the_depth_and_leaves_the_given_content_alone() -> None:
    content = {"reason": "spam"}
    pdu = build_pdu(
        V11,
        room_id="!room:example.org",
        type="m.room.redaction",
        sender="@alice:example.org",
        state_key=None,
        content=content,
        prev_events=["$a"],
        auth_events=[],
        depth=2**60,
        origin_server_ts=1,
        redacts="$target",
    )
    assert content == {"reason": "spam"}
    assert pdu["content"] == {"reason": "spam", "redacts": "$target"}
    assert pdu["depth"] == 2**53 - 1
    assert "state_key" not in pdu


def test_building_leaves_the_room_id_of_a_version_12_create_event_out() -> None:
    create = {"type": "m.room.create", "state_key": "", "prev_events": [], "auth_events": [], "depth": 1}
    assert "room_id" not in make_pdu(V12, **create)
    assert "room_id" not in make_pdu(V12, **create, room_id=None)
    assert make_pdu(V11, **create)["room_id"] == "!room:example.org"
    with pytest.raises(ValueError, match="room ID"):
        make_pdu(V11, **create, room_id=None)


def test_building_for_the_first_versions_needs_an_id_and_hashes() -> None:
    assert make_pdu(V1)["prev_events"] == [["$prev:example.org", {"sha256": "x" * 43}]]
    with pytest.raises(ValueError, match="event ID"):
        make_pdu(V1, event_id=None)
    with pytest.raises(ValueError, match="reference hash"):
        make_pdu(V1, reference_hashes={})
