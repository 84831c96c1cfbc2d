"""A flag that one thread sets while another computes, and that native code can check without Python.

A driver that watches the flag stops its forward pass within milliseconds after `set`; other drivers check it
between two passes, because the flag is an `Interrupt`.
"""

import ctypes


class StopFlag:
    """Callable: returns whether it is set. In memory it is a C string that is empty until then, so that
    native code can use C's `strlen` as the callback that tells it whether to stop."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        self.address = ctypes.addressof(self._text)
        """Address of the string; valid as long as this object lives."""

    def set(self) -> None:
        """Ask to stop as soon as possible."""
        self._text[0] = b"\1"

    def clear(self) -> None:
        """Reset the flag."""
        self._text[0] = b"\0"

    def __call__(self) -> bool:
        return self._text[0] != b"\0"
