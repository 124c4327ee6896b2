"""Who makes a request: the answer of authentication, handed to every service that acts for somebody."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requester:
    """The account (and the device) in whose name a request acts.

    ``user_nid``, ``device_nid`` and ``token_nid`` are the storage's own numbers for the user, the device and the access
    token. ``device_id``, ``device_nid`` and ``token_nid`` are None where there is no device or no stored token, as
    for an application service that acts for one of its users; ``appservice`` then names that application service.
    """

    user_id: str
    user_nid: int
    device_id: str | None = None
    device_nid: int | None = None
    is_guest: bool = False
    is_admin: bool = False
    is_suspended: bool = False
    token_nid: int | None = None
    appservice: str | None = None
    is_rate_limited: bool = True

    @property
    def txn_scope(self) -> int | None:
        """Within what its transaction IDs are unique: a device by its number, or a user, as a negative number, for whom
        an application service acts without a device."""
        if self.device_nid is None and self.appservice is not None:
            return -self.user_nid
        return self.device_nid
