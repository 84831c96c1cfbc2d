import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  asDiff,
  catchUp,
  ghosts,
  type Hunk,
  hunkAt,
  linesOf,
  move,
  neighbour,
  type Range,
  size,
  textBefore,
  writing,
} from "../../src/core/review";

function range(start: [number, number], end: [number, number]): Range {
  return { start: { line: start[0], character: start[1] }, end: { line: end[0], character: end[1] } };
}

function hunk(id: number, first: number, n_lines: number, old = "", text = "x\n".repeat(n_lines)): Hunk {
  return { id, range: range([first, 0], [first + n_lines, 0]), old, new: text };
}

describe("hunks move with what is typed", () => {
  const cases: [string, Range, string, Range | undefined][] = [
    ["a line above", range([0, 0], [0, 0]), "new\n", range([6, 0], [8, 0])],
    ["a line away above", range([0, 0], [1, 0]), "", range([4, 0], [6, 0])],
    ["letters on another line above", range([1, 2], [1, 3]), "abc", range([5, 0], [7, 0])],
    ["lines below", range([9, 0], [9, 0]), "new\n\n", range([5, 0], [7, 0])],
    ["right behind it", range([7, 0], [7, 0]), "new\n", range([5, 0], [7, 0])],
    ["right before it", range([5, 0], [5, 0]), "new\n", range([6, 0], [8, 0])],
    ["before it on its own line", range([4, 3], [5, 0]), "", range([4, 3], [6, 0])],
    ["inside", range([5, 1], [5, 1]), "y", undefined],
    ["over it", range([0, 0], [20, 0]), "", undefined],
    ["over its end", range([6, 0], [8, 0]), "", undefined],
    ["with other line ends", range([0, 0], [0, 0]), "a\r\nb\rc", range([7, 0], [9, 0])],
  ];
  for (const [what, place, text, expected] of cases) {
    it(what, () => {
      const [moved] = move([hunk(1, 5, 2)], [{ range: place, text }]);
      assert.deepEqual(moved?.range, expected);
    });
  }

  it("one that begins within a line moves with that line", () => {
    const inline = { ...hunk(1, 0, 0), range: range([3, 4], [3, 6]) };
    const [moved] = move([inline], [{ range: range([2, 5], [3, 1]), text: "ab" }]);
    assert.deepEqual(moved?.range, range([2, 10], [2, 12]));
  });

  it("several changes at once are all in the text before them", () => {
    const changes = [
      { range: range([0, 0], [0, 0]), text: "a\n" },
      { range: range([3, 0], [4, 0]), text: "" },
    ];
    const [moved] = move([hunk(1, 5, 1)], changes);
    assert.deepEqual(moved?.range, range([5, 0], [6, 0]));
  });

  it("those told for an earlier version catch up", () => {
    const steps = [
      { version: 7, changes: [{ range: range([0, 0], [0, 0]), text: "seen\n" }] },
      { version: 8, changes: [{ range: range([0, 0], [0, 0]), text: "new\n" }] },
    ];
    const params = { job: 1, uri: "file:///a", version: 7, hunks: [hunk(1, 5, 1)] };
    assert.deepEqual(catchUp(params, steps)[0]?.range, range([6, 0], [7, 0]));
    assert.deepEqual(catchUp({ ...params, version: null }, steps)[0]?.range, range([5, 0], [6, 0]));
  });
});

describe("finding hunks", () => {
  const hunks = [hunk(2, 10, 2), hunk(1, 3, 1), hunk(3, 20, 0, "gone\n", "")];

  it("by line", () => {
    assert.equal(hunkAt(hunks, 3)?.id, 1);
    assert.equal(hunkAt(hunks, 11)?.id, 2);
    assert.equal(hunkAt(hunks, 12), undefined);
    assert.equal(hunkAt(hunks, 19)?.id, 3);
    assert.equal(hunkAt(hunks, 20)?.id, 3);
  });

  it("the next and the previous, round about", () => {
    assert.equal(neighbour(hunks, 3, 1)?.id, 2);
    assert.equal(neighbour(hunks, 20, 1)?.id, 1);
    assert.equal(neighbour(hunks, 10, -1)?.id, 1);
    assert.equal(neighbour(hunks, 3, -1)?.id, 3);
    assert.equal(neighbour([], 3, 1), undefined);
  });

  it("the lines that they take", () => {
    assert.deepEqual(linesOf(hunk(1, 3, 2)), { first: 3, last: 4 });
    assert.deepEqual(linesOf({ ...hunk(1, 3, 2), range: range([3, 2], [3, 9]) }), { first: 3, last: 3 });
    assert.deepEqual(linesOf(hunk(1, 3, 0)), { first: 3, last: 2 });
  });
});

