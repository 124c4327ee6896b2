"""The scenarios, in the order in which they run."""

from ..bench import Scenario
from .big_room import big_room
from .closed_loop import one_room, twenty_rooms
from .family import family_busy, family_calm
from .idle import idle_polls
from .initial_sync import initial_sync
from .paging import paging
from .rooms import create_rooms
from .sliding_sync import sliding_sync, sliding_sync_big
from .start import preloaded_start, start

SCENARIOS = (
    Scenario("start", start, limit=60),
    Scenario("create-room", create_rooms, limit=60),
    Scenario("family-5", family_calm, limit=120),
    Scenario("family-20", family_busy, limit=120),
    Scenario("one-room", one_room, limit=90),
    Scenario("twenty-rooms", twenty_rooms, limit=90),
    Scenario("initial-sync", initial_sync, limit=240),
    Scenario("sliding-sync", sliding_sync, limit=600),
    Scenario("paging", paging, limit=90),
    Scenario("idle", idle_polls, limit=120),
    Scenario("big-room", big_room, limit=600, default=False),
    Scenario("sliding-sync-big", sliding_sync_big, limit=1800, default=False),
    Scenario("preloaded-start", preloaded_start, limit=3600, default=False, tinyserver_only=True),
)
