"""Imports resolved among known files, and which files stand next to one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.repository.neighbours import Graph, neighbours, resolve
from singlepass.repository.outline import Definition, Outline

CASES = [
    # importer, language, import as written, known files, what is meant
    ("app/main.py", "python", "app.util", "app/util.py app/__init__.py other/util.py", "app/util.py"),
    ("app/main.py", "python", "app.util.load", "app/util.py app/__init__.py", "app/util.py"),
    ("app/main.py", "python", "app.sub", "app/sub/__init__.py app/__init__.py", "app/sub/__init__.py"),
    ("app/main.py", "python", "app.VERSION", "app/__init__.py", "app/__init__.py"),
    ("src/app/main.py", "python", "app.util", "src/app/util.py", "src/app/util.py"),
    ("a/x/m.py", "python", "lib.util", "a/x/lib/util.py b/lib/util.py", "a/x/lib/util.py"),
    ("app/main.py", "python", "json", "app/json.py app/__init__.py", ""),
    ("tools/run.py", "python", "helpers", "tools/helpers.py", "tools/helpers.py"),
    ("app/main.py", "python", "os.path", "app/os/path.py app/__init__.py app/os/__init__.py", ""),
    ("app/a/m.py", "python", ".b", "app/a/b.py app/b.py", "app/a/b.py"),
    ("app/a/m.py", "python", ".b.name", "app/a/b.py", "app/a/b.py"),
    ("app/a/m.py", "python", "..b.name", "app/b.py", "app/b.py"),
    ("app/a/m.py", "python", ".name", "app/a/__init__.py", "app/a/__init__.py"),
    ("app/a/m.py", "python", "..c", "app/c/__init__.py", "app/c/__init__.py"),
    ("m.py", "python", "....b", "b.py", ""),
    ("src/a.ts", "typescript", "./b", "src/b.ts b.ts", "src/b.ts"),
    ("src/a.ts", "typescript", "../b", "src/b.ts b.ts", "b.ts"),
    ("src/a.ts", "typescript", "./b.js", "src/b.ts", "src/b.ts"),
    ("src/a.js", "javascript", "./b.js", "src/b.js src/b.ts", "src/b.js"),
    ("src/a.tsx", "tsx", "./b", "src/b/index.tsx", "src/b/index.tsx"),
    ("src/a.tsx", "tsx", "@/lib/b", "src/lib/b.ts", "src/lib/b.ts"),
    ("src/a.ts", "typescript", "react", "src/react.ts", ""),
    (
        "cmd/m.go",
        "go",
        "example.com/x/y/store",
        "store/a.go store/b.go store/b_test.go",
        "store/a.go store/b.go",
    ),
    ("cmd/m.go", "go", "fmt", "fmt/a.go", ""),
    ("cmd/m.go", "go", "mine/internal/q", "internal/q/a.go", "internal/q/a.go"),
    ("src/main.rs", "rust", "mod a", "src/a.rs", "src/a.rs"),
    ("src/lib.rs", "rust", "mod a", "src/a/mod.rs", "src/a/mod.rs"),
    ("src/a.rs", "rust", "mod b", "src/a/b.rs src/b.rs", "src/a/b.rs"),
    ("x/src/a/b.rs", "rust", "crate::c::Thing", "x/src/c.rs y/src/c.rs", "x/src/c.rs"),
    ("src/a/b.rs", "rust", "super::c::f", "src/a/c.rs src/c.rs", "src/a/c.rs"),
    ("src/a/mod.rs", "rust", "self::c", "src/a/c.rs", "src/a/c.rs"),
    (
        "x/src/main.rs",
        "rust",
        "my_lib::store::Store",
        "my-lib/src/lib.rs my-lib/src/store.rs",
        "my-lib/src/store.rs",
    ),
    ("x/src/main.rs", "rust", "my_lib::Store", "my-lib/src/lib.rs", "my-lib/src/lib.rs"),
    ("x/src/main.rs", "rust", "std::fmt", "x/src/lib.rs", ""),
    (
        "a/src/p/M.java",
        "java",
        "p.q.Thing",
        "a/src/p/q/Thing.java b/src/p/q/Thing.java",
        "a/src/p/q/Thing.java",
    ),
    ("src/p/M.java", "java", "p.q.Thing.CONSTANT", "src/p/q/Thing.java", "src/p/q/Thing.java"),
    (
        "src/p/M.java",
        "java",
        "p.q.r.*",
        "src/p/q/r/A.java src/p/q/r/B.java",
        "src/p/q/r/A.java src/p/q/r/B.java",
    ),
    ("src/p/M.kt", "kotlin", "p.q.Thing", "src/p/q/Thing.java", "src/p/q/Thing.java"),
    ("src/a.c", "c", "a.h", "src/a.h include/a.h", "src/a.h"),
    ("src/a.c", "c", "lib/b.h", "include/lib/b.h", "include/lib/b.h"),
    ("src/a.cpp", "cpp", "../b.hpp", "b.hpp", "b.hpp"),
    ("src/a.c", "c", "stdio.h", "src/b.h", ""),
    (
        "A/M.cs",
        "csharp",
        "Acme.Store.Files",
        "src/Store/Files/A.cs src/Store/Files/B.cs",
        "src/Store/Files/A.cs src/Store/Files/B.cs",
    ),
    ("lib/a.rb", "ruby", "require_relative 'b/c", "lib/b/c.rb b/c.rb", "lib/b/c.rb"),
    ("bin/a.rb", "ruby", 'require "thing/c', "lib/thing/c.rb", "lib/thing/c.rb"),
    ("bin/a.rb", "ruby", "require 'json", "x/json.rb", ""),
    ("lua/a.lua", "lua", "x.b", "lua/x/b.lua", "lua/x/b.lua"),
    ("lua/a.lua", "lua", "x", "lua/x/init.lua", "lua/x/init.lua"),
    ("bin/a.sh", "bash", "./lib.sh", "bin/lib.sh", "bin/lib.sh"),
    ("bin/a.sh", "bash", "$HERE/../lib/x.sh", "lib/x.sh", "lib/x.sh"),
    ("a.proto", "proto", "x/b.proto", "x/b.proto", "x/b.proto"),
    ("a.sql", "sql", "b", "b.sql", ""),
]


@pytest.mark.parametrize(("path", "language", "name", "known", "expected"), CASES)
def test_imports(path: str, language: str, name: str, known: str, expected: str) -> None:
    outline = Outline(language, imports=(name,))
    assert resolve(path, outline, [path, *known.split()]) == tuple(expected.split())


LANGUAGES = sorted({case[1] for case in CASES})
written = st.text("ab./:-*'\" @$", max_size=12)


@given(st.sampled_from(LANGUAGES), st.lists(written), st.lists(st.text("ab/.", min_size=1, max_size=9)))
def test_no_import_raises_and_all_lead_to_known_files(
    language: str, imports: list[str], paths: list[str]
) -> None:
    found = resolve("a/b.py", Outline(language, imports=tuple(imports)), paths)
    assert set(found) <= set(paths)
    assert len(set(found)) == len(found)
    assert "a/b.py" not in found


def python(imports: str = "", defines: str = "", uses: str = "") -> Outline:
    defined = tuple(Definition(name, name) for name in defines.split())
    return Outline(
        "python", defined, tuple(sorted({*uses.split(), *defines.split()})), tuple(imports.split())
    )


FILES = {
    "app/__init__.py": python(),
    "app/store.py": python("app.model app.text", "Store open_store", "Model trim_text row col key"),
    "app/model.py": python(defines="Model Row"),
    "app/text.py": python(defines="trim_text"),
    "app/sibling.py": python(uses="row col key"),
    "app/other.py": python(uses="zzz"),
    "app/cli.py": python("app.store", uses="open_store Store"),
    "app/web.py": python("app.store", uses="Store"),
    "tests/test_store.py": python("app.store", "test_store", "Store"),
    "tests/test_model.py": python(),
}


@pytest.mark.parametrize(
    ("path", "limit", "expected"),
    [
        (
            "app/store.py",
            9,
            "app/model.py app/text.py tests/test_store.py app/cli.py app/web.py app/sibling.py",
        ),
        ("app/store.py", 3, "app/model.py app/text.py tests/test_store.py"),
        ("app/store.py", 0, ""),
        ("tests/test_store.py", 1, "app/store.py"),
        ("tests/test_model.py", 9, "app/model.py"),
        ("app/model.py", 9, "tests/test_model.py app/store.py"),
        ("unknown.py", 9, ""),
    ],
)
def test_the_nearest_first(path: str, limit: int, expected: str) -> None:
    assert neighbours(path, FILES, Graph(FILES, FILES), limit) == expected.split()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("src/a.c", "src/a.h tests/a_test.c"),
        ("src/a.h", "src/a.c tests/a_test.c"),
        ("pkg/b_test.go", "pkg/b.go"),
        ("ui/c.ts", "ui/c.spec.ts ui/c.test.tsx"),
        ("src/Thing.java", "test/ThingTest.java"),
        ("latest.py", ""),
        ("lib/d.rb", "spec/d_spec.rb"),
    ],
)
def test_counterparts(path: str, expected: str) -> None:
    known = (
        "src/a.c src/a.h tests/a_test.c pkg/b.go pkg/b_test.go ui/c.ts ui/c.spec.ts ui/c.test.tsx "
        "src/Thing.java test/ThingTest.java latest.py la.py lib/d.rb spec/d_spec.rb other/deep/in/x/a.h"
    )
    found = [one for one in Graph(known.split()).counterparts(path) if not one.startswith("other")]
    assert found == expected.split()


def test_a_file_that_changed_is_resolved_again() -> None:
    graph = Graph(FILES, FILES)
    graph.update("app/cli.py", python("app.model"))
    assert graph.imports["app/cli.py"] == ("app/model.py",)
    assert "app/cli.py" not in graph.importers["app/store.py"]
    assert "app/cli.py" in graph.importers["app/model.py"]
    fresh = Graph(FILES, {**FILES, "app/cli.py": python("app.model")})
    assert graph.imports == fresh.imports
    assert {path: sorted(found) for path, found in graph.importers.items() if found} == {
        path: sorted(found) for path, found in fresh.importers.items()
    }
