"""Cross-signing: a user's master, self-signing and user-signing keys, and the signatures made with them.

spec: client-server-api#cross-signing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tinyserver.accounts.password_check import PasswordCheck, PasswordStage
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.uia import UserInteractiveAuth
from tinyserver.encryption.identity_resets import IdentityResets
from tinyserver.encryption.key_objects import (
    USAGE_NAMES,
    CrossSigningKey,
    check_cross_signing_key,
    check_signature,
    encode_key,
    is_same_key,
    public_key_of,
    signatures_by,
    stored_cross_signing_key,
    with_signatures_of,
)
from tinyserver.encryption.remote import RemoteDevices, ask_servers, by_server
from tinyserver.protocol.errors import Forbidden, InvalidSignature, MatrixError, MissingParam, NotFound, TooLarge
from tinyserver.storage import cross_signing, device_keys, device_lists, devices, names
from tinyserver.storage.cross_signing import Usage, UserSignature
from tinyserver.storage.database import Database
from tinyserver.storage.device_list_log import SIGNING_KEYS
from tinyserver.storage.transaction import WriteTransaction

REMOTE_TIMEOUT = 10.0
MAX_SIGNED_OBJECTS = 300
"""How many signed keys one request may have: each signature is checked."""

Uploads = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Signed objects by user ID and key ID."""


class _NeedsAuthentication(Exception):
    """New keys would replace old ones."""


class CrossSigning:
    """Keeps cross-signing keys and signatures.

    Args:
        remote: the master keys of users of other servers.
        server_name: this server.
    """

    def __init__(
        self,
        db: Database,
        uia: UserInteractiveAuth,
        passwords: PasswordCheck,
        remote: RemoteDevices,
        server_name: str,
        resets: IdentityResets,
    ) -> None:
        self._db = db
        self._uia = uia
        self._passwords = passwords
        self._remote = remote
        self._server_name = server_name
        self._resets = resets

    async def upload_keys(
        self,
        requester: Requester,
        uploaded: Mapping[Usage, Mapping[str, Any] | None],
        auth: Mapping[str, Any] | None,
        reset_url: str,
    ) -> None:
        """Publish the requester's cross-signing keys.

        Whoever replaces keys, or adds some to those that are there, must prove to be the user. Keys that a new master
        key did not sign go with the old one.

        Args:
            reset_url: the page on which users of devices that were signed in by OAuth prove it.

        Raises:
            UserInteractionRequired, MissingParam, InvalidParam, BadJson, InvalidSignature, Forbidden.
        """
        keys = {
            usage: check_cross_signing_key(value, requester.user_id, usage)
            for usage, value in uploaded.items()
            if value is not None
        }
        try:
            await self._db.write(lambda tx: _store_keys(tx, requester, keys, is_proved=False))
        except _NeedsAuthentication:
            await self._prove(requester, keys, auth, reset_url)
            await self._db.write(lambda tx: _store_keys(tx, requester, keys, is_proved=True))
            self._resets.end(requester.user_nid)

    async def _prove(
        self,
        requester: Requester,
        keys: Mapping[Usage, CrossSigningKey],
        auth: Mapping[str, Any] | None,
        reset_url: str,
    ) -> None:
        """Have the requester prove to be the user: by password, or on the page if that is how the device came in."""
        if requester.appservice is not None:
            return
        if self._is_of_oauth(requester):
            self._resets.check(requester.user_nid, auth, reset_url)
            return
        await self._uia.authorise(
            auth,
            operation=f"replace the cross-signing keys of {requester.user_id}",
            parameters={USAGE_NAMES[usage]: key.public_key for usage, key in keys.items()},
            flows=[("m.login.password",)],
            stages={"m.login.password": PasswordStage(self._passwords, requester.user_nid)},
        )

    def _is_of_oauth(self, requester: Requester) -> bool:
        device = requester.device_nid
        row = None if device is None else self._db.glance(lambda tx: devices.get(tx, device))
        return row is not None and row.oauth_client is not None

    async def upload_signatures(self, requester: Requester, uploads: Uploads) -> dict[str, dict[str, Any]]:
        """Publish signatures: of the requester's self-signing key on own devices, of own devices on the master key,
        and of the user-signing key on the master keys of others.

        Returns:
            Errors by user ID and key ID, for those that could not be taken.
        """
        if sum(map(len, uploads.values())) > MAX_SIGNED_OBJECTS:
            raise TooLarge(f"No more than {MAX_SIGNED_OBJECTS} signed keys are taken at once.")
        servers = by_server(uploads)
        servers.pop(self._server_name, None)
        wanted: dict[str, dict[str, list[str]]] = {
            server: {user_id: [] for user_id in of_users} for server, of_users in servers.items()
        }
        answers, _ = await ask_servers(wanted, self._remote.query, REMOTE_TIMEOUT)
        remote_keys = {user_id: key for answer in answers for user_id, key in answer.master_keys.items()}

        def step(tx: WriteTransaction) -> dict[str, dict[str, Any]]:
            signer = _Signer(tx, requester)
            failures: dict[str, dict[str, Any]] = {}
            for user_id, objects in uploads.items():
                for key_id, value in objects.items():
                    try:
                        if user_id == requester.user_id:
                            signer.take_own(key_id, value)
                        else:
                            signer.take_of_other(user_id, key_id, value, remote_keys.get(user_id))
                    except MatrixError as error:
                        failures.setdefault(user_id, {})[key_id] = error.body()
            signer.finish()
            return failures

        return await self._db.write(step)


