"""A file's neighbours: the files that it imports, those that import it, its tests, its siblings.

Imports are resolved among the known files, without running or configuring anything. An import from outside
the repository resolves to nothing. If several files match, the nearest one to the importer is used.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from singlepass.repository.outline import Outline, Outlines, family

_MAX_OF_FOLDER = 12
"""If an import names a folder: maximum number of its files, sorted by name."""
_MIN_SHARED = 0.25
"""Minimum share of rare names that two siblings have in common to count as neighbours."""


class Graph:
    """The imports between known files. `update` resolves the imports of one of them."""

    def __init__(self, paths: Iterable[str], outlines: Outlines | None = None) -> None:
        self._paths = _Paths(paths)
        self.imports: dict[str, tuple[str, ...]] = {}
        self.importers: dict[str, dict[str, None]] = {}
        for path, outline in sorted((outlines or {}).items()):
            self.update(path, outline)

    def update(self, path: str, outline: Outline) -> None:
        """Resolve the imports of one known file, for the first time or again."""
        for other in self.imports.get(path, ()):
            self.importers[other].pop(path, None)
        found = resolve(path, outline, self._paths)
        self.imports[path] = found
        for other in found:
            self.importers.setdefault(other, {})[path] = None

    def counterparts(self, path: str) -> Iterator[str]:
        """The tests of a file, the file a test is of, a header's source and a source's header."""
        return self._paths.counterparts(path)

    def siblings(self, path: str) -> Sequence[str]:
        """The known files of the same folder, including the file itself."""
        return self._paths.folders.get(_folder(path), ())


def neighbours(file: str, outlines: Outlines, graph: Graph, limit: int) -> list[str]:
    """A file's nearest neighbours, the nearest first, at most `limit`.

    First the files that it imports, by how many of their names it uses; then its tests or what it tests; then
    the files that import it; then files of its folder that use the same names.
    """
    outline = outlines.get(file)
    if outline is None or limit <= 0:
        return []
    used = set(outline.references)
    own = {one.name for one in outline.definitions}
    groups: tuple[tuple[Iterable[str], Callable[[Outline], int]], ...] = (
        (graph.imports.get(file, ()), lambda other: _n_defined(other, used)),
        (graph.counterparts(file), lambda other: 0),
        (graph.importers.get(file, ()), lambda other: len(own.intersection(other.references))),
    )
    found: dict[str, None] = {}
    for paths, score in groups:
        near = [path for path in paths if path != file and path in outlines and path not in found]
        near.sort(key=lambda path: (-score(outlines[path]), _distance(file, path), path))
        found.update(dict.fromkeys(near))
        if len(found) >= limit:
            return list(found)[:limit]
    found.update(dict.fromkeys(_siblings(file, outlines, graph, found)))
    return list(found)[:limit]


def _n_defined(outline: Outline, names: set[str]) -> int:
    return len(names.intersection(one.name for one in outline.definitions))


def _siblings(file: str, outlines: Outlines, graph: Graph, found: Mapping[str, None]) -> list[str]:
    """Files of the same folder that share many rare names, which few of the folder's files use."""
    paths = [path for path in graph.siblings(file) if path in outlines][:200]
    if len(paths) < 2 or file not in paths:
        return []
    kin = family(outlines[file].language)
    names = {path: set(outlines[path].references) for path in paths}
    n_users: dict[str, int] = {}
    for path in paths:
        for name in names[path]:
            n_users[name] = n_users.get(name, 0) + 1
    rare = {name for name in names[file] if 1 < n_users[name] <= max(2, len(paths) // 2)}
    shared = {
        path: len(rare & names[path])
        for path in paths
        if path != file and path not in found and family(outlines[path].language) == kin
    }
    close = [path for path, n in shared.items() if n >= 3 and n >= _MIN_SHARED * len(rare)]
    return sorted(close, key=lambda path: (-shared[path], path))


def resolve(path: str, outline: Outline, paths: "_Paths | Iterable[str]") -> tuple[str, ...]:
    """The known files that a file imports, in the order of its imports, each once."""
    known = paths if isinstance(paths, _Paths) else _Paths(paths)
    resolver = _RESOLVERS.get(outline.language)
    if resolver is None:
        return ()
    found = dict.fromkeys(other for name in outline.imports for other in resolver(path, name, known))
    found.pop(path, None)
    return tuple(found)


# Paths.


class _Paths:
    """The known paths by name, folder, and folder's name."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.all = frozenset(paths)
        self.folders: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        self._folders_by_name: dict[str, list[str]] = {}
        self._by_subject: dict[str, list[str]] = {}
        for path in sorted(self.all):
            self.folders.setdefault(_folder(path), []).append(path)
            self._by_name.setdefault(_name(path), []).append(path)
            self._by_subject.setdefault(_subject(path)[0], []).append(path)
        for folder in self.folders:
            self._folders_by_name.setdefault(_name(folder), []).append(folder)

    def first(self, *candidates: str) -> str | None:
        """The first of the paths that is known."""
        return next((path for path in candidates if path in self.all), None)

    def ending(self, tail: str, near: str) -> str | None:
        """The known path that ends with these parts and is nearest to a file."""
        return _nearest(near, (path for path in self._by_name.get(_name(tail), ()) if _ends(path, tail)))

    def endings(self, tail: str) -> list[str]:
        """All known paths that end with these parts."""
        return [path for path in self._by_name.get(_name(tail), ()) if _ends(path, tail)]

    def folder_ending(self, tail: str, near: str) -> str | None:
        """The nearest folder with known files whose path ends with these parts."""
        same = self._folders_by_name.get(_name(tail), ())
        return _nearest(near, (folder for folder in same if _ends(folder, tail)))

    def counterparts(self, path: str) -> Iterator[str]:
        """Files of the same subject in another role: code and its tests, header and source."""
        subject, role = _subject(path)
        same = [one for one in self._by_subject.get(subject, ()) if one != path]
        same.sort(key=lambda one: (_distance(path, one), one))
        for one in same:
            _, other_role = _subject(one)
            near = _folder(one) == _folder(path)
            if (role == "test") != (other_role == "test") or (
                role != other_role and (near or _distance(path, one) <= 3)
            ):
                yield one


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _ends(path: str, tail: str) -> bool:
    return path == tail or path.endswith(f"/{tail}")


def _distance(one: str, other: str) -> int:
    """Number of folders between two paths."""
    a, b = one.split("/")[:-1], other.split("/")[:-1]
    n_shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return len(a) + len(b) - 2 * n_shared


def _nearest(near: str, paths: Iterable[str]) -> str | None:
    return min(paths, key=lambda path: (_distance(near, path), len(path), path), default=None)


def _joined(folder: str, relative: str) -> str:
    """A relative path joined to a folder; one that leads above the root matches no known path."""
    parts = folder.split("/") if folder else []
    for part in relative.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


_TEST_NAME = re.compile(
    r"^(?:test[_-](?P<a>.+)|(?P<b>.+?)(?:[._-](?:test|tests|spec|unittest)|(?<=[a-z0-9])(?:Tests?|Spec|IT)))$"
)
_HEADERS = frozenset({"h", "hh", "hpp", "hxx", "h++"})
_C_SOURCES = frozenset({"c", "cc", "cpp", "cxx", "c++", "m", "mm", "cu"})


def _subject(path: str) -> tuple[str, str]:
    """A file's subject with its kind of language, and its role: test, header or source."""
    stem, _, suffix = _name(path).rpartition(".")
    suffix = suffix.lower()
    kind = "c" if suffix in _HEADERS or suffix in _C_SOURCES else suffix[:2]
    match = _TEST_NAME.match(stem)
    if match is not None:
        return f"{(match['a'] or match['b']).lower()}.{kind}", "test"
    role = "header" if suffix in _HEADERS else "source"
    return f"{stem.removeprefix('_').lower()}.{kind}", role


# One resolver per language: (importer, import as written, known paths) → known paths.


def _python(path: str, name: str, known: _Paths) -> Iterator[str]:
    n_dots = len(name) - len(name.lstrip("."))
    parts = [part for part in name.split(".") if part]
    if n_dots:
        base = _joined(_folder(path), "/".join([".."] * (n_dots - 1))) if n_dots > 1 else _folder(path)
        for n_parts in (len(parts), len(parts) - 1):
            if n_parts >= 0:
                module = _joined(base, "/".join(parts[:n_parts]))
                found = known.first(f"{module}.py", f"{module}.pyi", f"{module}/__init__.py".lstrip("/"))
                if found:
                    yield found
                    return
        return
    for n_parts in (len(parts), len(parts) - 1):
        if n_parts < 1:
            return
        module = "/".join(parts[:n_parts])
        candidates = [
            one
            for tail in (f"{module}.py", f"{module}/__init__.py", f"{module}.pyi")
            for one in known.endings(tail)
            # A module's full name starts below a folder that is not a package.
            if known.first(f"{_root(one, tail)}__init__.py") is None or _root(one, tail) == ""
        ]
        found = _nearest(path, candidates)
        if found:
            yield found
            return


def _root(path: str, tail: str) -> str:
    return path[: len(path) - len(tail)]


_JS_SUFFIXES = (".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".svelte")


def _javascript(path: str, name: str, known: _Paths) -> Iterator[str]:
    stem = re.sub(r"\.(?:js|mjs|cjs|jsx)$", "", name)
    tails = [name, *(stem + suffix for suffix in _JS_SUFFIXES), *(name + suffix for suffix in _JS_SUFFIXES)]
    tails += [f"{name}/index{suffix}" for suffix in _JS_SUFFIXES]
    if name.startswith("."):
        folder = _folder(path)
        found = next((one for tail in tails if (one := _joined(folder, tail)) in known.all), None)
    else:
        # The usual aliases of the source folder; anything else is a package.
        alias = re.match(r"[@~#]?/|src/", name)
        if alias is None:
            return
        n_cut = 0 if alias[0] == "src/" else alias.end()
        hits = (known.ending(tail[n_cut:], path) for tail in tails)
        found = next((one for one in hits if one), None)
    if found:
        yield found


def _go(path: str, name: str, known: _Paths) -> Iterator[str]:
    parts = name.split("/")
    dotted = "." in parts[0]
    for start in range(len(parts)):
        tail = parts[start:]
        # The standard library's packages have one or two parts and no dot.
        if not dotted and len(tail) < 2:
            return
        folder = known.folder_ending("/".join(tail), path)
        if folder is not None:
            files = [one for one in known.folders[folder] if one.endswith(".go")]
            yield from [one for one in files if not one.endswith("_test.go")][:_MAX_OF_FOLDER]
            return


def _rust(path: str, name: str, known: _Paths) -> Iterator[str]:
    folder, stem = _folder(path), _name(path).removesuffix(".rs")
    own = folder if stem in ("mod", "lib", "main") else f"{folder}/{stem}".lstrip("/")
    if name.startswith("mod "):
        module = _joined(own, name[4:])
        found = known.first(f"{module}.rs", f"{module}/mod.rs")
        if found:
            yield found
        return
    parts = name.removeprefix("::").split("::")
    if parts[0] in ("self", "super"):
        base = own
        while parts and parts[0] in ("self", "super"):
            if parts[0] == "super":
                base = _folder(base)
            parts = parts[1:]
    elif parts[0] == "crate":
        base, parts = _crate_root(folder), parts[1:]
    else:
        # Another crate of the workspace, or a module declared here.
        crate = next(
            (one for tail in (parts[0], parts[0].replace("_", "-")) if (one := _crate(tail, path, known))),
            None,
        )
        base, parts = (crate, parts[1:]) if crate is not None else (own, parts)
        if crate is not None and not any(_rust_module(base, parts, known)):
            yield from filter(None, [known.first(f"{base}/lib.rs")])
            return
    yield from _rust_module(base, parts, known)


def _rust_module(base: str, parts: Sequence[str], known: _Paths) -> Iterator[str]:
    for n_parts in range(len(parts), 0, -1):
        module = _joined(base, "/".join(parts[:n_parts]))
        found = known.first(f"{module}.rs", f"{module}/mod.rs")
        if found:
            yield found
            return


def _crate_root(folder: str) -> str:
    parts = folder.split("/")
    return "/".join(parts[: len(parts) - parts[::-1].index("src")]) if "src" in parts else folder


def _crate(name: str, near: str, known: _Paths) -> str | None:
    found = known.ending(f"{name}/src/lib.rs", near)
    return _folder(found) if found else None


def _java(path: str, name: str, known: _Paths) -> Iterator[str]:
    parts = name.split(".")
    if parts[-1] == "*":
        folder = known.folder_ending("/".join(parts[:-1]), path)
        if folder is not None and len(parts) > 2:
            yield from known.folders[folder][:_MAX_OF_FOLDER]
            return
        parts = parts[:-1]
    suffix = "." + path.rpartition(".")[2]
    for n_parts in range(len(parts), max(1, len(parts) - 2), -1):
        tail = "/".join(parts[:n_parts])
        for one in dict.fromkeys((suffix, ".java", ".kt", ".scala")):
            found = known.ending(tail + one, path)
            if found:
                yield found
                return


def _csharp(path: str, name: str, known: _Paths) -> Iterator[str]:
    """Namespaces match folders only by convention, so at least two parts must agree."""
    parts = name.split(".")
    for one, other in pairwise(range(len(parts) + 1)):
        tail = "/".join(parts[one:])
        folder = known.folder_ending(tail, path) if len(parts) - other >= 1 else None
        if folder is not None:
            yield from [file for file in known.folders[folder] if file.endswith(".cs")][:_MAX_OF_FOLDER]
            return


def _c(path: str, name: str, known: _Paths) -> Iterator[str]:
    tail = _joined("", name.replace("../", ""))
    found = known.first(_joined(_folder(path), name)) or (known.ending(tail, path) if tail else None)
    if found:
        yield found


def _ruby(path: str, name: str, known: _Paths) -> Iterator[str]:
    how, _, what = name.replace("(", " ").replace('"', "'").partition("'")
    tail = what if what.endswith(".rb") else f"{what}.rb"
    if how.strip() == "require_relative":
        found = known.first(_joined(_folder(path), tail))
    else:
        found = known.first(f"lib/{tail}") or known.ending(f"lib/{tail}", path)
        if found is None and "/" in tail:
            found = known.ending(tail, path)
    if found:
        yield found


def _lua(path: str, name: str, known: _Paths) -> Iterator[str]:
    module = name.replace(".", "/")
    for tail in (f"{module}.lua", f"{module}/init.lua"):
        if found := known.ending(tail, path):
            yield found
            return


def _by_path(path: str, name: str, known: _Paths) -> Iterator[str]:
    """A path, relative to the file or, if it starts with a shell variable, matched by its end."""
    tail = re.sub(r"^.*[})]/|^.*\$\w+/|^package:[^/]+/", "", name)
    found = known.first(_joined(_folder(path), tail))
    if found is None:
        plain = _joined("", tail.replace("../", ""))
        found = known.ending(plain, path) if plain else None
    if found:
        yield found


_RESOLVERS: dict[str, Callable[[str, str, _Paths], Iterator[str]]] = {
    "python": _python,
    **dict.fromkeys(("javascript", "typescript", "tsx", "vue", "svelte"), _javascript),
    "go": _go,
    "rust": _rust,
    **dict.fromkeys(("java", "kotlin", "scala", "groovy"), _java),
    "csharp": _csharp,
    **dict.fromkeys(("c", "cpp", "objc"), _c),
    "ruby": _ruby,
    "lua": _lua,
    **dict.fromkeys(("bash", "php", "dart", "proto", "zig"), _by_path),
}
