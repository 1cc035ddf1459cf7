"""A 64-bit hash of text that is the same on every machine and in every version, for a whole column at a time."""

import numpy as np
import polars as pl

_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # splitmix64, Steele et al. 2014
_FIRST_INVERSE, _SECOND_INVERSE = (np.uint64(pow(int(factor), -1, 2**64)) for factor in (_FIRST, _SECOND))
_WORD = 8
_TRIES = 1 << 14
_PLAIN = np.zeros(256, np.bool_)  # of bytes: neither white space nor quotes, nor what stands between fields or values
_PLAIN[[*range(ord("#"), ord("~"))]] = True
_PLAIN[[ord(sign) for sign in "',;|/:-_+&"]] = False


def hash_texts(texts: pl.Series) -> np.ndarray:
    """(row,) uint64 of a column of String; that of a missing text is that of the empty one.

    The text's UTF-8 is taken eight bytes at a time, each mixed with what came before, its length first. Texts of at
    most eight bytes of one length never meet.
    """
    offsets, content = _utf8(texts)
    starts, lengths = offsets[:-1], np.diff(offsets)
    state = _mixed(lengths.astype(np.uint64))
    words = np.ndarray((len(content) - _WORD + 1,), "<u8", content.data, strides=(1,))  # one begins at every byte
    rows = np.flatnonzero(lengths)
    place = 0
    while len(rows):
        left = lengths[rows] - place
        unused = np.uint64(8) * (np.uint64(_WORD) - np.minimum(left, _WORD).astype(np.uint64))
        word = words[starts[rows] + place] << unused >> unused
        state[rows] = _mixed(state[rows] ^ word)
        rows = rows[left > _WORD]
        place += _WORD
    return state


def texts_of(remainders: np.ndarray, divisor: int) -> list[str]:
    """Texts of eight letters and signs whose hashes leave these remainders (row,) when they are divided by `divisor`.

    Mixing is undone, so that no number of ids makes the search longer: one of 10,000 words or so is such a text.
    """
    draws = np.random.Generator(np.random.PCG64(divisor))
    return [_text_of(int(remainder), divisor, draws) for remainder in remainders]


def _text_of(remainder: int, divisor: int, draws: np.random.Generator) -> str:
    start = _mixed(np.array([_WORD], np.uint64))
    while True:
        factors = draws.integers(0, (2**64 - 1 - remainder) // divisor + 1, _TRIES, np.uint64)
        words = _unmixed(factors * np.uint64(divisor) + np.uint64(remainder)) ^ start
        letters = words[:, None].view(np.uint8)  # (try, 8)
        fit = np.flatnonzero(_PLAIN[letters].all(1))
        if len(fit):
            return str(letters[fit[0]].tobytes(), "ascii")


def _utf8(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """(row + 1,) int64 and (byte,) uint8, with a word of zeros after the last text."""
    array = texts.fill_null("").to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, content = array.buffers()
    places = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    used = np.frombuffer(content, np.uint8)[places[0] : places[-1]] if content else np.zeros(0, np.uint8)
    return places - places[0], np.concatenate([used, np.zeros(_WORD, np.uint8)])


def _mixed(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    mixed: np.ndarray = state ^ (state >> np.uint64(31))
    return mixed


def _unmixed(state: np.ndarray) -> np.ndarray:
    for shift, inverse in ((31, _SECOND_INVERSE), (27, _FIRST_INVERSE)):
        state = _unshifted(state, shift) * inverse
    return _unshifted(state, 30)


def _unshifted(state: np.ndarray, shift: int) -> np.ndarray:
    """The number x of which `state` is x ^ (x >> shift)."""
    found = state
    for _ in range(64 // shift):
        found = state ^ (found >> np.uint64(shift))
    return found
