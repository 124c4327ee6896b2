"""Sends services what they are owed, each in its order, one transaction after the other.

There is a task for a service only while there is something to send, and a timer only while one is left alone because
it fails. A service that makes requests itself is there again: it is tried at once.

spec: application-service-api#pushing-events
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from tinyserver.appservices.client import ServiceClient
from tinyserver.appservices.ephemeral import EphemeralNews
from tinyserver.appservices.services import Service, Services
from tinyserver.appservices.transactions import TransactionMaker, ephemeral_body
from tinyserver.bell import Bell
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.storage import appservices
from tinyserver.storage.appservices import StoredTransaction
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.transaction import Topic, WriteTransaction

log = logging.getLogger(__name__)

TIMEOUT = 60.0
GRACE = 2.0
"""Seconds that the end of the process waits for answers."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
PATIENCE = 1.5
"""Seconds that the note of what was taken may wait for the commit of the next message: it costs no fsync then."""
SOONEST = 2.0
"""Seconds after a failure before which a sign of life does not lead to another try."""


@dataclass(slots=True, eq=False)
class _Line:
    """The way to one service."""

    service: Service
    task: asyncio.Task[None] | None = None
    again: bool = False
    """Something new came while the task ran."""
    pause: float = 0.0
    failed_at: float = 0.0
    timer: asyncio.TimerHandle | None = None
    error: str | None = None


class Delivery:
    """Lives on the event loop.

    Args:
        bell: tells of what services are owed.
        services: whom to send to; those who come later, too.
        maker: says what is owed.
        client: the way there.
    """

    def __init__(
        self, db: Database, bell: Bell, services: Services, maker: TransactionMaker, client: ServiceClient
    ) -> None:
        self._db = db
        self._bell = bell
        self._services = services
        self._maker = maker
        self._client = client
        self._ephemeral: EphemeralNews | None = None
        self._lines: dict[int, _Line] = {}
        self._closing = False
        self._number = 0
        self._unsubscribe: Callable[[], None] = lambda: None

    # -- life ------------------------------------------------------------------------------------

    def start(self, ephemeral: EphemeralNews) -> None:
        """Go on with what was not sent when the server stopped."""
        self._ephemeral = ephemeral
        self._services.on_change.append(self._follow_services)
        self._unsubscribe = self._bell.subscribe(self._on_commit)
        self._follow_services()

    async def close(self) -> None:
        """Stop sending; what is not acknowledged is sent again after the next start."""
        self._closing = True
        self._unsubscribe()
        tasks = []
        for line in self._lines.values():
            if line.timer is not None:
                line.timer.cancel()
            if line.task is not None:
                tasks.append(line.task)
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _follow_services(self) -> None:
        """There is a line for each service that listens."""
        listening = {service.nid: service for service in self._services.listening}
        for nid in [nid for nid in self._lines if nid not in listening]:
            line = self._lines.pop(nid)
            if line.timer is not None:
                line.timer.cancel()
            if line.task is not None:
                line.task.cancel()
        for nid, service in listening.items():
            line = self._lines.setdefault(nid, _Line(service))
            line.service = service
            self._retry(line)

    def error_of(self, service: Service) -> str | None:
        """Why a service is left alone for a while; None: it is not."""
        line = self._lines.get(service.nid)
        return None if line is None else line.error

    # -- who has something new -------------------------------------------------------------------

    def wake(self, service: Service) -> None:
        """There is something to send."""
        line = self._lines.get(service.nid)
        if line is not None and line.timer is None:
            self._run(line)

    def is_alive(self, service: Service) -> None:
        """The service has made a request: if it is left alone because it failed, try again."""
        line = self._lines.get(service.nid)
        if line is None or line.timer is None:
            return
        wait = line.failed_at + SOONEST - asyncio.get_running_loop().time()
        if wait < line.timer.when() - asyncio.get_running_loop().time():
            line.timer.cancel()
            line.timer = asyncio.get_running_loop().call_later(max(wait, 0.0), self._retry, line)

    def _on_commit(self, commit: Commit) -> None:
        if not self._lines:
            return
        lists_changed = False
        for change in commit.changes:
            if change.topic is Topic.APPSERVICE:
                line = self._lines.get(change.nid)
                if line is not None and line.timer is None:
                    self._run(line)
            elif change.topic is Topic.DEVICE_LIST:
                lists_changed = True
        if lists_changed:
            for line in self._lines.values():
                if line.service.registration.receives_device_news and line.timer is None:
                    self._run(line)

    def _retry(self, line: _Line) -> None:
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        self._run(line)

    def _run(self, line: _Line) -> None:
        if self._closing:
            return
        if line.task is not None:
            line.again = True
        else:
            line.task = asyncio.ensure_future(self._serve(line))

    # -- sending ---------------------------------------------------------------------------------

    async def _serve(self, line: _Line) -> None:
        try:
            found = self._db.glance(lambda tx: appservices.transaction(tx, line.service.nid))
            is_stored = True
            while not self._closing:
                sent = None
                if found is not None:
                    await self._client.send_transaction(line.service, found.txn_id, found.body, TIMEOUT)
                    self._succeeded(line)
                    sent = found.txn_id if is_stored else None
                line.again = False
                found, is_stored = await self._next(line.service, sent)
                if found is None and not line.again:
                    break
        except OutgoingError as error:
            self._failed(line, str(error))
        except StorageError as error:
            self._failed(line, f"what it is owed cannot be read or noted: {error}")
        except Exception:
            log.exception("an application service could not be told")
            self._failed(line, "an error of this server: see the log")
        finally:
            line.task = None
            if line.again and line.timer is None and line.service.nid in self._lines:
                self._run(line)

    async def _next(self, service: Service, sent: str | None) -> tuple[StoredTransaction | None, bool]:
        """A new transaction, and whether it is stored; the step that stores it notes also that the service has the one
        that was sent."""
        ephemeral = [] if self._ephemeral is None else self._ephemeral.take(service)
        until = self._bell.position
        if self._db.glance(lambda tx: self._maker.is_owed(tx, service, until)):

            def step(tx: WriteTransaction) -> StoredTransaction | None:
                if sent is not None:
                    appservices.end_transaction(tx, service.nid, sent)
                return self._maker.next(tx, service, ephemeral)

            found = await self._db.write(step)
            if found is not None:
                return found, True
        elif sent is not None:

            def end(tx: WriteTransaction, sent: str = sent) -> None:
                appservices.end_transaction(tx, service.nid, sent)

            await self._db.write(end, patience=PATIENCE)
        if not ephemeral:
            return None, False
        self._number += 1
        return StoredTransaction(f"e{self._bell.tag}-{self._number}", ephemeral_body(service, ephemeral)), False

    def _succeeded(self, line: _Line) -> None:
        if line.error is not None:
            log.info("the application service %s takes transactions again", line.service.id)
        line.error, line.pause = None, 0.0

    def _failed(self, line: _Line, why: str) -> None:
        loop = asyncio.get_running_loop()
        why = " ".join(why.split())[:500]
        if line.error is None:
            log.warning("the application service %s takes no transactions: %s", line.service.id, why)
        line.error = why
        line.failed_at = loop.time()
        line.pause = min(max(line.pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        if not self._closing and line.service.nid in self._lines:
            line.timer = loop.call_later(line.pause, self._retry, line)
