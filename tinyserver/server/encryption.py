"""End-to-end encryption: public keys, and messages from device to device."""

from __future__ import annotations

from tinyserver.api.client.cross_signing import CrossSigningApi
from tinyserver.api.client.dehydrated_devices import DehydratedDevicesApi
from tinyserver.api.client.key_backup import KeyBackupApi
from tinyserver.api.client.keys import KeysApi
from tinyserver.api.client.to_device import ToDeviceApi
from tinyserver.api.federation.user_keys import UserKeysApi
from tinyserver.encryption.cross_signing import CrossSigning
from tinyserver.encryption.dehydrated_devices import DehydratedDevices
from tinyserver.encryption.device_keys import DeviceKeys
from tinyserver.encryption.device_news import DeviceNewsReader
from tinyserver.encryption.identity_resets import IdentityResets
from tinyserver.encryption.key_backup import KeyBackup
from tinyserver.encryption.remote import NobodyElse, RemoteDevices, RemoteToDevice
from tinyserver.encryption.to_device import ToDevice
from tinyserver.federation.device_messages import OutgoingDeviceMessages, ReceivedDeviceMessages
from tinyserver.federation.device_updates import DeviceUpdates
from tinyserver.federation.remote_devices import RemoteDeviceLists
from tinyserver.federation.transactions import InboundTransactions
from tinyserver.server.accounts import AccountParts
from tinyserver.server.appservices import AppserviceParts
from tinyserver.server.core import Core
from tinyserver.server.transport import Transport


class EncryptionParts:
    """All parts of encryption."""

    def __init__(
        self,
        core: Core,
        transport: Transport,
        transactions: InboundTransactions,
        accounts: AccountParts,
        identity_resets: IdentityResets,
        appservices: AppserviceParts,
    ) -> None:
        db, name, router = core.db, core.server_name, core.router
        self._remote_devices: RemoteDeviceLists | None = None
        others: RemoteDevices = NobodyElse()
        messages: RemoteToDevice = NobodyElse()
        if core.federates:
            others = self._remote_devices = RemoteDeviceLists(db, transport.client, transport.destinations)
            messages = OutgoingDeviceMessages()
        device_keys = DeviceKeys(db, others, name)
        self.device_news = DeviceNewsReader(db, core.bell)
        to_device = ToDevice(db, messages, name, followers=appservices.followers)
        if self._remote_devices is not None:
            updates = DeviceUpdates(db, self._remote_devices)
            transactions.handle("m.device_list_update", updates.take_list_update)
            transactions.handle("m.signing_key_update", updates.take_signing_keys)
            transactions.handle("m.direct_to_device", ReceivedDeviceMessages(db, to_device).take)
            router.add(UserKeysApi(device_keys, name))
        cross_signing = CrossSigning(db, accounts.uia, accounts.passwords, others, name, identity_resets)
        router.add(KeysApi(device_keys, self.device_news, core.bell))
        router.add(CrossSigningApi(cross_signing, core.public_url))
        router.add(ToDeviceApi(to_device))
        router.add(KeyBackupApi(KeyBackup(db)))
        router.add(DehydratedDevicesApi(DehydratedDevices(db, core.clock, accounts.sessions)))

    def start(self) -> None:
        """Go on fetching the devices of other servers' users."""
        if self._remote_devices is not None:
            self._remote_devices.start()

    async def stop(self) -> None:
        """End what is under way."""
        if self._remote_devices is not None:
            await self._remote_devices.close()
