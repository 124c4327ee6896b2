"""The test vectors made from the specification, in ``tests/vectors/``."""

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent.parent / "vectors"


def load(name: str) -> Any:
    """The vectors of the file ``name.json``."""
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
