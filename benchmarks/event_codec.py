"""What an event costs on disk, and the time to write and read it.

    python -m benchmarks.event_codec                # the codec, by kind of event and room version
    python -m benchmarks.event_codec --compare      # and other ways: zstandard, no dictionary, Base64 as text

The events are made up (benchmarks.synthetic_events), with servers, users and words that the dictionary has not seen.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

import orjson

from benchmarks.synthetic_events import KINDS, MEASURING_WORDS, Pdu, Rooms
from tinyserver.protocol.event_hashes import add_content_hash
from tinyserver.storage import event_codec

COUNT = 400
COMPARED = ("message", "encrypted", "member")


def sample(kind: str, version: int) -> list[Pdu]:
    rooms = [Rooms(1_000 + seed, MEASURING_WORDS, version) for seed in range(40)]
    return [add_content_hash(KINDS[kind][0](rooms[n % len(rooms)])) for n in range(COUNT)]


def canonical(pdu: Pdu) -> bytes:
    return orjson.dumps(pdu, option=orjson.OPT_SORT_KEYS)


def microseconds(function: Callable[[Any], object], arguments: list[Any]) -> float:
    """Per call: the best of five runs."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for argument in arguments:
            function(argument)
        best = min(best, time.perf_counter() - start)
    return best / len(arguments) * 1e6


def mean_size(blobs: list[bytes]) -> float:
    return sum(map(len, blobs)) / len(blobs)


def print_codec() -> None:
    print(f"{'':26}{'room':>5}{'JSON B':>9}{'stored B':>10}{'encode us':>11}{'decode us':>11}{'as JSON us':>12}")
    for kind in KINDS:
        for version in (12, 10):
            pdus = sample(kind, version)
            blobs = [event_codec.encode(pdu) for pdu in pdus]
            print(
                f"{kind:26}{version:>5}{mean_size([canonical(pdu) for pdu in pdus]):>9.0f}{mean_size(blobs):>10.0f}"
                f"{microseconds(event_codec.encode, pdus):>11.1f}{microseconds(event_codec.decode, blobs):>11.1f}"
                f"{microseconds(event_codec.decode_json, blobs):>12.1f}"
            )


def deflate(window_bits: int, dictionary: bytes = b"") -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    primed = (
        zlib.compressobj(9, zlib.DEFLATED, window_bits, 6, zdict=dictionary)
        if dictionary
        else zlib.compressobj(9, zlib.DEFLATED, window_bits, 6)
    )

    def compress(text: bytes) -> bytes:
        deflater = primed.copy()
        return deflater.compress(text) + deflater.flush()

    def decompress(blob: bytes) -> bytes:
        inflater = zlib.decompressobj(window_bits, zdict=dictionary) if dictionary else zlib.decompressobj(window_bits)
        return inflater.decompress(blob, event_codec.MAX_JSON_BYTES)

    return compress, decompress


def zstandard_ways(dictionary: bytes) -> dict[str, tuple[Callable[..., bytes], Callable[..., bytes]]]:
    import zstandard

    trained = zstandard.ZstdCompressionDict(dictionary)
    decompressor = zstandard.ZstdDecompressor(dict_data=trained, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    ways: dict[str, tuple[Callable[..., bytes], Callable[..., bytes]]] = {}
    for level in (3, 12, 19):
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_checksum=False, write_dict_id=False
        )
        compressor = zstandard.ZstdCompressor(dict_data=trained, compression_params=parameters)
        ways[f"zstd {level}, dictionary"] = (compressor.compress, decompressor.decompress)
    return ways


def print_comparison() -> None:
    """Compression alone, of the JSON without content hash, with Base64 as text and packed (its bytes counted)."""
    import zstandard

    from benchmarks.synthetic_events import TRAINING_WORDS, events

    def text_of(pdu: Pdu) -> bytes:
        return canonical({key: value for key, value in pdu.items() if key != "hashes"})

    training = [text_of(pdu) for pdu in events(1, TRAINING_WORDS, 8_000)]
    print(
        f"\n{'bytes (without content hash)':40}" + "".join(f"{kind:>12}" for kind in COMPARED) + "   compress, read us"
    )
    for packed in (False, True):
        texts: list[Any] = [event_codec.pack(text)[0] for text in training] if packed else training
        dictionary = zstandard.train_dictionary(8_192, texts, level=19).as_bytes()
        ways = {
            "deflate": deflate(-14),
            "deflate, dictionary": deflate(-14, dictionary[len(dictionary) // 16 :]),
            **zstandard_ways(dictionary),
        }
        for name, (compress, decompress) in ways.items():
            line, times = "", ""
            for kind in COMPARED:
                pairs = [event_codec.pack(text_of(pdu)) if packed else (text_of(pdu), b"") for pdu in sample(kind, 12)]
                plain = [text for text, _ in pairs]
                blobs = [compress(text) for text in plain]
                line += f"{mean_size(blobs) + mean_size([raw for _, raw in pairs]):>12.0f}"
                if kind == "message":
                    times = f"{microseconds(compress, plain):8.1f} {microseconds(decompress, blobs):6.1f}"
            print(f"{name + (', Base64 packed' if packed else ''):40}{line}   {times}")


def print_memory() -> None:
    """What each library adds to a process that has JSON and SQLite, by its own account."""
    start = "import orjson, sqlite3, re, json, base64, hashlib, pathlib; "
    report = "print(sum(int(l.split()[1]) for l in open('/proc/self/smaps_rollup') if l.startswith('Rss:')))"
    codec = "from tinyserver.storage import event_codec as c; c.decode(c.encode({'type': 'm.room.message'})); "
    zstd = (
        "import zstandard as z; d = z.ZstdCompressionDict(bytes(range(256)) * 32, z.DICT_TYPE_RAWCONTENT); "
        "z.ZstdDecompressor(dict_data=d).decompress(z.ZstdCompressor(12, dict_data=d).compress(bytes(300))); "
    )

    def rss(code: str) -> int:
        return min(int(subprocess.check_output([sys.executable, "-c", start + code + report])) for _ in range(3))

    base = rss("")
    print(f"\nMemory: the codec {rss(codec) - base} kB, zstandard with one dictionary {rss(zstd) - base} kB (RSS)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", action="store_true", help="also other ways to compress")
    arguments = parser.parse_args()
    print_codec()
    if arguments.compare:
        print_comparison()
        print_memory()


if __name__ == "__main__":
    main()
