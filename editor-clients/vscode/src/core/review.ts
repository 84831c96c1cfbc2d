/**
 * The hunks in review of one document, as values: moved by what is typed, found by place, drawn, taken back.
 *
 * The server tells the hunks of a document with `singlepass/hunks`, in places of the version it saw. Between two
 * such messages the client moves them itself, change by change. Positions are the protocol's: line and UTF-16
 * character.
 */

export interface Position {
  readonly line: number;
  readonly character: number;
}

export interface Range {
  readonly start: Position;
  readonly end: Position;
}

export interface Hunk {
  readonly id: number;
  readonly range: Range;
  readonly old: string;
  readonly new: string;
}

/** The notification `singlepass/hunks`. */
export interface HunksParams {
  readonly job: number;
  readonly uri: string;
  readonly version: number | null;
  readonly hunks: readonly Hunk[];
}

/** The notification `singlepass/preview`: the old lines of a hunk that is being written, and its new ones so far. */
export interface PreviewParams {
  readonly job: number;
  readonly uri: string;
  readonly version: number | null;
  /** Nothing when nothing is being written any more. */
  readonly range: Range | null;
  readonly lines: readonly string[];
}

/** One change of a document: this range became this text. */
export interface Change {
  readonly range: Range;
  readonly text: string;
}

/** The changes that made a version of the one before; each range is in the text before all of them. */
export interface Step {
  readonly version: number;
  readonly changes: readonly Change[];
}

/** A line of ghost text at the end of a line of the document. */
export interface Ghost {
  readonly line: number;
  readonly text: string;
}

const GHOST_CHARS = 160;

export function compare(a: Position, b: Position): number {
  return a.line - b.line || a.character - b.character;
}

/** Where hunks of an earlier version are after these changes; those whose text was changed have left review. */
export function move(hunks: readonly Hunk[], changes: readonly Change[]): Hunk[] {
  // From the bottom to the top, so that a change does not shift those still to come.
  const sorted = [...changes].sort((a, b) => compare(b.range.start, a.range.start));
  let moved = [...hunks];
  for (const change of sorted) {
    moved = moved.flatMap((hunk) => {
      const range = moveRange(hunk.range, change);
      return range ? [{ ...hunk, range }] : [];
    });
  }
  return moved;
}

/** The range after a change outside of it; nothing where the change went into it. */
function moveRange(range: Range, change: Change): Range | undefined {
  if (compare(change.range.start, range.end) >= 0) {
    return range;
  }
  if (compare(change.range.end, range.start) <= 0) {
    return { start: shift(range.start, change), end: shift(range.end, change) };
  }
  return undefined;
}

/** A position at or after the end of a change, after that change. */
function shift(position: Position, change: Change): Position {
  const lines = change.text.split(/\r\n|\r|\n/);
  const last = lines.at(-1) ?? "";
  const line = position.line + lines.length - 1 - (change.range.end.line - change.range.start.line);
  if (position.line !== change.range.end.line) {
    return { line, character: position.character };
  }
  const before = lines.length === 1 ? change.range.start.character : 0;
  return { line, character: before + last.length + position.character - change.range.end.character };
}

/** Hunks told for a version, moved through the steps that came after it. */
export function catchUp(params: HunksParams, steps: readonly Step[]): Hunk[] {
  let hunks = [...params.hunks];
  for (const step of steps) {
    if (params.version !== null && step.version > params.version) {
      hunks = move(hunks, step.changes);
    }
  }
  return hunks;
}

/** First and last line that a hunk's new text takes; the last before the first where it only removes. */
export function linesOf(hunk: Hunk): { first: number; last: number } {
  const { start, end } = hunk.range;
  return { first: start.line, last: end.character === 0 ? end.line - 1 : end.line };
}

/** The hunk at a line, or at the line above where it left nothing. */
export function hunkAt(hunks: readonly Hunk[], line: number): Hunk | undefined {
  const touching = hunks.filter((hunk) => {
    const { first, last } = linesOf(hunk);
    return first <= line && line <= last;
  });
  const removing = hunks.filter((hunk) => {
    const { first, last } = linesOf(hunk);
    return last < first && (line === first || line === first - 1);
  });
  return touching[0] ?? removing[0];
}

