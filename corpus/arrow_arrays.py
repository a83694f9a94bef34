"""Arrow arrays over numpy's memory and from strings, by their buffers.

`pyarrow.array` imports pandas to see whether it was given something of it: 30 MiB and half a second in every worker process, for
a library that nothing here uses.

Source: https://arrow.apache.org/docs/format/Columnar.html#buffer-listing-for-each-layout
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

_MAX_OFFSET = np.iinfo(np.int32).max
_TYPES = {np.dtype(np.int32): pa.int32(), np.dtype(np.int64): pa.int64()}


def make_integers(values: np.ndarray) -> pa.Array:
    """Return int32 or int64 values as an array; the memory stays shared where it lies in one piece.

    Args:
        values: [values] int32 or int64.
    """
    return pa.Array.from_buffers(_TYPES[values.dtype], len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def make_booleans(values: np.ndarray) -> pa.BooleanArray:
    """Return truth values as an array of bits.

    Args:
        values: [values] bool.
    """
    bits = np.packbits(values, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def make_strings(texts: Sequence[str]) -> pa.StringArray:
    """Return texts as an array.

    Raises:
        UnicodeEncodeError: If a text holds half a surrogate pair, which no file can.
        OverflowError: If they take 2 GiB or more: offsets are int32.
    """
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    if offsets[-1] > _MAX_OFFSET:
        raise OverflowError(f"{len(texts)} texts take {offsets[-1]} bytes, an array of strings holds less than 2 GiB")
    places = pa.py_buffer(offsets.astype(np.int32))
    return pa.StringArray.from_buffers(len(encoded), places, pa.py_buffer(b"".join(encoded)))


def make_lists(offsets: np.ndarray, values: pa.Array) -> pa.ListArray:
    """Return the values cut into lists.

    Args:
        offsets: [lists + 1] int32: where each list begins, and where the last ends.
        values: All of them, one list after the other.
    """
    return pa.ListArray.from_arrays(make_integers(offsets), values)
