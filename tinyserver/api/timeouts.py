"""How long clients want to be kept waiting."""

MAX_SECONDS = 3600.0


def seconds(milliseconds: int) -> float:
    """A timeout that a client gave in milliseconds, which may be any integer, in seconds from 0 to an hour."""
    return min(max(milliseconds, 0), int(MAX_SECONDS * 1000)) / 1000
