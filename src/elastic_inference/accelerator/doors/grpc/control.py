"""Frames that belong to no call: settings and pings, each answered at once."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_inference.accelerator.doors.grpc import frames
from elastic_inference.accelerator.doors.grpc.call import Call
from elastic_inference.accelerator.doors.grpc.frames import Code, Kind, Setting
from elastic_inference.accelerator.doors.grpc.sending import Sender
from elastic_inference.errors import Http2Error


def settings(sender: Sender, calls: Sequence[Call], flags: int, stream: int, payload: bytes) -> None:
    """Heed what a client takes, and say so; `calls` are those that are open."""
    if stream or len(payload) % 6 or (flags & frames.ACK and payload):
        raise Http2Error("a frame of settings is malformed", code=Code.FRAME_SIZE_ERROR)
    if flags & frames.ACK:
        return
    for name, value in frames.parse_settings(payload):
        if name == Setting.INITIAL_WINDOW_SIZE:
            sender.set_initial_window(value, calls)
        elif name == Setting.MAX_FRAME_SIZE:
            sender.set_frame_bytes(value)
    sender.control(frames.frame(Kind.SETTINGS, frames.ACK, 0))


def ping(sender: Sender, flags: int, stream: int, payload: bytes) -> None:
    """Answer a ping with the same bytes."""
    if stream or len(payload) != 8:
        raise Http2Error("a ping is malformed", code=Code.FRAME_SIZE_ERROR)
    if not flags & frames.ACK:
        sender.control(frames.frame(Kind.PING, frames.ACK, 0, payload))