def _store_keys(
    tx: WriteTransaction, requester: Requester, keys: Mapping[Usage, CrossSigningKey], *, is_proved: bool
) -> None:
    user = requester.user_nid
    known = {
        usage: stored_cross_signing_key(usage, stored) for usage, stored in cross_signing.of_user(tx, user).items()
    }
    new = {
        usage: key
        for usage, key in keys.items()
        if usage not in known or not is_same_key(known[usage].value, key.value)
    }
    master = keys.get(Usage.MASTER) or known.get(Usage.MASTER)
    if master is None:
        raise MissingParam("There is no master key yet: upload it first, or together with the others.")
    for key in new.values():
        if key.usage is not Usage.MASTER:
            check_signature(key.value, requester.user_id, master.key_id, master.public_key)
        if devices.find(tx, user, key.public_key) is not None:
            raise Forbidden("One of your devices has the same name as this key.")
    if new and Usage.MASTER in known and not is_proved:
        raise _NeedsAuthentication
    for usage, key in new.items():
        cross_signing.put(tx, user, usage, encode_key(key.value))
    if Usage.MASTER in new:
        cross_signing.remove_signatures_on(tx, user)
        for usage in (Usage.SELF_SIGNING, Usage.USER_SIGNING):
            if usage in known and usage not in new:
                _remove_unless_signed(tx, requester, known[usage], master)
    if Usage.USER_SIGNING in new or Usage.USER_SIGNING not in cross_signing.of_user(tx, user):
        cross_signing.remove_signatures_by(tx, user)
    if new:
        device_lists.note_change(tx, user, [SIGNING_KEYS])


def _remove_unless_signed(
    tx: WriteTransaction, requester: Requester, key: CrossSigningKey, master: CrossSigningKey
) -> None:
    try:
        check_signature(key.value, requester.user_id, master.key_id, master.public_key)
    except InvalidSignature:
        cross_signing.remove(tx, requester.user_nid, key.usage)


