"""History visibility, as a table of the specification's five rules and its two transitions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.room_events import BOB, HOSTILE_JSON, make_event
from tinyserver.protocol.history_visibility import is_event_visible, is_visible, membership_in, visibility_in

NOT_JOINED = ["invite", "knock", "leave", "ban"]


@pytest.mark.parametrize("membership", ["join", *NOT_JOINED])
@pytest.mark.parametrize("joined_later", [False, True])
def test_world_readable_is_for_everyone(membership: str, joined_later: bool) -> None:
    assert is_visible("world_readable", membership, joined_later=joined_later)


@pytest.mark.parametrize("visibility", ["world_readable", "shared", "invited", "joined"])
def test_members_see_everything(visibility: str) -> None:
    assert is_visible(visibility, "join", joined_later=False)


@pytest.mark.parametrize("membership", NOT_JOINED)
def test_shared_is_for_those_who_join_later(membership: str) -> None:
    assert is_visible("shared", membership, joined_later=True)
    assert not is_visible("shared", membership, joined_later=False)


@pytest.mark.parametrize("joined_later", [False, True])
@pytest.mark.parametrize("membership", NOT_JOINED)
def test_invited_and_joined_look_at_the_membership_then(membership: str, joined_later: bool) -> None:
    assert is_visible("invited", membership, joined_later=joined_later) == (membership == "invite")
    assert not is_visible("joined", membership, joined_later=joined_later)


@pytest.mark.parametrize(
    ("before", "after", "visible"),
    [
        ("world_readable", "joined", True),
        ("joined", "world_readable", True),
        ("joined", "shared", False),
        ("invited", "joined", False),
        ("joined", None, False),
    ],
)
def test_a_visibility_event_is_seen_if_either_value_allows(before: str, after: Any, visible: bool) -> None:
    event = make_event("m.room.history_visibility", {"history_visibility": after}, state_key="")
    assert is_event_visible(event, BOB, visibility=before, membership="leave", joined_later=False) is visible


def test_only_the_state_event_itself_has_a_transition() -> None:
    content = {"history_visibility": "world_readable"}
    with_key = make_event("m.room.history_visibility", content, state_key="x")
    no_state = make_event("m.room.history_visibility", content)
    for event in (with_key, no_state):
        assert not is_event_visible(event, BOB, visibility="joined", membership="leave", joined_later=False)


@pytest.mark.parametrize(
    ("visibility", "before", "after", "visible"),
    [
        ("joined", "leave", "join", True),
        ("joined", "join", "leave", True),
        ("joined", "join", "ban", True),
        ("joined", "leave", "invite", False),
        ("invited", "leave", "invite", True),
        ("invited", "invite", "leave", True),
        ("invited", "leave", "knock", False),
        ("shared", "leave", "ban", False),
    ],
)
def test_own_membership_events(visibility: str, before: str, after: str, visible: bool) -> None:
    own = make_event("m.room.member", {"membership": after}, state_key=BOB)
    assert is_event_visible(own, BOB, visibility=visibility, membership=before, joined_later=False) is visible


def test_other_peoples_membership_events_have_no_transition() -> None:
    event = make_event("m.room.member", {"membership": "join"}, state_key="@carol:example.org")
    assert not is_event_visible(event, BOB, visibility="joined", membership="leave", joined_later=False)


@pytest.mark.parametrize("content", [None, {}, {"history_visibility": "public"}, {"history_visibility": ["joined"]}])
def test_what_is_not_understood_means_shared(content: Any) -> None:
    assert visibility_in(content) == "shared"


@given(HOSTILE_JSON, st.sampled_from(["history_visibility", "membership"]))
def test_junk_is_never_an_error(value: Any, key: str) -> None:
    for content in (value, {key: value}):
        assert visibility_in(content) in ("world_readable", "shared", "invited", "joined")
        assert membership_in(content) in ("join", "invite", "knock", "leave", "ban")
