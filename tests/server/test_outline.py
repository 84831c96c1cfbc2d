"""Outlines, language by language: signatures with their docs, names used, imports."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from singlepass.repository import parsing as module
from singlepass.repository.parsing import MAX_BYTES, language_of, outline

PYTHON = '''\
"""The module."""
LIMIT = 3
TOKEN = "do not show"
lower = 4
names: list[str] = []

@cache
class Store(Base, key=1):
    """Keeps things.

    More."""
    size: int = 0
    async def load(
        self,
        path: str,
    ) -> bytes:
        """Read one."""
        def inner(): ...
    @property
    def n(self): return 1
# What it does.
def _run(a=(1, 2), *b): pass  # not of maybe
if True:
    def maybe(): pass
type Alias = int
'''
JAVASCRIPT = """\
/**
 * Draws it.
 */
export default class View extends Base {
  static render(a, { b }) { const inner = () => 1; }
  get size() { return 1 }
}
// One.
export async function load(path) {}
export const LIMIT = 3, SECRET = "x";
const parse = (text) => { };
const local = 5;
exports.later = function (a) {};
function* items() {}
"""
TYPESCRIPT = """\
export interface Shape<T> extends Base { area(x: number): string; size: T }
export abstract class Box implements Shape<X> {
  private constructor(readonly a: B) { super() }
  abstract grow(): void;
  @dec() fill<T>(a?: T): Promise<T> { }
}
export type Id = { a: 1 } | B;
export enum Kind { A }
namespace Inner { export function deep() {} }
declare module 'x' { function typed(): void }
export const load = async <T>(
  a: T,
): Promise<T> => { return 1 };
"""
GO = """\
package p
// Open opens.
func Open(path string, n int) (*Store, error) { return nil, nil }
func (s *Store) Close() {}
// Store keeps.
type Store struct { A int }
type Reader interface { Read(x int) }
type ( ID int )
const Limit = 10
var global = map[string]int{}
"""
RUST = """\
/// Keeps.
#[derive(Debug)]
pub struct Store<T> { x: T }
impl<T> Read for Store<T> { fn read(&self) -> u8 where T: X { 1 } }
pub trait Read { fn read(&self) -> u8; }
mod inner { pub fn deep() {} }
pub const LIMIT: u8 = 1;
enum Kind { A }
macro_rules! make { () => {} }
"""
JAVA = """\
package p;
/** Keeps. */
@X(1) public class Store<T> extends Base implements Y {
  /** Loads. */
  @Override public static int load(int a) throws E { return 1; }
  Store() {}
  static final int LIMIT = 1; private int field;
  interface Inner { void deep(); }
  enum Kind { P, Q; void z() {} }
  record Pair(int a) {}
}
"""
C = """\
#ifndef A_H
#define A_H
#define LIMIT 3
#define SQUARE(x) ((x)*(x))
/* Opens. */
static int *open_it(int a, char *b) { return 0; }
int declared(void);
typedef struct point { int x; } point_t;
struct store { int a; };
struct only_named *p;
enum kind { A };
int variable;
#endif
"""
CPP = """\
namespace a {
// Keeps.
template <typename T> class Store : public Base {
 public:
  Store();
  int load(int x) const override;
  void inline_one() {}
  T field;
};
}
int a::Store::load(int x) const { return 1; }
using Id = int;
extern "C" { int from_c(); }
"""
CSHARP = """\
namespace N.M {
/// <summary>Keeps.</summary>
[X] public class Store<T> : Base {
  public int Load(int a) => 1;
  public int Size { get; set; }
  public Store() {}
  interface Inner { void Deep(); }
  enum Kind { X }
  delegate void Done(int a);
}
}
"""
RUBY = """\
# Outer.
module Outer
  class Store < Base
    LIMIT = 3
    # Loads.
    def load(a, b = 1)
      a
    end
    def self.make; end
  end
end
def top() end
"""
LUA = """\
--- Loads.
local function load(a) end
function M.save(x) end
function M:close(x) return 1 end
local LIMIT = 3
M.later = function(a) return a end
"""
BASH = """\
# Builds.
build() {
  echo
}
function clean {
  :
}
"""
KOTLIN = """\
data class Store(val a: Int) {
    fun load(x: Int): String {
        return ""
    }
}
fun top() = 1
"""

OUTLINES = [
    ("a.py", PYTHON, """\
LIMIT = 3
TOKEN
names: list[str]
class Store(Base, key=1)  # Keeps things.
  size: int = 0
  async def load(self, path: str) -> bytes  # Read one.
  def n(self)
def _run(a=(1, 2), *b)  # What it does.
def maybe()
type Alias = int"""),
    ("a.js", JAVASCRIPT, """\
