"""A flag that one thread sets while another computes, and that native code can watch without Python.

`set` on the event loop's thread ends a forward pass of a driver that watches the flag within milliseconds;
others see it between two passes, because the flag is an `Interrupt`.
"""

import ctypes


class StopFlag:
    """Callable: whether it is set. In memory it is a C string, empty until it is set, so that C's `strlen` is
    the function that tells native code whether to stop."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        self.address = ctypes.addressof(self._text)
        """Of the string; valid for as long as this object lives."""

    def set(self) -> None:
        """Stop, as soon as possible."""
        self._text[0] = b"\1"

    def clear(self) -> None:
        """Go on."""
        self._text[0] = b"\0"

    def __call__(self) -> bool:
        return self._text[0] != b"\0"
