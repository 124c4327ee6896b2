"""Makes thumbnails in a process of its own: pictures come from strangers, and decoding them takes memory and time.

Run as `python -m tinyserver.media.picture_worker`. Each line of standard input is a JSON object that says what to make
(see `Order`), each is answered by a line with what became of it: `{"type": "image/jpeg"}`, `{"original": "image/png"}`
if the picture itself serves, or `{"error": "..."}`. Without a `target` the picture is only measured.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, ImageSequence

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "MPO")
"""What is read: the pictures that chats are full of, and none of the formats that nobody has looked at for years."""
MAX_MEMORY = 1024 * 1024 * 1024
"""Bytes of address space, of which a 50-megapixel picture takes a fifth."""
MAX_FRAMES = 250
MAX_ANIMATED_PIXELS = 10_000_000
"""Of all frames of an animated thumbnail together."""
MAX_ORIGINAL_BYTES = 512 * 1024
"""A picture that is small enough in pixels serves as its own thumbnail up to this size."""
_SERVED_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


@dataclass(frozen=True, slots=True)
class Order:
    """One thumbnail to make: from the file `source` into the file `target`."""

    source: str
    max_pixels: int
    target: str = ""
    width: int = 1
    height: int = 1
    crop: bool = False
    animated: bool = False


def main() -> None:
    """Answer orders until standard input ends."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        answer = _answer(Order(**json.loads(line)))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _answer(order: Order) -> dict[str, Any]:
    Image.MAX_IMAGE_PIXELS = None  # checked by ourselves, before anything is decoded
    try:
        with Image.open(order.source, formats=FORMATS) as picture:
            if picture.width * picture.height > order.max_pixels:
                return {"error": "too large"}
            if not order.target:
                kind = Image.MIME.get(str(picture.format), "image/jpeg")
                return {"type": kind, "width": picture.width, "height": picture.height}
            return _make(picture, order)
    except MemoryError:
        return {"error": "too large"}
    except Exception as error:  # whatever a decoder makes of a hostile file
        return {"error": f"{type(error).__name__}: {error}"[:200]}


def _make(picture: Image.Image, order: Order) -> dict[str, Any]:
    frames = getattr(picture, "n_frames", 1) if picture.format in ("GIF", "PNG", "WEBP", "AVIF") else 1
    moves = frames > 1 and order.animated
    turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    size = (picture.height, picture.width) if turned else picture.size
    scaled, box = _target(size, order)
    small = scaled == size
    if small and box is None and (moves or frames == 1) and _can_serve(picture, order):
        return {"original": _SERVED_AS_THEY_ARE[str(picture.format)]}
    if moves and frames <= MAX_FRAMES and frames * scaled[0] * scaled[1] <= MAX_ANIMATED_PIXELS:
        return _animated(picture, scaled, box, order)
    return _still(picture, (scaled[1], scaled[0]) if turned else scaled, box, order)


def _can_serve(picture: Image.Image, order: Order) -> bool:
    return str(picture.format) in _SERVED_AS_THEY_ARE and Path(order.source).stat().st_size <= MAX_ORIGINAL_BYTES


def _target(size: tuple[int, int], order: Order) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
    """To which size the picture is scaled, and which box is then cut out of it; never larger than it is."""
    width, height = size
    factor = min(1.0, max(order.width / width, order.height / height))
    scaled = max(1, round(width * factor)), max(1, round(height * factor))
    if not order.crop:
        return scaled, None
    wide, high = min(order.width, scaled[0]), min(order.height, scaled[1])
    left, top = (scaled[0] - wide) // 2, (scaled[1] - high) // 2
    box = (left, top, left + wide, top + high)
    return scaled, None if box == (0, 0, *scaled) else box


def _still(
    picture: Image.Image, scaled: tuple[int, int], box: tuple[int, int, int, int] | None, order: Order
) -> dict[str, Any]:
    """A thumbnail that does not move. `scaled` is the size before the picture is turned as its EXIF data say."""
    picture.draft("RGB", scaled)
    if "transparency" in picture.info or picture.mode in ("P", "PA", "LA"):
        ready = picture.convert("RGBA")
    else:
        ready = picture if picture.mode in ("L", "RGB", "RGBA") else picture.convert("RGB")
    made = ready.resize(scaled, Image.Resampling.LANCZOS, reducing_gap=2.0)
    made = ImageOps.exif_transpose(made)
    if box is not None:
        made = made.crop(box)
    if made.mode == "RGBA" and made.getchannel("A").getextrema() != (255, 255):
        made.save(order.target, "PNG")
        return {"type": "image/png"}
    made.convert("RGB").save(order.target, "JPEG", quality=80, exif=b"", icc_profile=picture.info.get("icc_profile"))
    return {"type": "image/jpeg"}


def _animated(
    picture: Image.Image, scaled: tuple[int, int], box: tuple[int, int, int, int] | None, order: Order
) -> dict[str, Any]:
    durations: list[int] = []

    def frames() -> Any:
        for frame in ImageSequence.Iterator(picture):
            durations.append(int(frame.info.get("duration", 100)) or 100)
            made = frame.convert("RGBA").resize(scaled, Image.Resampling.BILINEAR, reducing_gap=2.0)
            yield made if box is None else made.crop(box)

    made = list(frames())
    made[0].save(
        order.target, "WEBP", save_all=True, append_images=made[1:], duration=durations, loop=0, quality=70, method=2
    )
    return {"type": "image/webp"}


if __name__ == "__main__":
    main()
