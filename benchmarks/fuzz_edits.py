"""Edits that ``fuzz.py``'s inputs have in common: of JSON values, of lines of text, of PNG chunks and of bytes.

An edit is a number that seeds its own random choices, so that each can be left out to reduce a failure.
"""

from __future__ import annotations

import copy
import json
import random
import struct
import zlib
from collections.abc import Sequence
from typing import Any

Edits = Sequence[int]
_NUMBERS = (0, -1, 1, 2, 3, 255, 256, 65536, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, 1e-320)
NASTY = (
    *_NUMBERS,
    float("inf"),
    float("-inf"),
    float("nan"),
    None,
    True,
    False,
    "",
    " ",
    "\ud800",
    "\0",
    "../../x",
    "<b>&\u202e",
    "x" * 70_000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [[[[[[[[1]]]]]]]],
)


def edit_value(value: Any, rng: random.Random) -> Any:
    """Change one place of a JSON value."""
    value = copy.deepcopy(value)
    holder, place = _place(value, rng)
    if holder is None:
        return rng.choice(NASTY)
    kind = rng.randrange(6)
    if kind == 0:
        del holder[place]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice(("", "x", "\ud800", str(place) + "_"))] = holder.pop(place)
    elif kind == 2 and isinstance(holder, list):
        holder.extend(copy.deepcopy(holder[place]) for _ in range(rng.choice((1, 300))))
    elif kind == 3:
        _, other = _place(value, rng)
        holder[place] = copy.deepcopy(holder.get(other)) if isinstance(holder, dict) else other
    else:
        holder[place] = copy.deepcopy(rng.choice(NASTY))
    return value


def _place(value: Any, rng: random.Random) -> tuple[Any, Any]:
    """A random place in nested values, every level as likely as the next."""
    holder, place = None, None
    while isinstance(value, (dict, list)) and value and (holder is None or rng.random() < 0.6):
        holder, place = value, rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value = holder[place]
    return holder, place


def json_bytes(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except ValueError:  # more digits than Python prints
        return b"1" * 5000


def edit_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, or overwrite with a number of extreme value."""
    if not content:
        return bytes(rng.randrange(256) for _ in range(8))
    kind, at = rng.randrange(6), rng.randrange(len(content))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[at + rng.randrange(1, 64) :]
    if kind == 2:
        return content[:at] + content[at : at + 64] * rng.choice((2, 50)) + content[at:]
    if kind == 3:
        extreme = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xff" * 8))
        return content[:at] + extreme + content[at + len(extreme) :]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(changed) if kind == 4 else min(len(changed), 128))] = rng.randrange(256)
    return bytes(changed)


def edited_json(content: bytes, edits: Edits) -> bytes:
    value = json.loads(content)
    rngs = [random.Random(edit) for edit in edits]
    for rng in [rng for rng in rngs if rng.random() < 0.85]:
        value = edit_value(value, rng)
    content = json_bytes(value)
    for rng in [random.Random(edit) for edit in edits]:
        if rng.random() >= 0.85:
            content = edit_bytes(content, rng)
    return content


def edited_bytes(content: bytes, edits: Edits) -> bytes:
    for edit in edits:
        content = edit_bytes(content, random.Random(edit))
    return content


def edited_text(content: bytes, edits: Edits) -> bytes:
    lines = content.split(b"\n")
    for edit in edits:
        rng = random.Random(edit)
        kind, at = rng.randrange(5), rng.randrange(len(lines) + 1)
        if kind == 0:
            word = rng.choice(
                ("\0", "\ufeff", "a,b", "1 2 3", "#", '"', "road", "../x", "\u202e", "x" * 9999, "[", "{")
            )
            lines.insert(at, word.encode())
        elif kind == 1:
            lines[at:at] = [str(number).encode() for number in range(rng.choice((5, 300)))]
        elif kind == 2:
            lines = lines[:at]
        elif kind == 3:
            value = edit_value([{"name": "road", "id": 0, "color": [1, 2, 3]}, {"name": "sky", "id": 1}], rng)
            lines = [json_bytes(value if rng.random() < 0.5 else {"classes": value, "names": value})]
        else:
            lines = edit_bytes(b"\n".join(lines), rng).split(b"\n")
    return b"\n".join(lines)


def edited_png(content: bytes, edits: Edits) -> bytes:
    """Its chunks changed, with sums that fit."""
    chunks, at = [], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + length]])
        at += 12 + length
    flips = []
    for edit in edits:
        rng = random.Random(edit)
        kind = rng.randrange(6)
        chunk = rng.choice(chunks) if chunks else [b"IEND", b""]
        if kind == 0:
            flips.append(edit)
        elif kind == 1:
            head = bytearray(chunks[0][1]) if chunks else bytearray(13)
            place = rng.choice((0, 4))
            head[place : place + 4] = struct.pack(">I", rng.choice((0, 1, 31, 33, 30_000, 2**20, 2**31, 2**32 - 1)))
            if chunks:
                chunks[0][1] = bytes(head)
        elif kind == 2:
            chunk[1] = edit_bytes(chunk[1], rng)
        elif kind == 3 and chunks:
            chunks.remove(chunk)
        elif kind == 4:
            name = rng.choice((b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"acTL", b"eXIf", b"gAMA", b"IDAT", b"IHDR"))
            chunks.insert(rng.randrange(len(chunks) + 1), [name, rng.randbytes(rng.choice((0, 1, 6, 768, 3000)))])
        else:
            filler = [[b"teXt", b"k\0" + b"v" * 5] for _ in range(rng.choice((10, 3000)))]
            chunks[1:1] = filler
    stored = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return edited_bytes(content[:8] + stored, flips)
