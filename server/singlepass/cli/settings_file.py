"""Writes a target into the user's settings file and leaves everything else in it unchanged.

Comments, order, blank lines, line ends and a byte order mark are kept. Before the file is replaced, the new
text is parsed, and must differ from the old settings only in the target. The file is replaced atomically, and
not if somebody else wrote it meanwhile. If it is a link, the file that it points to is replaced.
"""

import copy
import os
import tempfile
import tomllib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, cast

_IDENTITY = ("backend", "url", "api_key_env")
"""The fields that, besides `model`, determine which model a target uses; none is needed for a file or
folder."""
_BOM = "\ufeff"


class SettingsError(Exception):
    """The settings could not be read or changed; the message tells the user why."""


class SettingsFile:
    """The user's settings file, read once and written at most once."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsError for a file that cannot be read."""
        self.path = path
        self._real = Path(os.path.realpath(path))
        self._before = self._read()
        try:
            text = (self._before or b"").decode("utf-8")
            self._has_bom, self._text = text.startswith(_BOM), text.removeprefix(_BOM)
            self._values = tomllib.loads(self._text)
        except (ValueError, RecursionError) as error:
            raise SettingsError(
                f"The settings in {path} cannot be read: {error}. Correct them first."
            ) from None

    @property
    def default(self) -> dict[str, Any]:
        """The table `[target]`; empty if it names neither a model nor a server."""
        table = self._values.get("target")
        values = cast("dict[str, Any]", table) if isinstance(table, dict) else {}
        return values if values.get("model") or values.get("url") else {}

    def add(self, name: str, model: str) -> dict[str, Any]:
        """Make the model at a path the target `[targets.NAME]`; returns the fields of a different model that
        it replaces."""
        return self._point(("targets", name), model)

    def make_default(self, name: str, model: str) -> dict[str, Any]:
        """Make the model at a path the default target, `[target]`; returns the fields of a different model
        that it replaces.

        A `[targets.NAME]` with nothing but the same model is removed as redundant.
        """
        targets = self._values.get("targets")
        twice = isinstance(targets, dict) and cast("dict[str, Any]", targets).get(name) == {"model": model}
        return self._point(("target",), model, drop=name if twice else "")

    def _point(self, keys: tuple[str, ...], model: str, drop: str = "") -> dict[str, Any]:
        wanted = copy.deepcopy(self._values)
        table = wanted
        for key in keys:
            inner: Any = table.setdefault(key, {})
            if not isinstance(inner, dict):
                raise SettingsError(f"`{'.'.join(keys)}` in {self.path} is not a table. Correct it first.")
            table = cast("dict[str, Any]", inner)
        was = {key: table[key] for key in ("model", *_IDENTITY) if key in table}
        is_same = was.get("model") == model and was.get("backend", "mlx") in ("llama_cpp", "mlx")
        if is_same and not drop:
            return {}
        _set(table, model)
        if drop:
            del wanted["targets"][drop]
            if not wanted["targets"]:
                del wanted["targets"]
        text = self._edited(keys, model, drop)
        try:
            is_meant = tomllib.loads(text) == wanted
        except ValueError:
            is_meant = False
        if not is_meant:
            raise self._by_hand(keys, model, "it would change other settings too")
        self._write(text, wanted)
        return {} if is_same else was

    def _edited(self, keys: tuple[str, ...], model: str, drop: str) -> str:
        """The new text of the file: an existing table is edited in place, a new one is added at the end."""
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        try:
            document: Any = tomlkit.parse(self._text)
            table = document
            for key in keys:
                table = table.get(key) if table is not None else None
            if table is not None:
                _set(table, model)
            if drop:
                del document["targets"][drop]
                if not document["targets"]:
                    del document["targets"]
            text = tomlkit.dumps(document)
            if table is None:
                heading = ".".join(tomlkit.key(key).as_string() for key in keys)
                end = "" if not text else "\n" if text.endswith("\n") else "\n\n"
                text += f"{end}[{heading}]\n{tomlkit.dumps({'model': model})}"
        except (TOMLKitError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._by_hand(keys, model, f"it cannot be edited ({error})") from None
        if "\r\n" in self._text and "\n" not in self._text.replace("\r\n", ""):
            text = text.replace("\r\n", "\n").replace("\n", "\r\n")
        return text

    def _write(self, text: str, wanted: dict[str, Any]) -> None:
        data = ((_BOM if self._has_bom else "") + text).encode()
        temporary: Path | None = None
        try:
            self._real.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(prefix=f".{self._real.name}.", dir=self._real.parent)
            temporary = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            mode = self._real.stat().st_mode if self._before is not None else 0o644
            temporary.chmod(mode & 0o777)
            if self._read() != self._before:
                raise SettingsError(f"{self.path} was changed by another program just now. Try again.")
            temporary.replace(self._real)
            temporary = None
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be written: {error.strerror or error}.") from None
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
        self._before, self._text, self._values = data, text, wanted

    def _read(self) -> bytes | None:
        try:
            return self._real.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SettingsError(f"The settings in {self.path} cannot be read: {error.strerror}.") from None

    def _by_hand(self, keys: tuple[str, ...], model: str, why: str) -> SettingsError:
        return SettingsError(
            f"{self.path} was not changed, because {why}. Edit it yourself: "
            f"in `[{'.'.join(keys)}]`, `model = '{model}'`"
        )


def _set(table: MutableMapping[str, Any], model: str) -> None:
    for key in _IDENTITY:
        if key in table:
            del table[key]
    table["model"] = model