class View extends Base  # Draws it.
  static render(a, { b })
  get size()
async function load(path)  # One.
const LIMIT = 3
const parse = (text)
exports.later = function (a)
function* items()"""),
    ("a.ts", TYPESCRIPT, """\
interface Shape<T> extends Base
  area(x: number): string
abstract class Box implements Shape<X>
  private constructor(readonly a: B)
  abstract grow(): void
  fill<T>(a?: T): Promise<T>
type Id = { a: 1 } | B
enum Kind
namespace Inner
  function deep()
module 'x'
  function typed(): void
const load = async <T>(a: T): Promise<T>"""),
    ("a.tsx", "export function View(p: P) { return <div/> }\n", "function View(p: P)"),
    ("a.go", GO, """\
func Open(path string, n int) (*Store, error)  # Open opens.
func (s *Store) Close()
Store struct  # Store keeps.
Reader interface
ID int
Limit = 10
global"""),
    ("a.rs", RUST, """\
pub struct Store<T>  # Keeps.
impl<T> Read for Store<T>
  fn read(&self) -> u8 where T: X
pub trait Read
  fn read(&self) -> u8
mod inner
  pub fn deep()
pub const LIMIT: u8 = 1
enum Kind
macro_rules! make"""),
    ("A.java", JAVA, """\
public class Store<T> extends Base implements Y  # Keeps.
  public static int load(int a) throws E  # Loads.
  Store()
  static final int LIMIT = 1
  interface Inner
    void deep()
  enum Kind
    void z()
  record Pair(int a)"""),
    ("a.h", C, """\
#define LIMIT 3
#define SQUARE(x)
static int *open_it(int a, char *b)  # Opens.
int declared(void)
typedef struct point { int x; } point_t
struct store
enum kind"""),
    ("a.cpp", CPP, """\
namespace a
  class Store : public Base  # Keeps.
    Store()
    int load(int x) const override
    void inline_one()
int a::Store::load(int x) const
using Id = int
int from_c()"""),
    ("A.cs", CSHARP, """\
public class Store<T> : Base  # Keeps.
  public int Load(int a)
  public int Size
  public Store()
  interface Inner
    void Deep()
  enum Kind
  delegate void Done(int a)"""),
    ("a.rb", RUBY, """\
module Outer  # Outer.
  class Store < Base
    LIMIT = 3
    def load(a, b = 1)  # Loads.
    def self.make
def top()"""),
    ("a.lua", LUA, """\
