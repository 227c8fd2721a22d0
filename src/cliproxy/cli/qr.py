"""Addresses as QR codes, for the camera of another device."""

from __future__ import annotations

import segno

_BORDER = 2
# Black on white whatever the terminal's colours are: cameras want the dark parts dark.
_COLOURS, _PLAIN = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
_BLOCKS = (" ", "▄", "▀", "█")


def qr_code(text: str, columns: int, lines: int) -> str:
    """A QR code for a terminal of that size, "" when it would not fit. Two rows of it make one line."""
    code = segno.make_qr(text, error="l", boost_error=False)
    rows = [[bool(module) for module in row] for row in code.matrix_iter(border=_BORDER)]
    if len(rows[0]) > columns or (len(rows) + 1) // 2 > lines:
        return ""
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    drawn: list[str] = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        line = "".join(_BLOCKS[2 * above + below] for above, below in zip(upper, lower, strict=True))
        drawn.append(f"{_COLOURS}{line}{_PLAIN}")
    return "\n".join(drawn)
