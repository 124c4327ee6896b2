"""The devices of users of other servers: kept here as long as their servers tell us of changes, else asked for.

Clients get what is known at once. What is not known is asked for, of each server once for all who want it; nobody
waits long, and who did not wait for the answer is told of it when it comes. Lists of which changes were missed are
fetched again in the background, or when their server shows up.

spec: server-server-api#device-management, server-server-api#end-to-end-encryption
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from tinyserver.encryption.key_objects import shown_keys
from tinyserver.encryption.remote import RemoteKeys
from tinyserver.federation.client import FederationClient
from tinyserver.federation.destinations import Destinations
from tinyserver.federation.told_devices import ToldList, is_claimed_key, list_of_user, lists_of_users
from tinyserver.outgoing.errors import HttpError, OutgoingError
from tinyserver.protocol.errors import MatrixError, Unknown
from tinyserver.protocol.request_auth import path_of
from tinyserver.storage import cross_signing, device_lists, names, remote_devices
from tinyserver.storage.cross_signing import Usage
from tinyserver.storage.database import Database
from tinyserver.storage.device_keys import DeviceKeysRow
from tinyserver.storage.errors import StorageError
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

LONGEST_WAIT = 5.0
"""Seconds that a client's query waits for another server at most."""
FETCH_TIMEOUT = 30.0
"""Seconds that the server itself may take."""
USERS_AT_ONCE = 100
MAX_FETCHES = 200
"""How many questions to other servers are under way at once."""
SERVERS_AT_ONCE = 5
"""Of how many servers stale lists are fetched at the same time."""
STALE_AT_ONCE = 50

_V1 = ("_matrix", "federation", "v1", "user")


