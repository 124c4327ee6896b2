"""Which configuration a command means when it is not told."""

from __future__ import annotations

import os
from pathlib import Path

from tinyserver.cli import CommandError

_PLACES = (Path("tinyserver.toml"), Path("data/tinyserver.toml"), Path("/var/lib/tinyserver/tinyserver.toml"))


def config_file(given: Path | None) -> Path:
    """The file given, else that of ``$TINYSERVER_CONFIG``, else the first one that exists where it usually is.

    Raises CommandError where there is none.
    """
    if given is not None:
        return given
    if os.environ.get("TINYSERVER_CONFIG"):
        return Path(os.environ["TINYSERVER_CONFIG"])
    for place in _PLACES:
        if place.exists():
            return place
    looked = ", ".join(str(place) for place in _PLACES)
    raise CommandError(f"there is no configuration in any of {looked}; say where it is with --config FILE")
