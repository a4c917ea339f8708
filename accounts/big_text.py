"""Text in large letters on a terminal: a device code that is read off one screen and typed on another.

The one idea: each letter is a picture of five rows, two of which share a line of half blocks. The rule: large
letters cannot be copied, so whoever shows them shows the text beside them.
"""

from __future__ import annotations

_ROWS = 5
# Five rows from the top, each a number whose bits are the pixels, most significant bit left.
_FONT = {
    "A": "699f9", "B": "e9e9e", "C": "78887", "D": "e999e", "E": "f8e8f", "F": "f8e88", "G": "78b97",
    "H": "99f99", "I": "72227", "J": "11196", "K": "9aca9", "L": "8888f", "M": "9ff99", "N": "9dfb9",
    "O": "69996", "P": "e9e88", "Q": "699b7", "R": "e9ea9", "S": "7861e", "T": "e4444", "U": "99996",
    "V": "99ac8", "W": "99ff9", "X": "99699", "Y": "9971e", "Z": "f124f", "0": "69d96", "1": "26227",
    "2": "e124f", "3": "e161e", "4": "99f11", "5": "f8e1e", "6": "68e96", "7": "f1244", "8": "69696",
    "9": "69716", "-": "00f00",
}  # fmt: skip
_WIDTH = 4
_HALVES = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}


def large(text: str) -> list[str] | None:
    """The lines of `text` in large letters; None if it has a character that there is no picture of."""
    pictures = [_FONT.get(character) for character in text.upper()]
    if not all(pictures):
        return None
    lines = []
    for upper in range(0, _ROWS, 2):
        letters = []
        for picture in filter(None, pictures):
            above = int(picture[upper], 16)
            below = int(picture[upper + 1], 16) if upper + 1 < _ROWS else 0
            bits = range(_WIDTH - 1, -1, -1)
            letters.append("".join(_HALVES[above >> bit & 1, below >> bit & 1] for bit in bits))
        lines.append("  ".join(letters).rstrip())
    return lines