class _Signer:
    """Takes signatures that one user uploads, within one step."""

    def __init__(self, tx: WriteTransaction, requester: Requester) -> None:
        self._tx = tx
        self._user = requester.user_nid
        self._user_id = requester.user_id
        self._keys = {
            usage: stored_cross_signing_key(usage, stored)
            for usage, stored in cross_signing.of_user(tx, self._user).items()
        }
        self._changed: list[str] = []
        """Devices whose keys got signatures, or `SIGNING_KEYS`."""

    def take_own(self, key_id: str, value: Mapping[str, Any]) -> None:
        """Signatures on the signer's own device or master key. Raises NotFound, InvalidSignature, BadJson."""
        master = self._keys.get(Usage.MASTER)
        if master is not None and key_id == master.public_key:
            merged = self._merged(master.value, value, self._device_signatures(value))
            if merged is not None:
                cross_signing.put(self._tx, self._user, Usage.MASTER, encode_key(merged))
                self._keys[Usage.MASTER] = CrossSigningKey(Usage.MASTER, master.public_key, merged)
                self._changed.append(SIGNING_KEYS)
            return
        device = devices.find(self._tx, self._user, key_id)
        stored = None if device is None else device_keys.get(self._tx, device.nid)
        if device is None or stored is None:
            raise NotFound("You have no device or master key with this ID.")
        merged = self._merged(orjson.loads(stored), value, self._signature_with(Usage.SELF_SIGNING, value))
        if merged is not None:
            device_keys.put(self._tx, device.nid, encode_key(merged))
            self._changed.append(key_id)

    def take_of_other(
        self, user_id: str, key_id: str, value: Mapping[str, Any], remote_key: Mapping[str, Any] | None
    ) -> None:
        """A signature on the master key of another user. Raises NotFound, InvalidSignature, BadJson."""
        target = names.find(self._tx, user_id)
        master = remote_key
        if master is None and target is not None:
            stored = cross_signing.of_user(self._tx, target).get(Usage.MASTER)
            master = None if stored is None else orjson.loads(stored)
        if master is None or public_key_of(master) != key_id:
            raise NotFound("This user has no such master key.")
        signatures = self._signature_with(Usage.USER_SIGNING, value)
        if not is_same_key(master, value):
            raise InvalidSignature("What you signed differs from the key that it should be.")
        ((signing_key, signature),) = signatures.items()
        target = names.intern(self._tx, user_id)
        new = UserSignature(target, key_id, signing_key, signature)
        if cross_signing.signatures_of(self._tx, self._user).get(target) != new:
            cross_signing.sign(self._tx, self._user, new)

    def finish(self) -> None:
        """Tell others if anything has changed that they can see."""
        if self._changed:
            device_lists.note_change(self._tx, self._user, self._changed)

    def _merged(
        self, known: dict[str, Any], value: Mapping[str, Any], signatures: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """The known object with new signatures by the user, or None when there is none that is new."""
        if not is_same_key(known, value):
            raise InvalidSignature("What you signed differs from the key that is kept here.")
        merged = with_signatures_of(known, {"signatures": {self._user_id: {**signatures}}})
        if merged.get("signatures") == known.get("signatures"):
            return None
        return merged

    def _signature_with(self, usage: Usage, value: Mapping[str, Any]) -> dict[str, str]:
        """The signature of one of the user's cross-signing keys on an object, by key ID."""
        key = self._keys.get(usage)
        if key is None:
            raise NotFound(f"You have no {USAGE_NAMES[usage]} key.")
        check_signature(value, self._user_id, key.key_id, key.public_key)
        return {key.key_id: signatures_by(value, self._user_id)[key.key_id]}

    def _device_signatures(self, value: Mapping[str, Any]) -> dict[str, str]:
        """The signatures of the user's devices on an object, by key ID."""
        found = {}
        for name, signature in signatures_by(value, self._user_id).items():
            device = devices.find(self._tx, self._user, name.removeprefix("ed25519:"))
            keys = None if device is None else device_keys.get(self._tx, device.nid)
            if keys is not None:
                check_signature(value, self._user_id, name, orjson.loads(keys)["keys"].get(name))
                found[name] = signature
        if not found:
            raise InvalidSignature("None of your devices has signed this key.")
        return found
