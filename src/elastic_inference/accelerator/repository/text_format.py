"""Protocol buffers in text form, read without knowing their message: fields by name, as JSON would have them."""

from __future__ import annotations

import re
from typing import Any

from elastic_inference.errors import InvalidInput

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)f?(?![\w.]))"""
    r"""|(?P<name>[-+]?[A-Za-z_]\w*(?:\.\w+)*)|(?P<sign>[{}<>\[\]:,;])"""
)
_INTEGER = re.compile(r"[-+]?(?:0x[0-9a-f]+|\d+)")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_WORDS = {"true": True, "false": False}
_CLOSES = {"{": "}", "<": ">"}
MAX_DEPTH = 32


def parse(text: str) -> dict[str, list[Any]]:
    """Read a message; each field is a list of its values: bool, int, float, str (enumerators too) or such a dict.

    Raises:
        InvalidInput: It is no text format; the error names the line.
    """
    return _Reader(text).message("", 0)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._kind: str | None = None
        self._token = ""
        self._next()

    def message(self, end: str, depth: int) -> dict[str, list[Any]]:
        """Read fields up to `end`, "" is the end of the text."""
        if depth > MAX_DEPTH:
            raise self._error(f"messages are nested more than {MAX_DEPTH} deep")
        fields: dict[str, list[Any]] = {}
        while self._token != end or (self._kind is None) is not (end == ""):
            if self._kind != "name":
                raise self._error("a field's name was expected")
            name = self._take()
            has_colon = self._accept(":")
            if self._token == "[":
                values = self._list(depth)
            elif self._token in _CLOSES and self._kind == "sign":
                values = [self._nested(depth)]
            elif has_colon:
                values = [self._scalar()]
            else:
                raise self._error(f"field {name} has no value")
            fields.setdefault(name, []).extend(values)
            self._accept(",")
            self._accept(";")
        return fields

    def _nested(self, depth: int) -> dict[str, list[Any]]:
        end = _CLOSES[self._take()]
        found = self.message(end, depth + 1)
        self._take()
        return found

    def _list(self, depth: int) -> list[Any]:
        self._take()
        values: list[Any] = []
        while self._token != "]":
            is_nested = self._token in _CLOSES and self._kind == "sign"
            values.append(self._nested(depth) if is_nested else self._scalar())
            if not self._accept(",") and self._token != "]":
                raise self._error("a list continues with ',' or ends with ']'")
        self._take()
        return values

    def _scalar(self) -> Any:
        kind, line = self._kind, self._error
        if kind == "string":
            parts = []
            while self._kind == "string":  # neighbours are one
                parts.append(_unescaped(self._take()[1:-1]))
            return "".join(parts)
        if kind == "name":
            word = self._take()
            return _WORDS.get(word, word)
        if kind != "number":
            raise line("a value was expected")
        digits = self._take().lower()
        try:
            if _INTEGER.fullmatch(digits):
                is_octal = re.fullmatch(r"[-+]?0\d+", digits) is not None
                return int(digits, 8 if is_octal else 0)
            return float(digits.removesuffix("f"))
        except ValueError as error:
            raise line(f"{digits!r:.40} is not a number") from error

    def _accept(self, sign: str) -> bool:
        if self._kind == "sign" and self._token == sign:
            self._take()
            return True
        return False

    def _take(self) -> str:
        token = self._token
        self._next()
        return token

    def _next(self) -> None:
        while self._place < len(self._text):
            found = _TOKEN.match(self._text, self._place)
            if found is None:
                raise self._error(f"{self._text[self._place : self._place + 10]!r} has no meaning here")
            self._place = found.end()
            if found.lastgroup is not None:
                self._kind, self._token = found.lastgroup, found[0]
                return
        self._kind, self._token = None, ""

    def _error(self, what: str) -> InvalidInput:
        line = self._text.count("\n", 0, self._place) + 1
        found = "the end of the text" if self._kind is None else repr(self._token[:40])
        return InvalidInput(f"line {line}: {what}, near {found}")


def _unescaped(text: str) -> str:
    def value(found: re.Match[bytes]) -> bytes:
        if found[1]:
            return bytes([int(found[1], 16)])
        return bytes([int(found[2], 8) & 255]) if found[2] else _ESCAPED.get(found[3], found[3])

    return _ESCAPE.sub(value, text.encode()).decode(errors="replace")
