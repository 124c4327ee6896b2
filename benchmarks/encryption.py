"""What end-to-end encryption costs the server: key queries, claims, to-device messages, device lists, key backups.

python -m benchmarks.encryption
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tinyserver.accounts.requester import Requester
from tinyserver.api.answers import encode_answer
from tinyserver.bell import Bell
from tinyserver.encryption.device_keys import DeviceKeys
from tinyserver.encryption.device_news import DeviceNewsReader
from tinyserver.encryption.key_backup import KeyBackup
from tinyserver.encryption.remote import NobodyElse
from tinyserver.encryption.to_device import ToDevice
from tinyserver.rooms.tokens import Point
from tinyserver.storage import accounts, cross_signing, device_keys, devices, one_time_keys
from tinyserver.storage.cross_signing import Usage
from tinyserver.storage.database import Database
from tinyserver.storage.devices import Seen
from tinyserver.storage.one_time_keys import PublicKey
from tinyserver.storage.transaction import WriteTransaction

SERVER = "example.org"
USERS = 500
DEVICES = 3
ONE_TIME_KEYS = 20
MESSAGES = 20_000
CONTENT = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": {"c" * 43: {"body": "b" * 600, "type": 0}}}
SESSIONS = 20_000


class World:
    """A database with users, devices and keys."""

    def __init__(self, directory: Path) -> None:
        self.db = Database(directory / "benchmark.db")
        self.bell = Bell(self.db.position, "run")
        self.db.on_commit = self.bell.ring
        self.keys = DeviceKeys(self.db, NobodyElse(), SERVER)
        self.to_device = ToDevice(self.db, NobodyElse(), SERVER)
        self.news = DeviceNewsReader(self.db, self.bell)
        self.backup = KeyBackup(self.db)
        self.requesters: list[Requester] = []

    async def fill(self) -> None:
        def step(tx: WriteTransaction) -> None:
            for number in range(USERS):
                user_id = user(number)
                nid = accounts.add(tx, user_id, None, 0)
                for usage in Usage:
                    cross_signing.put(tx, nid, usage, _cross_signing_key(user_id))
                for which in range(DEVICES):
                    device_id = f"DEVICE{which}"
                    device = devices.add(tx, nid, device_id, "Element X on a phone", Seen(0, "", ""))
                    device_keys.put(tx, device, _device_keys(user_id, device_id))
                    one_time_keys.add(
                        tx,
                        device,
                        [PublicKey("signed_curve25519", f"K{n}", _one_time_key()) for n in range(ONE_TIME_KEYS)],
                    )
                    if which == 0:
                        self.requesters.append(Requester(user_id, nid, device_id, device))

        await self.db.write(step)


def user(number: int) -> str:
    return f"@user{number}:{SERVER}"


def _signatures(user_id: str) -> dict[str, dict[str, str]]:
    return {user_id: {"ed25519:DEVICE": "s" * 86, "ed25519:" + "k" * 43: "s" * 86}}


def _device_keys(user_id: str, device_id: str) -> bytes:
    value = {
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "device_id": device_id,
        "keys": {f"curve25519:{device_id}": "c" * 43, f"ed25519:{device_id}": "e" * 43},
        "signatures": _signatures(user_id),
        "user_id": user_id,
    }
    return json.dumps(value, separators=(",", ":")).encode()


def _cross_signing_key(user_id: str) -> bytes:
    keys = {"ed25519:" + "k" * 43: "k" * 43}
    value = {"keys": keys, "signatures": _signatures(user_id), "usage": ["master"], "user_id": user_id}
    return json.dumps(value, separators=(",", ":")).encode()


def _one_time_key() -> bytes:
    return json.dumps({"key": "k" * 43, "signatures": {"@u:example.org": {"ed25519:D": "s" * 86}}}).encode()


async def milliseconds(step: Callable[[], Awaitable[object]], rounds: int = 10) -> float:
    """The median time of a step."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        await step()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


async def measure_keys(world: World) -> None:
    everybody = {user(number): list[str]() for number in range(USERS)}

    async def query() -> bytes:
        found = await world.keys.query(world.requesters[0], everybody, 10.0)
        return encode_answer({"device_keys": found.device_keys, "master_keys": found.master_keys,
                              "self_signing_keys": found.self_signing_keys})  # fmt: skip

    size = len(await query())
    print(
        f"query of {USERS} users x {DEVICES} devices: {await milliseconds(query):.1f} ms, {size / 1e6:.1f} MB of JSON"
    )
    wanted = {user(n): {f"DEVICE{d}": "signed_curve25519" for d in range(DEVICES)} for n in range(USERS)}
    print(f"claim of a key of each of {USERS * DEVICES} devices: "
          f"{await milliseconds(lambda: world.keys.claim(wanted, 10.0), 5):.1f} ms")  # fmt: skip
    start = time.perf_counter()
    one = {user(1): {"DEVICE1": "signed_curve25519"}}
    answers = await asyncio.gather(*(world.keys.claim(one, 10.0) for _ in range(100)))
    given = [name for keys, _ in answers for name in keys.get(user(1), {}).get("DEVICE1", {})]
    assert len(given) == len(set(given))
    print(
        f"100 claims of one device at once: {(time.perf_counter() - start) * 1000:.1f} ms, {len(given)} keys given out"
    )


