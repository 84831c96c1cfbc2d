"""The definition around a cursor, in many languages: cases mark their regions and cursors."""

import pytest
from singlepass.core.region import region_of

CASES = r'''
=== python async
  import a

> async def load(url):
*     async with get(url) as r:
*         return await r.json()

  x = 1

=== python decorators with arguments
  class A:
      x = 1

>     @app.get(
>         "/a",
>         name="a",
>     )
>     @cached
>     def a(self):
*         return 1

      y = 2

=== python cursor in decorator arguments
  x = 1
> @app.get(
*     "/a",
* )
> def a(self):
>     return 1

=== python long signature
> def f(
*     a: int,
*     b: dict[str, int] = {
*         "a": 1,
*     },
*     *args,
* ) -> dict[
*     str, int
* ]:
*     return a

  def g(): ...

=== python aligned signature
> def long_name(a, b,
*               c, d):
*     return a

  def g(): ...

=== python one-liner
  def f(): return 1
* def g(): return 2
  def h(): return 3

=== python one-liner in class
  class A:
      def f(self): return 1
*     def g(self): ...
      x = 2

=== python empty class
  class E(Exception): pass
* class F(E): pass
  x = 2

=== python match
> def f(x):
>     match x:
*         case Point(x=0):
*             return 1
>         case _:
*             return 2


=== python call at the end
> def f(x):
>     y = call(
*         x,
*     )
*     return Result(
*         y,
*     )


=== python call with class
> def f(x):
*     app = Flask(
*         "class",
*     )
*     return app


=== python text at column 0
> def f(x):
*     sql = """
* SELECT a
* FROM b
*     """
*     return run(sql)

  def g(): ...

=== python docstring words
> def f(x):
*     """Return the class to be used.
*
*     The function takes (a, b):
*         the def of it
*     """
*     return x


=== python nested then more
> def outer():
>     def inner():
>         return 1
>
*     x = inner()
*     return x


=== python lambda
  key = lambda x: x.a
+ z = 1

=== python dict at module
+ CONFIG = {
+     "a": 1,
+ }
  def f(): ...

=== python comment at column 0
> def f():
>     x = 1
* #    y = 2
*     return x

  def g(): ...

=== python if main
  def f():
      return 1

+ if __name__ == "__main__":
+     f()

=== python property pair
  class A:
      @property
      def x(self):
          return 1

>     @x.setter
>     def x(self, v):
*         self._x = v

=== python class attribute
> class A:
*     x = 1
*     y: int = 2
>
>     def f(self): ...


=== python overload
  @overload
  def f(x: int) -> int: ...
> @overload
* def f(x: str) -> str: ...
  def f(x): return x

=== python backslash
> def f(a):
>     if a and \
*         a.b:
*         return 1


=== python type hints end
> def f(a) -> Callable[
>     [int], str
> ]:
*     return a


=== js function
> export default async function load(id) {
*   const x = await get(id);
*   if (x) {
*     return x;
*   } else {
*     throw new Error("no");
*   }
* }

  const y = 1;

=== js arrow
> const add = (a, b) => {
*   return a + b;
* };


=== js arrow, expression
  const a = 1;
> const add = (a, b) =>
*   a + b;

  const c = 2;

=== js arrow on one line
  const a = 1;
* const add = (a, b) => a + b;
  const c = 2;

=== ts arrow with type
> export const add: Adder = async (
*   a: number,
*   b: number,
* ): Promise<number> => {
*   return a + b;
* };


=== js object methods
  export default {
    name: "x",
>   data() {
*     return { a: 1 };
*   },
    methods: {
>     load() {
*       this.x = 1;
*     },
      other() {},
    },
  };

=== js class
  class A extends B {
    #x = 1;

>   constructor(x) {
*     super(x);
*   }

>   get x() {
*     return this.#x;
*   }

>   static async *rows() {
*     yield 1;
*   }
  }

=== js doc comment
  const z = 1;

> /**
*  * Adds.
*  * @param a one
*  */
> function add(a) {
*   return a;
* }

=== js doc comment without stars
  const z = 1;

> /*
*   Adds.
*
*   All of it.
> */
> function add(a) {
*   return a;
* }

=== jsx component
> export function App({ items }) {
>   const [x, setX] = useState(0);
>   return (
*     <div>
*       {items.map((item) => (
*         <Item key={item.id} {...item} />
*       ))}
*     </div>
*   );
* }


=== jsx arrow component
  import x from "x";

> const App = ({ items }) => (
*   <div>
*     {items}
*   </div>
> );

  export default App;

=== jsx memo
> const App = memo(function App({ items }) {
*   return <div>{items}</div>;
* });


=== js promise chain
> function f() {
>   return get()
>     .then((x) => {
*       return x;
*     })
*     .catch(log);
> }

=== js test
  describe("a", () => {
>   it("adds", async () => {
*     expect(1).toBe(1);
*   });

    it("subtracts", () => {
      expect(1).toBe(1);
    });
  });

=== js template text at column 0
> function f() {
>   const x = `
* SELECT a
* FROM b
*   `;
*   return x;
> }

  const y = 1;

=== js express
> app.get("/a", (req, res) => {
*   res.send("a");
* });


=== ts interface
> export interface A<T> {
*   a: T;
*   b(x: number): void;
* }

=== ts type
> export type A = {
*   a: number;
* };

=== ts union type
> type A =
*   | "a"
*   | "b";

  const x = 1;

=== ts enum
> enum A {
*   B,
*   C,
* }

=== ts decorators
> @Component({
*   selector: "a",
> })
> export class A {
*   x = 1;
>
>   @Input() set y(v: number) {
>     this.x = v;
>   }
> }

=== go function
  package a

> // Get gets.
> func Get(ctx context.Context, id string) (*Row, error) {
* 	row, err := db.Get(id)
* 	if err != nil {
* 		return nil, err
* 	}
* 	return row, nil
* }

=== go method with long signature
> func (s *Store) Get(
* 	ctx context.Context,
* 	id string,
* ) (*Row, error) {
* 	return nil, nil
* }


=== go goroutine
> func main() {
> 	go func() {
* 		work()
* 	}()
* 	defer func() {
* 		done()
* 	}()
* }

=== go label and switch
> func f(x int) {
> 	switch x {
> 	case 1:
* 		g()
> 	default:
* 		h()
> 	}
> }

=== go import group
  package a

+ import (
+ 	"fmt"
+ )

=== go const group
+ const (
+ 	A = iota
+ 	B
+ )

=== go raw string
> func f() string {
> 	return `
* SELECT a
* `
> }

=== rust where
> pub fn f<T>(x: T) -> Result<T, Error>
> where
*     T: Clone,
* {
*     Ok(x.clone())
* }

=== rust impl
  impl<T> Display for A<T> {
>     fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
*         match self {
*             A::B => write!(f, "b"),
*             A::C { x } => {
*                 write!(f, "{x}")
*             }
*         }
*     }
  }

=== rust derive with arguments
  use a::b;

> #[derive(
*     Debug,
*     Clone,
> )]
> pub enum A {
*     B,
*     C(u8),
* }

=== rust test
  #[cfg(test)]
  mod tests {
      use super::*;

>     #[test]
>     fn works() {
*         assert_eq!(1, 1);
*     }
  }

=== rust macro
> macro_rules! a {
*     ($x:expr) => {
*         $x
*     };
> }

=== java method
  package a;

  public class A {
      private int x = 1;

>     /** Gets. */
>     @Override
>     @SuppressWarnings("a")
>     public List<String> get(int id) throws IOException {
*         try (var r = open()) {
*             return r.lines();
*         } catch (IOException e) {
*             throw e;
*         } finally {
*             done();
*         }
*     }

>     A() {
*         this.x = 2;
*     }
  }

=== java long signature
  class A {
>     public Map<String, List<Integer>> get(
*             int id,
*             String name)
*             throws IOException {
*         return null;
*     }
  }

=== java builder
  class A {
>     String get() {
*         return builder()
*                 .a(1)
*                 .build();
*     }
  }

=== java record
* public record A(int x, int y) {
>     A {
>         check(x);
>     }
> }

=== c function
  #include <a.h>

> static int f(int n)
> {
*     int x[] = {
*         1,
*     };
* #ifdef A
*     x[0] = 2;
* #endif
*     return x[0];
* }

  int g(void) {
      return 1;
  }

=== c struct
> typedef struct {
*     int a;
* } A;


=== c goto label
> int f(void) {
>     goto out;
* out:
*     return 1;
> }

  int g;

=== c comment
  int y;

> /* Adds.
*  * More.
*  */
> int add(int a, int b) {
*     return a + b;
* }

=== cpp template above
> template <typename T>
> T add(T a, T b) {
*     return a + b;
* }

=== cpp member outside
> A::A(int x)
>     : x_(x),
*       y_(0) {
*     f();
* }

  int A::get() const { return x_; }

=== cpp namespace
  namespace a {

> int f() {
*   return 1;
* }

  }  // namespace a

=== cpp class at access label
> class A {
>  public:
*   int x;
*  private:
*   int y;
* };

=== ruby
  class A < B
    attr_reader :x

>   def get(id)
>     rows.each do |row|
*       return row if row.id == id
*     end
*   rescue Error => e
*     nil
*   ensure
*     done
*   end

*   def self.call(*args) = new(*args).call
  end

=== ruby rspec
  describe "a" do
>   it "adds" do
*     expect(1).to eq(1)
*   end
  end

=== php
  <?php

  namespace A;

  class B extends C
  {
>     /**
>      * Gets.
>      */
>     #[Route("/a")]
>     public function get(int $id): ?Row
>     {
*         foreach ($this->rows as $row) {
*             if ($row->id === $id) {
*                 return $row;
*             }
*         }
*         return null;
*     }
  }

=== lua
  local M = {}

> function M.get(id)
>   for k, v in pairs(rows) do
*     if k == id then
*       return v
*     end
*   end
* end

> local function add(a, b)
*   return a + b
* end

> M.set = function(id)
*   rows[id] = 1
* end

  return M

=== kotlin
  class A(private val x: Int) {
>     suspend fun get(id: Int): Row? {
*         return rows.find { it.id == id }
*     }

*     fun one() = 1

>     fun two(
>         a: Int,
*     ): Int = a + 1

>     override fun three() =
*         rows.map { it.id }

      companion object {
          val X = 1
      }
  }

=== kotlin data class
> data class A(
*     val x: Int,
*     val y: Int,
* )

  val z = 1

=== swift
  struct A: View {
      @State private var x = 1

>     var body: some View {
*         VStack {
*             Text("a")
*         }
*     }

>     init?(x: Int) {
*         guard x > 0 else {
*             return nil
*         }
*         self.x = x
*     }

>     @discardableResult
>     func get(_ id: Int) throws -> Row {
*         return rows[id]
*     }
  }

=== yaml
  on: push
  jobs:
    build:
+     runs-on: ubuntu
      steps:
+       - run: make

=== markdown
  # Title

+ Some text (a class of its own).

  ## Next

=== html
  <html>
    <body>
+     <p>a</p>
    </body>
  </html>

=== shell
  set -e

> deploy() {
>   if [ -z "$1" ]; then
*     echo no
*     return 1
*   fi
*   cat <<EOF
* a
* EOF
* }

> function other {
*   echo 1
> }

  deploy "$@"

=== scala
  object A {
>   def get(id: Int): Option[Row] =
*     rows.find(_.id == id)

>   def two(x: Int) = {
*     x
*   }
  }

=== zig
> pub fn main() !void {
*     const x = 1;
* }

=== json
  {
    "a": {
+     "b": 1
    }
  }

=== toml
  [project]
+ name = "a"


=== dockerfile
  FROM a
+ RUN b && \
+     c

=== perl
> sub get {
*     my ($x) = @_;
*     return $x;
* }

  1;

=== r
> f <- function(x) {
*   x + 1
* }

=== vue options
  <script>
  export default {
    methods: {
>     async load() {
*       const x = await this.get({
*         a: 1,
*       });
*       this.x = x;
*     },
    },
  };
  </script>

=== python try in function with else
> def f():
>     try:
*         a()
*     except (
*         ValueError,
*         TypeError,
*     ):
*         b()
*     else:
*         c()


=== python set of calls
  class A:
>     def f(self):
>         self.x = Button(
*             self, text="a"
*         )
*         self.x.pack(side="left")
*         foo = (
*             1
*         )
*         if foo: bar()
*         with a as b: c()

      z = 1
'''
"""`>` marks the lines of a region, `*` those of them in which a cursor stands for it; `+` a cursor in no
definition."""


def cases() -> list[tuple[str, list[str]]]:
    parts = CASES.strip("\n").removeprefix("=== ").split("\n=== ")
    return [(part.split("\n")[0], part.split("\n")[1:]) for part in parts]


@pytest.mark.parametrize(("name", "rows"), cases())
def test_a_cursor_stands_for_the_whole_definition_around_it(name: str, rows: list[str]) -> None:
    marks, lines = [row[:1] or " " for row in rows], [row[2:] for row in rows]
    for n, mark in enumerate(marks):
        start, end = n, n + 1
        while start and marks[start - 1] in ">*":
            start -= 1
        while end < len(marks) and marks[end] in ">*":
            end += 1
        if mark in "*+":
            wanted = (start, end) if mark == "*" else None
            assert region_of(lines, n, n) == wanted, (name, lines[n])
