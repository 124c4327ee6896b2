"""Who types, and what was read, between tinyserver and Synapse."""

from __future__ import annotations

from .conftest import NewUser, Pair
from .eventually import ephemeral
from .test_rooms import joined_room


async def test_who_types(pair: Pair, new_user: NewUser) -> None:
    room, alice, bob = await joined_room(pair, new_user)
    for reader, writer in ((alice, bob), (bob, alice)):
        await writer.typing(room)
        await reader.sync_until(ephemeral(room, "m.typing", writer.user_id))
        await writer.typing(room, False)
        await reader.sync_until(ephemeral(room, "m.typing", '"user_ids": []'))


async def test_what_was_read(pair: Pair, new_user: NewUser) -> None:
    room, alice, bob = await joined_room(pair, new_user)
    for reader, writer in ((alice, bob), (bob, alice)):
        root = await writer.send(room, "root")
        thread = {"rel_type": "m.thread", "event_id": root}
        reply = await writer.send(room, {"msgtype": "m.text", "body": "in the thread", "m.relates_to": thread})
        await reader.sync_event(room, reply)
        for event_id, thread_id in ((root, "main"), (reply, root)):
            await reader.receipt(room, event_id, thread_id=thread_id)
            content = await writer.sync_until(ephemeral(room, "m.receipt", f'"thread_id": "{thread_id}"'))
            assert content["content"][event_id]["m.read"][reader.user_id]["thread_id"] == thread_id
        last = await writer.send(room, "last")
        await reader.sync_event(room, last)
        await reader.receipt(room, last)
        content = await writer.sync_until(ephemeral(room, "m.receipt", last))
        assert "thread_id" not in content["content"][last]["m.read"][reader.user_id]
