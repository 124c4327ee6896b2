"""Room for the bodies of requests, shared by all who send them."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyserver.api import body_budget
from tinyserver.api.body_budget import FREE, OF_ONE, TOTAL, BodyBudget
from tinyserver.protocol.errors import LimitExceeded
from tinyserver.protocol.json_size import has_more_values


async def test_who_finds_no_room_waits_for_it() -> None:
    budget = BodyBudget()
    order: list[str] = []

    async def third() -> None:
        async with budget.room("c", OF_ONE):
            order.append("third")

    async with budget.room("a", OF_ONE):
        async with budget.room("b", TOTAL - OF_ONE):
            waiting = asyncio.ensure_future(third())
            async with budget.room("d", FREE):  # small ones always go on
                order.append("small")
        await waiting
    assert order == ["small", "third"]


async def test_nobody_waits_for_ever_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_budget, "PATIENCE", 0.05)
    budget = BodyBudget()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(budget.room("a", OF_ONE))
        with pytest.raises(LimitExceeded):  # one address has no more than its share
            await stack.enter_async_context(budget.room("a", FREE + 1))
        await stack.enter_async_context(budget.room("b", OF_ONE))
        refused = [asyncio.ensure_future(budget.room(str(n), OF_ONE).__aenter__()) for n in range(5)]
        refused[0].cancel()
        outcomes = await asyncio.gather(*refused, return_exceptions=True)
        assert all(isinstance(each, LimitExceeded | asyncio.CancelledError) for each in outcomes)
    async with budget.room("a", OF_ONE), budget.room("b", TOTAL - OF_ONE):
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def count(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(count(each) for each in value.values())
    return 1 + sum(count(each) for each in value) if isinstance(value, list) else 1


@given(value=json_values)
def test_many_values_are_seen(value: object) -> None:
    raw = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert has_more_values(raw, count(value) // 2 - 1)
    assert not has_more_values(raw, 2 * count(value))
    assert not has_more_values(json.dumps('[{,\\"' * 1000).encode(), 1)
