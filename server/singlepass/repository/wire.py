"""What the server and its indexer say to each other. The server starts without importing the indexer."""

import msgspec


class Folder(msgspec.Struct, frozen=True):
    """A workspace folder, and what its paths begin with in the prompt."""

    path: str
    prefix: str = ""


class Scan(msgspec.Struct, frozen=True, tag=True):
    """Walk the folders and outline what is new or changed. Answered by `Scanned`."""

    folders: tuple[Folder, ...]
    ignore: tuple[str, ...] = ()


class Changed(msgspec.Struct, frozen=True, tag=True):
    """Files that were saved, created or deleted, by their absolute paths. Not answered."""

    paths: tuple[str, ...]


class AskMap(msgspec.Struct, frozen=True, tag=True):
    """Build a map, unless the old one is still good enough. Answered by `MapBuilt`."""

    budget: int
    old: str = ""
    keep: str = ""
    """Where a new map is kept for the next start."""


class AskNear(msgspec.Struct, frozen=True, tag=True):
    """Which files stand near this one (an absolute path)? Answered by `Near`."""

    path: str
    limit: int


class Scanned(msgspec.Struct, frozen=True, tag=True):
    """A scan is over."""

    n_files: int
    n_outlined: int
    """Files that were new or changed."""
    ms: float
    problem: str = ""
    """The first ignore file that could not be used, and how many more there are; empty where all could."""


class MapBuilt(msgspec.Struct, frozen=True, tag=True):
    """A new map, or None where the old one stays."""

    text: str | None
    ms: float
    keep: str = ""
    """Where it is kept, as it was asked for, which says of what folders it is."""


class Near(msgspec.Struct, frozen=True, tag=True):
    """The files near one, the nearest first."""

    path: str
    near: tuple[str, ...]
    """Absolute paths."""
    complete: bool
    """False while a scan runs."""


Request = Scan | Changed | AskMap | AskNear
Reply = Scanned | MapBuilt | Near
