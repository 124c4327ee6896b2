"""The receipts in memory: what they answer is what is stored, or that they do not know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyserver.rooms import receipts as receipts_module
from tinyserver.rooms.receipts import RecentReceipts
from tinyserver.storage.receipts import Receipt, ReceiptKind

START = 5


def receipt(room: int, user: int, position: int, thread: str | None = None) -> Receipt:
    return Receipt(room, user, f"@{user}:here", ReceiptKind.READ, thread, f"${position}", 7, position)


@given(
    moves=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=40),
    since=st.integers(0, 50),
    span=st.integers(0, 50),
)
def test_what_is_remembered_is_right(moves: list[tuple[int, int]], since: int, span: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receipts_module, "MAX_REMEMBERED", 6)
        patch.setattr(receipts_module, "MAX_REMEMBERED_OF_ROOM", 3)
        recent = RecentReceipts(START)
        stored: dict[tuple[int, int], Receipt] = {}
        for number, (room, user) in enumerate(moves):
            stored[(room, user)] = moved = receipt(room, user, START + 1 + number)
            recent.add(moved)
        newest = START + len(moves)
        remembered = 0
        for room in range(1, 5):
            known = recent.moved(room, since, since + span)
            if known is None:
                assert since < newest
                continue
            remembered += len(known)
            positions = [each.position for each in known]
            assert positions == sorted(positions, reverse=True)
            assert sorted(positions) == sorted(
                each.position
                for (in_room, _), each in stored.items()
                if in_room == room and since < each.position <= since + span
            )
        assert remembered <= 6 + 3
        assert all(recent.moved(room, newest, newest + 1) == [] for room in range(1, 5))
