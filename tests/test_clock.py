"""The clock for machines that do not know the time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tinyserver.clock import Clock


class Machine:
    """A machine whose two clocks the test turns."""

    def __init__(self, wall: float) -> None:
        self.wall = wall
        self.running = 100.0

    def clock(self, floor_ms: int = 0) -> Clock:
        return Clock(floor_ms, wall=lambda: self.wall, monotonic=lambda: self.running)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.running += seconds


def test_the_machine_is_believed_when_it_is_ahead() -> None:
    machine = Machine(1_800_000_000.5)
    clock = machine.clock(floor_ms=1_700_000_000_000)
    assert clock.now_ms() == 1_800_000_000_500
    machine.wall += 3600
    assert clock.now_ms() == 1_800_003_600_500


def test_a_machine_in_1970_goes_on_from_what_is_stored() -> None:
    machine = Machine(10.0)
    clock = machine.clock()
    clock.raise_floor(1_800_000_000_000)
    assert clock.now_ms() == 1_800_000_000_000
    machine.pass_time(60)
    assert clock.now_ms() == 1_800_000_060_000
    machine.wall = 1_800_001_000.0  # the network is there, and with it the time
    assert clock.now_ms() == 1_800_001_000_000


def test_a_jump_backwards_stops_nothing() -> None:
    machine = Machine(1_800_000_000.0)
    clock = machine.clock()
    clock.now_ms()
    machine.wall -= 7200
    machine.running += 5
    assert clock.now_ms() == 1_800_000_005_000


@given(
    st.lists(st.tuples(st.integers(-(10**10), 10**10), st.integers(0, 10**6)), max_size=30), st.integers(0, 2 * 10**12)
)
def test_never_backwards(steps: list[tuple[int, int]], floor: int) -> None:
    machine = Machine(1_000_000_000.0)
    clock = machine.clock(floor)
    last = clock.now_ms()
    assert last >= floor
    for jump, passed in steps:
        machine.wall = max(0.0, machine.wall + jump)
        machine.running += passed / 1000
        now = clock.now_ms()
        assert now >= last + passed - 1
        last = now
