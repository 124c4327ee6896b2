"""Three servers between which everything fails: in the end all have the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from .storm import DEEDS, storm


async def test_three_servers_come_to_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = await storm(tmp_path, count=3, version="12", deeds=DEEDS, seed=3)
    with capsys.disabled():
        print("\n" + figures)