class RemoteDeviceLists:
    """The `RemoteDevices` of encryption. Lives on the event loop.

    Args:
        db: where lists are kept.
        client: asks.
        destinations: tells which server has come back.
    """

    def __init__(self, db: Database, client: FederationClient, destinations: Destinations) -> None:
        self._db = db
        self._client = client
        self._asking: dict[str, asyncio.Task[dict[str, ToldList]]] = {}
        """What is being asked, by user ID."""
        self._unanswered: set[str] = set()
        """Users whose devices somebody wanted and did not get in time."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._resyncing: dict[str, bool] = {}
        """The servers whose stale lists are being fetched, with whether more have become stale meanwhile."""
        self._turns = asyncio.Semaphore(SERVERS_AT_ONCE)
        destinations.on_return.append(self.resync)

    def start(self) -> None:
        """Fetch what was stale when this server stopped."""
        stale = self._db.glance(lambda tx: names.texts(tx, remote_devices.stale_servers(tx)))
        for server in stale.values():
            self.resync(server)

    async def close(self) -> None:
        """Break off what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- queries ---------------------------------------------------------------------------------

    async def query(self, server: str, users: Mapping[str, Sequence[str]], timeout: float) -> RemoteKeys:
        """Keys of users (device IDs by user ID; none: all devices).

        Args:
            timeout: seconds to wait for the server; what was known before is returned in any case.

        Returns:
            What is known, with an error if the server could not be asked.
        """
        kept = await self._db.read(lambda tx: _read_kept(tx, server, list(users)))
        missing = [user_id for user_id in users if user_id not in kept.good]
        told: dict[str, ToldList] = {}
        error = None
        if missing:
            told, error = await self._ask(server, missing, min(timeout, LONGEST_WAIT))
        return _as_keys(users, kept, told, error)

    async def _ask(
        self, server: str, user_ids: Sequence[str], timeout: float
    ) -> tuple[dict[str, ToldList], MatrixError | None]:
        """Ask a server about users, together with all others who want to know the same."""
        new = (user_id for user_id in user_ids if user_id not in self._asking)
        while part := list(islice(new, USERS_AT_ONCE)):
            if len(self._tasks) >= MAX_FETCHES:
                return {}, Unknown("Too much is being asked of other servers.", status=503)
            task = self._spawn(self._fetch(server, part))
            self._asking.update((user_id, task) for user_id in part)
        tasks = {self._asking[user_id] for user_id in user_ids}
        done, late = await asyncio.wait(tasks, timeout=max(timeout, 0.1))
        told: dict[str, ToldList] = {}
        error: MatrixError | None = None
        for task in done:
            failure = None if task.cancelled() else task.exception()
            if task.cancelled() or failure is not None:
                error = _as_matrix_error(failure)
            else:
                told.update(task.result())
        if late:
            error = Unknown("The server did not answer in time.", status=504)
            self._unanswered.update(user_id for user_id in user_ids if self._asking.get(user_id) in late)
        return told, error

    async def _fetch(self, server: str, user_ids: Sequence[str]) -> dict[str, ToldList]:
        try:
            started = self._db.position
            content = {"device_keys": {user_id: list[str]() for user_id in user_ids}}
            answer = await self._client.post(server, path_of(*_V1, "keys", "query"), content, timeout=FETCH_TIMEOUT)
            told = lists_of_users(user_ids, answer)
            late = self._unanswered.intersection(user_ids)
            await self._db.write(lambda tx: _keep(tx, server, told, started, late))
            self.resync(server)
            return told
        finally:
            for user_id in user_ids:
                self._asking.pop(user_id, None)
            self._unanswered.difference_update(user_ids)

    # -- claims ----------------------------------------------------------------------------------

    async def claim(
        self, server: str, wanted: Mapping[str, Mapping[str, str]], timeout: float
    ) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """One key each for devices (algorithms by user and device ID): user ID, device ID, key name, key. Raises
        MatrixError when the server does not answer well."""
        content = {"one_time_keys": wanted}
        path = path_of(*_V1, "keys", "claim")
        try:
            answer = await self._client.post(server, path, content, timeout=timeout)
        except OutgoingError as error:
            raise _as_matrix_error(error) from error
        return _claimed(wanted, answer.get("one_time_keys"))

    # -- lists of which changes were missed ------------------------------------------------------

    def resync(self, server: str) -> None:
        """Fetch the stale lists of a server's users again, if there are any and it can be reached."""
        if server in self._resyncing:
            self._resyncing[server] = True
            return
        nid = self._db.glance(lambda tx: names.find(tx, server))
        if nid is None or not self._db.glance(lambda tx: remote_devices.stale_users(tx, nid, 0, 1)):
            return
        self._resyncing[server] = False
        self._spawn(self._resync(server, nid))

    async def _resync(self, server: str, nid: int) -> None:
        try:
            async with self._turns:
                await self._fetch_stale(server, nid)
                while self._resyncing[server]:
                    self._resyncing[server] = False
                    await self._fetch_stale(server, nid)
        except (OutgoingError, StorageError) as error:
            log.debug("the devices of users of %s could not be fetched: %s", server, error)
        finally:
            del self._resyncing[server]

    async def _fetch_stale(self, server: str, nid: int) -> None:
        last = 0
        while users := self._db.glance(lambda tx, last=last: _stale(tx, nid, last)):  # type: ignore[misc]
            for user, user_id in users.items():
                await self._fetch_list(server, user_id)
                last = user

    async def _fetch_list(self, server: str, user_id: str) -> None:
        started = self._db.position
        try:
            answer = await self._client.get(server, path_of(*_V1, "devices", user_id), timeout=FETCH_TIMEOUT)
        except HttpError as error:
            if error.errcode is None:
                raise
            if error.status != 404:
                log.debug("%s does not show the devices of %s: %s", server, user_id, error)
                return
            answer = {}  # a user who is no more has no devices
        told = {user_id: list_of_user(user_id, answer)}
        await self._db.write(lambda tx: _keep(tx, server, told, started, ()))

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("asking another server for devices failed: %s", error)


class _Kept:
    """What is kept of some users: rows of devices and signing keys by user ID; the lists of `good` ones are right."""

    def __init__(self) -> None:
        self.good: set[str] = set()
        self.devices: dict[str, list[DeviceKeysRow]] = {}
        self.signing_keys: dict[str, dict[Usage, bytes]] = {}


