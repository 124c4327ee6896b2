"""The presence of one user: what their devices and they themselves say, and what follows from it at a time.

    offline ──(a device syncs; the user says so)──> online ──(nothing done for IDLE_AFTER)──> unavailable
       ^                                              ^  └──────── something done ─────────────────┘
       └──── no device for a while; the user says so ─┘

spec: client-server-api#presence
"""

from __future__ import annotations

from dataclasses import dataclass, field

ONLINE, UNAVAILABLE, OFFLINE = "online", "unavailable", "offline"

ACTIVE_FOR = 60.0
"""Seconds after somebody did something for which they count as currently active."""
IDLE_AFTER = 300.0
"""Seconds without doing anything after which somebody who is online becomes unavailable."""
LINGER = 30.0
"""Seconds after the end of a sync in which the device is expected to call again."""
STAYS_SET = 300.0
"""Seconds for which presence that a user has set lasts where no device syncs."""

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Shown:
    """What others see of a user, besides for how long they have done nothing."""

    presence: str = OFFLINE
    currently_active: bool = False
    status_msg: str | None = None


@dataclass(slots=True)
class UserPresence:
    """One user, with all times in seconds of a monotonic clock.

    `devices` maps each device (None: no device) to what it says and until when that holds; `chosen` is what the user
    has set, if that is not online; `last_active` None means never; `moment` is when `shown` changed last, and
    `sees_anew` when the user came to share a room with others.
    """

    user_id: str
    devices: dict[int | None, tuple[str, float]] = field(default_factory=dict)
    chosen: str | None = None
    status_msg: str | None = None
    last_active: float | None = None
    shown: Shown = Shown()
    moment: int = 0
    sees_anew: int = 0
    profile: tuple[str | None, str | None] = (None, None)
    """Display name and avatar."""

    def at(self, now: float) -> Shown:
        """What others see at a time."""
        presence = self._presence_at(now)
        active = presence == ONLINE and self.last_active is not None and now < self.last_active + ACTIVE_FOR
        return Shown(presence, active, self.status_msg)

    def _presence_at(self, now: float) -> str:
        says = {state for state, until in self.devices.values() if until > now}
        if not says or self.chosen == OFFLINE:
            return OFFLINE
        if self.chosen is not None or ONLINE not in says:
            return UNAVAILABLE
        if self.last_active is None or now >= self.last_active + IDLE_AFTER:
            return UNAVAILABLE
        return ONLINE

    def next_change(self, now: float) -> float:
        """When what others see may change by itself; infinity: never."""
        times = [until for _, until in self.devices.values() if until > now]
        if times and self.last_active is not None:
            times += [when for when in (self.last_active + ACTIVE_FOR, self.last_active + IDLE_AFTER) if when > now]
        return min(times, default=_NEVER)

    def drop_gone_devices(self, now: float) -> None:
        """Forget devices that have not called again in time; with the last one goes what the user has chosen."""
        for device in [device for device, (_, until) in self.devices.items() if until <= now]:
            del self.devices[device]
        if not self.devices:
            self.chosen = None

    def content(self, now: float) -> dict[str, object]:
        """What `GET /presence/{userId}/status` tells of the user."""
        shown = self.shown
        content: dict[str, object] = {"presence": shown.presence}
        if self.last_active is not None:
            content["last_active_ago"] = int((now - self.last_active) * 1000)
        if shown.presence == ONLINE:
            content["currently_active"] = shown.currently_active
        if shown.status_msg is not None:
            content["status_msg"] = shown.status_msg
        return content

    def event(self, now: float) -> dict[str, object]:
        """The user's `m.presence` event: what :meth:`content` says, and what the user is called."""
        content, (displayname, avatar_url) = self.content(now), self.profile
        if displayname is not None:
            content["displayname"] = displayname
        if avatar_url is not None:
            content["avatar_url"] = avatar_url
        return {"type": "m.presence", "sender": self.user_id, "content": content}
