"""How many events of long answers may be held at a time, whoever tells them: some hundred bytes of memory each."""

from __future__ import annotations

from tinyserver.outgoing.errors import AnswerTooLarge

MAX_HELD = 400_000
"""Events (at about 400 bytes) in all answers that are being taken. The largest rooms have about as many in one."""


class EventBudget:
    """Counts what is held. Lives on the event loop."""

    def __init__(self, most: int = MAX_HELD) -> None:
        self._left = most

    def hold(self, count: int) -> None:
        """Hold so many more; less than nothing gives them back.

        Raises:
            AnswerTooLarge: then there would be too many. They are not held.
        """
        if count > self._left:
            raise AnswerTooLarge("too many events of other servers are being taken in already")
        self._left -= count