/** The next hunk below a line, else the first; upwards the next above, else the last. */
export function neighbour(hunks: readonly Hunk[], line: number, direction: 1 | -1): Hunk | undefined {
  const sorted = [...hunks].sort((a, b) => direction * compare(a.range.start, b.range.start));
  return sorted.find((hunk) => direction * (hunk.range.start.line - line) > 0) ?? sorted[0];
}

/** The text as it would be with all these hunks undone. */
export function textBefore(text: string, hunks: readonly Hunk[]): string {
  const starts = lineStarts(text);
  const offset = (position: Position) =>
    Math.min((starts[position.line] ?? text.length) + position.character, text.length);
  const sorted = [...hunks].sort((a, b) => compare(b.range.start, a.range.start));
  for (const hunk of sorted) {
    text = text.slice(0, offset(hunk.range.start)) + hunk.old + text.slice(offset(hunk.range.end));
  }
  return text;
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (const match of text.matchAll(/\r\n|\r|\n/g)) {
    starts.push(match.index + match[0].length);
  }
  return starts;
}

/**
 * The removed lines, as ghost text beside the lines that took their place.
 *
 * An editor's extensions cannot put lines between lines. So the first removed line stands beside the first new
 * one, and so on; those that are left over stand together beside the last.
 */
export function ghosts(hunk: Hunk): Ghost[] {
  if (hunk.old === "") {
    return [];
  }
  const removed = hunk.old
    .replace(/(\r\n|\r|\n)$/, "")
    .split(/\r\n|\r|\n/)
    .map((line) => line.trim());
  const { first, last } = linesOf(hunk);
  const n_new = last - first + 1;
  if (n_new <= 0) {
    return [{ line: Math.max(first - 1, 0), text: shorten(removed) }];
  }
  const found: Ghost[] = [];
  for (let i = 0; i < Math.min(n_new, removed.length); i++) {
    const texts = i === n_new - 1 ? removed.slice(i) : removed.slice(i, i + 1);
    if (texts.some((text) => text !== "")) {
      found.push({ line: first + i, text: shorten(texts) });
    }
  }
  return found;
}

/**
 * The newest line of a hunk that is being written, beside the line after which it will stand, and how many there are.
 *
 * Lines that the hunk repeats at its beginning are in the text already.
 */
export function writing(
  range: Range,
  lines: readonly string[],
  textOf: (line: number) => string,
): Ghost | undefined {
  const { start, end } = range;
  const n_old = end.line - start.line + (end.character > 0 ? 1 : 0);
  let n_same = 0;
  while (n_same < Math.min(n_old, lines.length) && textOf(start.line + n_same) === lines[n_same]) {
    n_same += 1;
  }
  const n_new = lines.length - n_same;
  const newest = lines.findLast((line) => line.trim() !== "");
  if (n_new === 0 || newest === undefined) {
    return undefined;
  }
  return { line: start.line + Math.max(n_same - 1, 0), text: shorten([`+${n_new}`, newest.trim()], "  ") };
}

function shorten(lines: readonly string[], between = " ⏎ "): string {
  const text = lines.filter((line) => line !== "").join(between);
  return text.length <= GHOST_CHARS ? text : `${text.slice(0, GHOST_CHARS - 1)}…`;
}

/** What a hunk did, as a diff for a hover. */
export function asDiff(hunk: Hunk): string {
  const lines = (text: string, mark: string) =>
    text === ""
      ? []
      : text
          .replace(/(\r\n|\r|\n)$/, "")
          .split(/\r\n|\r|\n/)
          .map((line) => mark + line);
  return [...lines(hunk.old, "-"), ...lines(hunk.new, "+")].join("\n");
}

/** `+3 −2`, as above a hunk. */
export function size(hunk: Hunk): string {
  const count = (text: string) =>
    text === "" ? 0 : text.replace(/(\r\n|\r|\n)$/, "").split(/\r\n|\r|\n/).length;
  return `+${count(hunk.new)} −${count(hunk.old)}`;
}