def _read_kept(tx: ReadTransaction, server: str, user_ids: Iterable[str]) -> _Kept:
    kept = _Kept()
    server_nid = names.find(tx, server)
    nids = {nid: user_id for user_id in user_ids if (nid := names.find(tx, user_id)) is not None}
    if server_nid is None or not nids:
        return kept
    kept.good = {nids[user] for user in remote_devices.good_ones(tx, server_nid, nids)}
    for row in remote_devices.devices_of(tx, nids):
        kept.devices.setdefault(nids[row.user], []).append(row)
    for user, usage, keys in cross_signing.of_users(tx, nids):
        kept.signing_keys.setdefault(nids[user], {})[usage] = keys
    return kept


def _as_keys(
    users: Mapping[str, Sequence[str]], kept: _Kept, told: Mapping[str, ToldList], error: MatrixError | None
) -> RemoteKeys:
    """What a query is answered: what was told now, else what is kept."""
    found = RemoteKeys({}, {}, {}, error)
    for user_id, chosen in users.items():
        new = told.get(user_id)
        devices: Iterable[Any] = kept.devices.get(user_id, ()) if new is None else new.devices
        signing_keys = kept.signing_keys.get(user_id, {}) if new is None else new.signing_keys
        if new is None and user_id not in kept.good and user_id not in kept.devices:
            continue
        found.device_keys[user_id] = {
            row.device_id: orjson.Fragment(shown_keys(row.keys, row.display_name))
            for row in devices
            if not chosen or row.device_id in chosen
        }
        if Usage.MASTER in signing_keys:
            found.master_keys[user_id] = orjson.loads(signing_keys[Usage.MASTER])
        if Usage.SELF_SIGNING in signing_keys:
            found.self_signing_keys[user_id] = orjson.Fragment(signing_keys[Usage.SELF_SIGNING])
    return found


def _keep(tx: WriteTransaction, server: str, told: Mapping[str, ToldList], started: int, late: Iterable[str]) -> None:
    """Keep what a server told of those who share a room with local users; others who follow them learn of changes."""
    server_nid = names.intern(tx, server)
    for user_id, new in told.items():
        user = names.find(tx, user_id)
        if user is None:
            continue
        if not remote_devices.is_followed(tx, server_nid, user):
            remote_devices.forget(tx, user)
            continue
        before = remote_devices.get(tx, user)
        if before is not None and not before.is_stale and before.position >= started and new.stream is None:
            continue  # another answer came first, and says more
        # What changed while we asked may or may not be in the answer.
        is_stale = device_lists.last_change(tx, user) > started
        differs = remote_devices.put_list(
            tx, user, server_nid, new.devices, position=started, stream=new.stream, is_stale=is_stale
        )
        differs |= put_signing_keys(tx, user, new.signing_keys, complete=True)
        if user_id in late or (before is not None and differs):
            device_lists.note_news(tx, user)


def put_signing_keys(tx: WriteTransaction, user: int, keys: Mapping[Usage, bytes], *, complete: bool = False) -> bool:
    """Keep the cross-signing keys of a user of another server; whether there was anything new.

    Args:
        complete: what is not among the keys is no more.
    """
    before = cross_signing.of_user(tx, user)
    for usage, value in keys.items():
        if before.get(usage) != value:
            cross_signing.put(tx, user, usage, value)
    gone = before.keys() - keys.keys() if complete else frozenset[Usage]()
    for usage in gone:
        cross_signing.remove(tx, user, usage)
    return bool(gone) or any(before.get(usage) != value for usage, value in keys.items())


def _stale(tx: ReadTransaction, server: int, after: int) -> dict[int, str]:
    return dict(sorted(names.texts(tx, remote_devices.stale_users(tx, server, after, STALE_AT_ONCE)).items()))


def _claimed(wanted: Mapping[str, Mapping[str, str]], told: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """Of claimed keys those that were asked for: one for each device."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for user_id, algorithms in wanted.items():
        of_user = told.get(user_id) if isinstance(told, dict) else None
        for device_id, algorithm in algorithms.items():
            keys = of_user.get(device_id) if isinstance(of_user, dict) else None
            for name, key in keys.items() if isinstance(keys, dict) else ():
                if name.partition(":")[0] == algorithm and is_claimed_key(key):
                    found.setdefault(user_id, {})[device_id] = {name: key}
                    break
    return found


def _as_matrix_error(error: BaseException | None) -> MatrixError:
    if isinstance(error, MatrixError):
        return error
    return Unknown(f"The server could not be asked: {error}"[:500], status=503)
