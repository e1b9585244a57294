"""Messages from a target's process: framed, so that whatever else is written there is noticed.

A frame is a mark, the length of the message (8 bytes), its SHA-256 (32 bytes) and the message, which is JSON.
"""

import hashlib
import json
from typing import Any, final

from refblo.errors import RefbloError

Message = dict[str, Any]

_MARK = b"refblo1:"
_HEAD = len(_MARK) + 8 + 32
CHANNEL_LOST = 70
"""The exit status of a target's process whose own channels were closed under it."""
LARGEST = 2**22
"""Bytes that a message may have: many times what the longest answer takes."""


@final
class GarbledError(RefbloError, ValueError):
    """What arrived is no frame."""


def framed(message: Message) -> bytes:
    """A message as bytes.

    Raises:
        GarbledError: if it is too long.
    """
    body = json.dumps(message, ensure_ascii=True).encode("ascii")
    if len(body) > LARGEST:
        raise GarbledError(
            f"message must have at most {LARGEST} bytes, got {len(body)}; shorten it"
        )
    return _MARK + len(body).to_bytes(8, "big") + hashlib.sha256(body).digest() + body


def parsed(data: bytes) -> tuple[Message, bytes] | None:
    """The first message and what comes after it; None while it is not complete.

    Raises:
        GarbledError: as soon as it can be seen that the data are no frame.
    """
    if data[: len(_MARK)] != _MARK[: len(data)]:
        raise GarbledError(f"a frame must begin with its mark, got {data[:40]!r}")
    if len(data) < _HEAD:
        return None
    length = int.from_bytes(data[len(_MARK) : len(_MARK) + 8], "big")
    if length > LARGEST:
        raise GarbledError(f"a frame must have at most {LARGEST} bytes, got {length}")
    if len(data) < _HEAD + length:
        return None
    body = data[_HEAD : _HEAD + length]
    if hashlib.sha256(body).digest() != data[_HEAD - 32 : _HEAD]:
        raise GarbledError("a frame must have the digest of its message, got another one")
    message = json.loads(body)
    if not isinstance(message, dict):
        raise GarbledError(f"a message must be an object, got {type(message).__name__}")
    return message, data[_HEAD + length :]
