"""The devices of a user.

spec: client-server-api#device-management
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tinyserver.accounts.last_seen import LastSeen
from tinyserver.accounts.password_check import PasswordCheck, PasswordStage
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.sessions import Sessions, check_device_id, check_device_name
from tinyserver.accounts.uia import UserInteractiveAuth
from tinyserver.protocol.errors import NotFound
from tinyserver.storage import devices
from tinyserver.storage.database import Database
from tinyserver.storage.devices import DeviceRow
from tinyserver.storage.transaction import WriteTransaction


class Devices:
    """Lists, renames and deletes devices."""

    def __init__(
        self, db: Database, sessions: Sessions, passwords: PasswordCheck, uia: UserInteractiveAuth, last_seen: LastSeen
    ) -> None:
        self._db = db
        self._sessions = sessions
        self._passwords = passwords
        self._uia = uia
        self._last_seen = last_seen

    async def all_of(self, requester: Requester) -> list[dict[str, Any]]:
        """All devices of the requester, as the client-server API shows them."""
        rows = await self._db.read(lambda tx: devices.of_user(tx, requester.user_nid))
        return [self._shown(requester, row) for row in rows]

    async def get(self, requester: Requester, device_id: str) -> dict[str, Any]:
        """One device of the requester. Raises NotFound."""
        row = self._db.glance(lambda tx: devices.find(tx, requester.user_nid, device_id))
        if row is None:
            raise NotFound("You have no such device.")
        return self._shown(requester, row)

    async def rename(self, requester: Requester, device_id: str, display_name: str | None) -> bool:
        """Give a device another display name (None: it stays). An application service makes devices that way.

        Returns:
            Whether there was no such device before.

        Raises:
            NotFound, InvalidParam.

        spec: client-server-api#device-management, application-service-api#device-management
        """
        if display_name is not None:
            check_device_name(display_name)

        def step(tx: WriteTransaction) -> bool:
            row = devices.find(tx, requester.user_nid, device_id)
            if row is None:
                if requester.appservice is None:
                    raise NotFound("You have no such device.")
                check_device_id(device_id)
                nid = devices.add(tx, requester.user_nid, device_id, display_name, None)
                self._sessions.device_renamed(tx, requester.user_nid, nid)
                return True
            if display_name is not None and display_name != row.display_name:
                devices.rename(tx, row.nid, display_name)
                self._sessions.device_renamed(tx, requester.user_nid, row.nid)
            return False

        return await self._db.write(step)

    async def remove(self, requester: Requester, device_ids: Collection[str], auth: Mapping[str, Any] | None) -> None:
        """Delete devices with their sessions; those that are gone already do not matter.

        Raises:
            UserInteractionRequired: the user must first prove who they are.
        """
        if requester.appservice is not None:
            await self.remove_proved(requester, device_ids)
            return
        await self._uia.authorise(
            auth,
            operation=f"delete devices of {requester.user_id}",
            parameters=sorted(set(device_ids)),
            flows=[("m.login.password",)],
            stages={"m.login.password": PasswordStage(self._passwords, requester.user_nid)},
        )
        await self.remove_proved(requester, device_ids)

    async def remove_proved(self, requester: Requester, device_ids: Collection[str]) -> None:
        """As :meth:`remove`, for somebody who has just proved who they are."""

        def step(tx: WriteTransaction) -> None:
            rows = (devices.find(tx, requester.user_nid, device_id) for device_id in set(device_ids))
            self._sessions.remove_devices(tx, requester.user_nid, [row.nid for row in rows if row is not None])

        await self._db.write(step)

    def _shown(self, requester: Requester, row: DeviceRow) -> dict[str, Any]:
        shown: dict[str, Any] = {"device_id": row.device_id, "user_id": requester.user_id}
        if row.display_name is not None:
            shown["display_name"] = row.display_name
        seen = self._last_seen.of(row.nid) or row.seen
        if seen is not None:
            shown |= {"last_seen_ip": seen.ip, "last_seen_ts": seen.ts, "last_seen_user_agent": seen.agent}
        return shown
