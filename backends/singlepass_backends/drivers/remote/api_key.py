"""The API key of a remote server: from an environment variable or the system's keyring, never displayed."""

import logging
import os

from singlepass_backends.base import BackendError, Target
from singlepass_backends.drivers.remote.servers import is_local

KEYRING_SERVICE = "singlepass"
"""The service name in the system's keyring; the user name is the server's host."""

_log = logging.getLogger(__name__)


class Key:
    """The API key, readable only through `header`; its `repr` hides it."""

    def __init__(self, target: Target, host: str) -> None:
        """From the environment, else from the keyring. Raises BackendError `unauthorized` if the settings
        name a variable that is not set and the keyring has no key."""
        name = target.api_key_env
        self.source = f"the environment variable {name}" if name else "the system keyring"
        self._value = os.environ.get(name, "").strip() if name else ""
        if not self._value and (name or not is_local(host)):
            self._value = _from_keyring(host)
            if self._value:
                self.source = "the system keyring"
        if name and not self._value:
            raise BackendError(
                "unauthorized",
                f"The environment variable {name}, named by `api_key_env`, is not set where the engine was "
                f"started, and the system keyring has no key for {KEYRING_SERVICE!r}, user {host!r}. Set "
                "it, restart the editor from there, and run `singlepass engine stop`.",
            )
        if not self._value.isascii() or not self._value.isprintable():
            raise BackendError("unauthorized", f"The key in {self.source} has characters that no key has.")

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return f"<key from {self.source}>" if self._value else "<no key>"

    def header(self) -> dict[str, str]:
        """The `Authorization` header of a request; empty without a key."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def scrub(self, text: str) -> str:
        """`text` with the key removed, since some servers quote it in errors."""
        return text.replace(self._value, "[key]") if self._value else text


def _from_keyring(host: str) -> str:
    """A key from the system's keyring; empty if there is none or the package `keyring` is not installed."""
    try:
        import keyring  # pyright: ignore[reportMissingImports]

        value: object = keyring.get_password(KEYRING_SERVICE, host)  # pyright: ignore
    except Exception as error:  # there is no keyring, or it is locked
        _log.debug("no keyring: %s", type(error).__name__)
        return ""
    return value.strip() if isinstance(value, str) else ""