async def measure_to_device(world: World) -> None:
    content = msgspec.Raw(json.dumps(CONTENT).encode())
    rates = []
    for per_request in (20, 100):
        receivers = [
            {
                user(n): {f"DEVICE{d}": content for d in range(DEVICES)}
                for n in range(first, first + per_request // DEVICES + 1)
            }
            for first in range(0, 300, 15)
        ]
        sizes = [sum(map(len, receiver.values())) for receiver in receivers]
        sent = 0
        start = time.perf_counter()
        number = 0
        while sent < MESSAGES:
            group = range(number, number + 20)
            await asyncio.gather(
                *(
                    world.to_device.send(
                        world.requesters[n % USERS],
                        "m.room.encrypted",
                        f"{per_request}-{n}",
                        _distinct(receivers[n % 20], n),
                    )
                    for n in group
                )
            )
            sent += sum(sizes[n % 20] for n in group)
            number += 20
        rates.append(f"{sent / (time.perf_counter() - start):,.0f}/s by {per_request}")
    print(f"to-device messages of {len(content)} bytes, 20 senders at once, durable: {', '.join(rates)}")
    receiver = world.requesters[0]
    assert receiver.device_nid is not None
    device = receiver.device_nid
    point: Point | None = Point(0)
    got, start = 0, time.perf_counter()
    while point is not None:
        since, until = point, world.bell.position
        await world.news.acknowledge(receiver.user_nid, device, since)
        news = world.db.glance(lambda tx: world.news.news(tx, receiver.user_nid, device, since, until, (), ()))  # noqa: B023
        got += len(news.to_device)
        point = None if news.messages_until is None else Point(until, 0, "run", news.messages_until)
    print(f"{got} of them delivered and acknowledged: {got / (time.perf_counter() - start):,.0f}/s")


def _distinct(receivers: dict[str, dict[str, msgspec.Raw]], number: int) -> dict[str, dict[str, msgspec.Raw]]:
    """The same messages with contents of their own, as Olm makes them."""
    return {
        user_id: {
            device: msgspec.Raw(bytes(content)[:-1] + b',"n":"%d-%b-%b"}' % (number, user_id.encode(), device.encode()))
            for device, content in of_user.items()
        }
        for user_id, of_user in receivers.items()
    }


async def measure_idle_news(world: World) -> None:
    requester = world.requesters[2]
    since = Point(world.bell.position)
    count = 20_000
    start = time.perf_counter()
    for _ in range(count):
        await world.news.acknowledge(requester.user_nid, requester.device_nid, since)
        world.db.glance(
            lambda tx: world.news.news(
                tx, requester.user_nid, requester.device_nid, since, world.bell.position, range(50), ()
            )
        )
    print(f"what a sync without news for its device costs: {(time.perf_counter() - start) / count * 1e6:.1f} us")


async def _upload(text: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(text), 65536):
        yield text[start : start + 65536]


def _peak_mb(*, reset: bool = False) -> float:
    """The most memory since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


async def measure_backup(world: World) -> None:
    requester = world.requesters[0]
    version = await world.backup.create(requester, "m.megolm_backup.v1.curve25519-aes-sha2", {"public_key": "x"})
    data = {"ephemeral": "e" * 43, "ciphertext": "c" * 600, "mac": "m" * 11}
    session = {"first_message_index": 0, "forwarded_count": 0, "is_verified": True, "session_data": data}
    body: Sequence[tuple[str, dict[str, object]]] = [(f"session{number:036}", session) for number in range(SESSIONS)]
    text = json.dumps({"rooms": {"!room:example.org": {"sessions": dict(body)}}}).encode()
    gc.collect()
    before = _peak_mb(reset=True)
    start = time.perf_counter()
    kept = await world.backup.put_stream(requester, version, None, _upload(text))
    seconds = time.perf_counter() - start
    more = _peak_mb() - before
    print(f"backup of {kept.count} sessions ({len(text) / 1e6:.1f} MB): {seconds:.2f} s, {more:.1f} MB more memory")
    start = time.perf_counter()
    count = 0
    async for batch in world.backup.sessions(requester, version, None):
        count += len(batch)
    print(f"reading {count} back: {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    await world.backup.delete(requester, version)
    print(f"deleting the backup: {time.perf_counter() - start:.2f} s")


async def main() -> None:
    with TemporaryDirectory() as directory:
        world = World(Path(directory))
        world.db.start()
        try:
            await world.fill()
            await measure_keys(world)
            await measure_to_device(world)
            await measure_idle_news(world)
            await measure_backup(world)
        finally:
            await world.db.close()


if __name__ == "__main__":
    asyncio.run(main())
