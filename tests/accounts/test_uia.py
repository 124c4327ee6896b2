"""Sessions of interactive authentication are bounded in number and time, and go through their flows in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tinyserver.accounts.uia import (
    SESSION_SECONDS,
    DummyStage,
    StageFailed,
    UserInteractionRequired,
    UserInteractiveAuth,
)
from tinyserver.protocol.errors import Forbidden, InvalidParam

from .world import Time


class WordStage:
    """Asks for a word and keeps it."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.asked = 0

    async def check(self, auth: Mapping[str, Any]) -> str:
        self.asked += 1
        if auth.get("word") != self.word:
            raise StageFailed(Forbidden("Another word."))
        return self.word


FLOWS = [("one", "two"), ("one", "dummy")]


class Asking:
    """One operation that wants stages."""

    def __init__(self, capacity: int = 100) -> None:
        self.time = Time()
        self.uia = UserInteractiveAuth(self.time.monotonic, capacity=capacity)
        self.stages = {"one": WordStage("eins"), "two": WordStage("zwei"), "dummy": DummyStage()}

    async def ask(self, auth: Any = None, operation: str = "op", parameters: Any = None) -> dict[str, Any]:
        return await self.uia.authorise(
            auth, operation=operation, parameters=parameters, flows=FLOWS, stages=self.stages
        )

    async def refused(self, auth: Any = None, **options: Any) -> dict[str, Any]:
        with pytest.raises(UserInteractionRequired) as caught:
            await self.ask(auth, **options)
        assert caught.value.status == 401
        body = caught.value.body()
        assert body["flows"] == [{"stages": ["one", "two"]}, {"stages": ["one", "dummy"]}]
        return body


async def test_stages_in_order() -> None:
    asking = Asking()
    session = (await asking.refused())["session"]
    early = await asking.refused({"type": "two", "word": "zwei", "session": session})
    assert early["errcode"] == "M_UNRECOGNIZED"
    assert "completed" not in early
    wrong = await asking.refused({"type": "one", "word": "drei", "session": session})
    assert (wrong["errcode"], wrong["error"]) == ("M_FORBIDDEN", "Another word.")
    half = await asking.refused({"type": "one", "word": "eins", "session": session})
    assert half["completed"] == ["one"]
    assert "errcode" not in half
    # A completed stage is not tried again; an auth without a type asks how far it is.
    assert (await asking.refused({"type": "one", "word": "drei", "session": session}))["completed"] == ["one"]
    assert asking.stages["one"].asked == 2
    assert (await asking.refused({"session": session}))["completed"] == ["one"]
    results = await asking.ask({"type": "two", "word": "zwei", "session": session})
    assert results == {"one": "eins", "two": "zwei"}
    assert len(asking.uia) == 0


async def test_the_other_flow() -> None:
    asking = Asking()
    session = (await asking.refused({"type": "one", "word": "eins"}))["session"]
    assert set(await asking.ask({"type": "dummy", "session": session})) == {"one", "dummy"}


async def test_another_operation_cannot_use_the_session() -> None:
    asking = Asking()
    session = (await asking.refused({"type": "one", "word": "eins"}))["session"]
    other = await asking.refused({"type": "dummy", "session": session}, operation="other")
    assert other["session"] != session
    assert other["errcode"] == "M_UNAUTHORIZED"


async def test_other_parameters_cannot_use_the_session() -> None:
    asking = Asking()
    session = (await asking.refused({"type": "one", "word": "eins"}, parameters=["A"]))["session"]
    with pytest.raises(InvalidParam):
        await asking.ask({"type": "dummy", "session": session}, parameters=["B"])
    await asking.ask({"type": "dummy", "session": session}, parameters=["A"])


async def test_sessions_end_after_a_while() -> None:
    asking = Asking()
    session = (await asking.refused({"type": "one", "word": "eins"}))["session"]
    asking.time.pass_(SESSION_SECONDS + 1)
    renewed = await asking.refused({"type": "dummy", "session": session})
    assert renewed["session"] != session
    assert "completed" not in renewed
    assert len(asking.uia) == 1


async def test_sessions_are_bounded() -> None:
    asking = Asking(capacity=5)
    for _ in range(20):
        last = (await asking.refused({"type": "one", "word": "eins"}))["session"]
    assert len(asking.uia) <= 5
    await asking.ask({"type": "dummy", "session": last})