describe("what was there before", () => {
  it("puts the old text of every hunk back", () => {
    const hunks = [hunk(1, 1, 1, "old b\n", "B\n"), hunk(2, 3, 0, "d\ne\n", "")];
    assert.equal(textBefore("a\nB\nc\nf\n", hunks), "a\nold b\nc\nd\ne\nf\n");
  });

  it("keeps the line ends of Windows", () => {
    assert.equal(textBefore("a\r\nB\r\nc\r\n", [hunk(1, 1, 1, "b\r\n")]), "a\r\nb\r\nc\r\n");
  });

  it("reaches to the end of a text without a last line end", () => {
    const last = { ...hunk(1, 1, 0, "b"), range: range([1, 0], [1, 3]) };
    assert.equal(textBefore("a\nnew", [last]), "a\nb");
  });
});

describe("removed lines", () => {
  const cases: [string, Hunk, { line: number; text: string }[]][] = [
    ["none", hunk(1, 3, 1), []],
    ["one for one", hunk(1, 3, 1, "  old\n"), [{ line: 3, text: "old" }]],
    [
      "fewer than new ones",
      hunk(1, 3, 3, "a\nb\n"),
      [
        { line: 3, text: "a" },
        { line: 4, text: "b" },
      ],
    ],
    ["more than new ones", hunk(1, 3, 1, "a\n\nb\nc\n"), [{ line: 3, text: "a ⏎ b ⏎ c" }]],
    ["nothing new", hunk(1, 3, 0, "a\nb\n", ""), [{ line: 2, text: "a ⏎ b" }]],
    ["nothing new at the top", hunk(1, 0, 0, "a\n", ""), [{ line: 0, text: "a" }]],
    ["empty lines alone", hunk(1, 3, 1, "\n"), []],
  ];
  for (const [what, given, expected] of cases) {
    it(what, () => assert.deepEqual(ghosts(given), expected));
  }

  it("are cut where they are too long for a line", () => {
    const [ghost] = ghosts(hunk(1, 3, 1, `${"long ".repeat(100)}\n`));
    assert(ghost && ghost.text.length <= 160 && ghost.text.endsWith("…"));
  });

  it("and new ones as a diff", () => {
    assert.equal(asDiff(hunk(1, 3, 1, "a\nb\n", "c\n")), "-a\n-b\n+c");
    assert.equal(size(hunk(1, 3, 1, "a\nb\n", "c\n")), "+1 −2");
    assert.equal(size(hunk(1, 3, 0, "a", "")), "+0 −1");
  });
});

describe("a hunk that is being written", () => {
  const text = ["a", "b", "c", "d"];
  const place = range([1, 0], [3, 0]);
  const cases: [string, string[], { line: number; text: string } | undefined][] = [
    ["repeats what is there", ["b"], undefined],
    ["all of it", ["b", "c"], undefined],
    ["begins with something new", ["  x"], { line: 1, text: "+1  x" }],
    ["goes on after what it repeats", ["b", "x"], { line: 1, text: "+1  x" }],
    ["and after all of it", ["b", "c", "x", "y"], { line: 2, text: "+2  y" }],
    ["shows no empty line", ["x", ""], { line: 1, text: "+2  x" }],
    ["nor empty ones alone", ["", ""], undefined],
  ];
  for (const [what, lines, expected] of cases) {
    it(what, () =>
      assert.deepEqual(
        writing(place, lines, (line) => text[line] ?? ""),
        expected,
      ),
    );
  }

  it("up to the end of a text without a last line end", () => {
    assert.deepEqual(
      writing(range([3, 0], [3, 1]), ["d", "e"], (line) => text[line] ?? ""),
      {
        line: 3,
        text: "+1  e",
      },
    );
  });
});
