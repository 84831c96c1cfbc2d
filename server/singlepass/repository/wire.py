"""The messages between the server and its indexer, apart from the indexer so that the server need not import
it."""

import msgspec


class Folder(msgspec.Struct, frozen=True):
    """A workspace folder, and the prefix of its files' paths in the prompt."""

    path: str
    prefix: str = ""


class Scan(msgspec.Struct, frozen=True, tag=True):
    """Walk the folders and outline new and changed files. Answered by `Scanned`."""

    folders: tuple[Folder, ...]
    ignore: tuple[str, ...] = ()


class Changed(msgspec.Struct, frozen=True, tag=True):
    """Files that were saved, created or deleted, as absolute paths. Not answered."""

    paths: tuple[str, ...]


class AskMap(msgspec.Struct, frozen=True, tag=True):
    """Build a map, unless the old one is still up to date. Answered by `MapBuilt`."""

    budget: int
    old: str = ""
    keep: str = ""
    """The file in which to store a new map for the next start."""


class AskNear(msgspec.Struct, frozen=True, tag=True):
    """Ask for the neighbours of a file (an absolute path). Answered by `Near`."""

    path: str
    limit: int


class Scanned(msgspec.Struct, frozen=True, tag=True):
    """A scan is done."""

    n_files: int
    n_outlined: int
    """Number of files that were new or changed."""
    ms: float
    problem: str = ""
    """The first ignore file that could not be used, and the number of others; empty if there is none."""


class MapBuilt(msgspec.Struct, frozen=True, tag=True):
    """A new map, or None if the old one stays."""

    text: str | None
    ms: float
    keep: str = ""
    """The file from the request, which identifies the folders of the map."""


class Near(msgspec.Struct, frozen=True, tag=True):
    """The neighbours of a file, the nearest first."""

    path: str
    near: tuple[str, ...]
    """Absolute paths."""
    complete: bool
    """False while a scan runs."""


Request = Scan | Changed | AskMap | AskNear
Reply = Scanned | MapBuilt | Near
