"""A data directory that cannot be written: the start says so; a card that turns read-only is told to clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from .client import Client, bodies
from .conftest import MakeServer, NewUser
from .harness import TinyServer
from .mounts import Card, read_only


async def a_message(server: TinyServer, new_user: NewUser) -> tuple[Client, str]:
    """A user with a message in a room."""
    client = await new_user(server=server)
    room = await client.create_room()
    await client.send(room, "before")
    return client, room


@pytest.mark.parametrize("what", [".", "tinyserver.db"])
async def test_start_where_nothing_can_be_written(make_server: MakeServer, new_user: NewUser, what: str) -> None:
    server = make_server()
    client, room = await a_message(server, new_user)
    server.stop()
    with read_only(server.data_dir / what):
        mark = server.launch()
        assert server.wait_exit() == 1
    told = server.log.text(mark)
    assert str(server.data_dir) in told
    assert "annot be" in told
    assert "ead-only" in told or "readonly" in told
    assert "Traceback" not in told
    server.start()
    assert bodies((await client.messages(room))["chunk"]) == ["before"]


async def test_a_card_that_turns_read_only(make_server: MakeServer, new_user: NewUser, tmp_path: Path) -> None:
    server = make_server(start=False)
    card = Card(tmp_path / "card.img", server.data_dir)
    try:
        card.mount()
        await _turn_read_only(server, new_user, card)
    finally:
        server.kill()
        card.discard()


async def _turn_read_only(server: TinyServer, new_user: NewUser, card: Card) -> None:
    server.start()
    server.log.tolerate(r"cannot be written: the data directory cannot be written \(Read-only file system\)")
    alice, room = await a_message(server, new_user)
    since = (await alice.sync())["next_batch"]
    card.fail()
    for _ in range(3):
        answer = await alice.send(room, "refused", txn="t", expect=503, errcode="M_UNKNOWN")
        assert "cannot be written" in answer["error"]
    await alice.request("PUT", f"/user/{alice.user_id}/account_data/org.example.x", {}, expect=503, errcode="M_UNKNOWN")
    assert bodies((await alice.messages(room))["chunk"]) == ["before"]
    assert (await alice.sync(since))["next_batch"]
    log = server.log.text()
    assert log.count("ERROR") == 1, "said once, not for every request"
    assert "Traceback" not in log
    # Such a file system comes back only after a repair, for which nobody may use it.
    server.stop()
    card.unmount()
    card.repair()
    card.mount()
    server.start()
    await alice.send(room, "after", txn="t")
    assert bodies((await alice.messages(room, dir="f"))["chunk"]) == ["before", "after"]