local function load(a)  # Loads.
function M.save(x)
function M:close(x)
local LIMIT = 3
M.later = function(a)"""),
    ("a.sh", BASH, "build()  # Builds.\nfunction clean"),
    ("a.kt", KOTLIN, "data class Store(val a: Int)\n  fun load(x: Int): String\nfun top() = 1"),
    ("a.sql", "CREATE TABLE IF NOT EXISTS users (\n id int\n);\n", "CREATE TABLE IF NOT EXISTS users"),
    ("a.py", "", ""),
    ("a.py", "\ufeffdef f(): pass\r\n", "def f()"),
    ("a.py", "def broken(:\n  x = (\ndef fine(a):\n  pass\n", "def broken\ndef fine(a)"),
]  # fmt: skip


def shown(path: str, text: str) -> str:
    found = outline(path, text.encode())
    assert found is not None
    lines = [
        "  " * one.depth + one.signature + (f"  # {one.doc}" if one.doc else "") for one in found.definitions
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(("path", "text", "expected"), OUTLINES, ids=lambda value: str(value)[:12].strip())
def test_definitions(path: str, text: str, expected: str) -> None:
    assert shown(path, text) == expected


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.py", PYTHON, "LIMIT TOKEN names Store size load n _run maybe Alias"),
        ("a.js", JAVASCRIPT, "View render size load LIMIT parse later items"),
        ("a.go", GO, "Open Close Store Reader ID Limit global"),
        ("a.rs", RUST, "Store - read Read read inner deep LIMIT Kind make"),
        ("a.c", C, "LIMIT SQUARE open_it declared point_t store kind"),
        ("a.cpp", CPP, "a Store Store load inline_one load Id from_c"),
        ("a.rb", RUBY, "Outer Store LIMIT load make top"),
        ("a.lua", LUA, "load save close LIMIT later"),
    ],
)
def test_names(path: str, text: str, expected: str) -> None:
    found = outline(path, text.encode())
    assert found is not None
    assert [one.name or "-" for one in found.definitions] == expected.split()


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.py", "import a, b.c as d\nfrom e import f, g as h\nfrom .i import (\n  j,  # k\n  l,\n)\n",
         "a b.c e.f e.g .i.j .i.l"),
        ("a.py", "from . import a\nfrom ..b import *\n# import c\ndef f():\n  import d\nfrom e \\\n import f",
         ".a ..b d e.f"),
        ("a.ts", "import x from './a';\nimport './b';\nexport * from '../c';\nconst d = require('d');\n"
         "import('e')\n"
         "// import './no'\nimport type { T } from \"f\"\n", "./a ./b ../c d e f"),
        ("a.go", 'import "a/b"\nimport (\n  x "c/d"\n  "fmt" // "no"\n)\n', "a/b c/d fmt"),
        ("a.rs", "mod a;\npub mod b;\nuse crate::c::{d, e::{self, F as G}, *};\nuse super::h;\n// mod no;\n",
         "mod_a mod_b crate::c::d crate::c::e crate::c::e::F crate::c super::h"),
        ("A.java", "import a.b.C;\nimport static d.E.f;\nimport g.*;\n", "a.b.C d.E.f g.*"),
        ("a.c", '#include "a.h"\n# include <b/c.h>\n/* #include "no.h" */\n', "a.h b/c.h"),
        ("A.cs", "using A.B;\nusing static C;\nusing (var d = e) {}\n", "A.B C"),
        ("a.rb", "require_relative '../a'\nrequire \"b/c\"\n", "require_relative_'../a require_\"b/c"),
        ("a.lua", "local a = require('x.y')\nrequire \"z\"\n", "x.y z"),
        ("a.sh", ". ./a.sh\nsource \"$DIR/b.sh\"\n", "./a.sh $DIR/b.sh"),
        ("a.proto", 'import "a/b.proto";\n', "a/b.proto"),
    ],
)  # fmt: skip
def test_imports(path: str, text: str, expected: str) -> None:
    found = outline(path, text.encode())
    assert found is not None
    assert [one.replace(" ", "_") for one in found.imports] == expected.split()


def test_names_in_comments_and_strings_are_not_used() -> None:
    found = outline("a.py", b'used = call("in_string")  # in_comment\n"""in_doc"""\nf"{ignored}"\n')
    assert found is not None
    assert set(found.references) - {"ignored"} == {"used", "call"}


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.txt", b"x"), ("README.md", b"# def f"), ("a.json", b"{}"), ("a.py", b"x = 1\0"),
        ("a.py", b"x = 1\n" * MAX_BYTES), ("Makefile", b"a:"), ("", b""),
    ],
)  # fmt: skip
def test_what_has_no_outline(path: str, data: bytes) -> None:
    assert outline(path, data) is None


@pytest.mark.parametrize("path", ["a.py", "a.js", "a.go", "a.rs", "A.java", "a.c", "a.rb"])
def test_without_its_grammar_a_language_has_the_plain_outline(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module._load.cache_clear()
    monkeypatch.setattr("importlib.import_module", lambda name: 1 / 0)
    try:
        found = outline(path, b"class Thing {\n  def f(x) {\n  }\n}\nimport a\nimport a.b\nmod c;\n")
    finally:
        module._load.cache_clear()
    assert found is not None
    assert [(one.name, one.depth) for one in found.definitions] == [("Thing", 0), ("f", 1)]
    assert "Thing" in found.references


def test_a_text_that_takes_too_long_has_the_plain_outline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARSE_S", -1.0)
    text = "def f(a):\n    pass\n" * 2_000
    found = outline("a.py", text.encode())
    assert found is not None
    assert found.definitions[0].signature == "def f(a)"
    monkeypatch.undo()
    assert shown("a.py", "def g(): pass\n") == "def g()"


PATHS = sorted(f"a{suffix}" for suffix in module._BY_SUFFIX)
pieces = st.sampled_from(
    [one for _, text, _ in OUTLINES for one in text.splitlines(keepends=True)]
    + ["(", ")", "{", "}", '"', "'", "/*", "*/", "<<", "`", "\\", "\ud800", "\u2028", "é", "\0"]
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PATHS), st.lists(pieces, max_size=25).map("".join) | st.text(max_size=50))
def test_no_text_raises_and_every_outline_is_plain_lines(path: str, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    found = outline(path, data)
    assert (found is None) == ("\0" in text)
    if found is None:
        return
    assert outline(path, data) == found
    assert list(found.references) == sorted(set(found.references))
    depth = -1
    for one in found.definitions:
        assert len((one.signature + one.doc).splitlines()) <= 1
        assert (one.signature + one.doc + one.name).encode()
        assert 0 <= one.depth <= depth + 1
        depth = one.depth


def test_every_language_by_its_name() -> None:
    assert language_of("x/Rakefile") == "ruby"
    assert language_of("x/A.PY") == "python"
    assert language_of("x/py") is None
