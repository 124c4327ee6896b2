"""Search: how long it takes over many messages, what the index costs on disk, and what filling it costs.

python -m benchmarks.search [MESSAGES]
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.requester import Requester
from tinyserver.bell import Bell
from tinyserver.clock import Clock
from tinyserver.protocol.room_versions import ROOM_VERSIONS
from tinyserver.protocol.signing import SigningKey
from tinyserver.push.notifications import NotificationMarks
from tinyserver.push.rules import PushRules
from tinyserver.rooms.alone import Alone
from tinyserver.rooms.append import Appender
from tinyserver.rooms.drafts import EventDraft, EventSigner
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.policy import NoPolicyServers, PolicyCheck
from tinyserver.search.indexing import SearchIndexing
from tinyserver.search.messages import ContextRequest, MessageSearch, SearchRequest
from tinyserver.storage import accounts
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

SERVER = "example.org"
ALICE = f"@alice:{SERVER}"
ROOMS = 20
VOCABULARY = 20_000
BATCH = 200
RUNS = 30


class World:
    """A database with rooms full of messages."""

    def __init__(self, directory: Path) -> None:
        key = SigningKey("1", b"k" * 32)
        self.db = Database(directory / "benchmark.db")
        self.bell = Bell(self.db.position, "run")
        self.db.on_commit = self.bell.ring
        alone = Alone(SERVER, key)
        clock = Clock()
        self.pipeline = EventPipeline(
            self.db,
            EventSigner(SERVER, key),
            Appender(SERVER, NotificationMarks(PushRules(self.db))),
            clock,
            alone,
            alone,
            PolicyCheck(SERVER, NoPolicyServers()),
        )
        self.indexing = SearchIndexing(self.db, self.bell)
        self.search = MessageSearch(self.db, self.indexing, clock, IgnoredUsers())
        self.rooms: list[int] = []
        self.text_bytes = 0

    async def make_rooms(self) -> Requester:
        def step(tx: WriteTransaction) -> int:
            user = accounts.add(tx, ALICE, None, 0)
            for _ in range(ROOMS):
                create = EventDraft("m.room.create", ALICE, {"room_version": "12"}, state_key="")
                room = self.pipeline.create_room(tx, ROOM_VERSIONS["12"], create, None).nid
                join = EventDraft("m.room.member", ALICE, {"membership": "join"}, state_key=ALICE)
                self.pipeline.send(tx, room, join)
                self.rooms.append(room)
            return user

        user = await self.db.write(step)
        return Requester(ALICE, user, None, None)

    async def fill(self, messages: int) -> None:
        """Words as frequent as in real languages (Zipf), 1 to 60 in a message, 8 in the middle."""
        source = random.Random(1)
        letters = "etaoinshrdlucmfwyp"
        vocabulary = [
            "".join(source.choice(letters) for _ in range(max(2, min(12, int(source.gauss(5.5 + n / 8000, 2))))))
            for n in range(VOCABULARY)
        ]
        weights = [1 / (n + 3) for n in range(VOCABULARY)]
        for start in range(0, messages, BATCH):
            counts = [
                max(1, min(60, int(source.lognormvariate(2.1, 0.8)))) for _ in range(min(BATCH, messages - start))
            ]
            bodies = [" ".join(source.choices(vocabulary, weights, k=count)) for count in counts]
            if start == 0:
                self.frequent, self.middling, self.rare = vocabulary[0], vocabulary[100], vocabulary[9_000]
            self.text_bytes += sum(len(body.encode()) for body in bodies)

            def step(tx: WriteTransaction, bodies: list[str] = bodies) -> None:
                for body in bodies:
                    room = source.choice(self.rooms)
                    self.pipeline.send(
                        tx, room, EventDraft("m.room.message", ALICE, {"msgtype": "m.text", "body": body})
                    )

            await self.db.write(step)

    def index_bytes(self) -> int:
        def step(tx: ReadTransaction) -> int:
            return int(
                tx.value("SELECT sum(length(block)) FROM search_index_data")
                + tx.value("SELECT sum(length(term) + 4) FROM search_index_idx")
            )

        return self.db.glance(step)


async def measure(world: World, requester: Requester, name: str, request: SearchRequest) -> None:
    times = []
    page = None
    for _ in range(RUNS):
        started = time.perf_counter()
        page = await world.search.search(requester, request)
        times.append((time.perf_counter() - started) * 1000)
    assert page is not None
    times.sort()
    print(f"  {name:44} {statistics.median(times):7.1f} {times[int(RUNS * 0.95)]:7.1f}   {page.count:5} in the pool")


async def main(messages: int) -> None:
    with TemporaryDirectory() as directory:
        world = World(Path(directory))
        world.db.start()
        try:
            requester = await world.make_rooms()
            await world.fill(messages)
            started = time.process_time()
            await world.indexing.catch_up()
            seconds = time.process_time() - started
            size = world.index_bytes()
            print(f"{messages} messages in {ROOMS} rooms, {world.text_bytes} bytes of text")
            print(f"  index: {size} bytes, {100 * size / world.text_bytes:.1f} % of the text")
            print(f"  filling it: {1e6 * seconds / messages:.0f} us of CPU per message")
            print(f"  {'search, ms':44} {'p50':>7} {'p95':>7}")
            context = ContextRequest(with_profiles=True)
            both = f"{world.frequent} {world.middling}"
            for name, request in (
                ("one rare word, ranked", SearchRequest(world.rare)),
                ("one frequent word, ranked", SearchRequest(world.frequent)),
                ("one frequent word, the newest first", SearchRequest(world.frequent, recent_first=True)),
                ("two words, ranked", SearchRequest(both)),
                ("two words, ranked, with context", SearchRequest(both, context=context)),
            ):
                await measure(world, requester, name, request)
        finally:
            await world.db.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
