/** What past requests took: the answer of `singlepass.stats`, the figures of `singlepass stats`, as a part of a page. */

import { escapeHtml } from "./html";

type Json = Readonly<Record<string, unknown>>;
/** The middle and the tail of a figure. */
export interface Spread {
  readonly median: number;
  readonly p90: number;
  readonly p99: number;
}

export interface Summary {
  readonly n: number;
  readonly outcomes: readonly (readonly [string, number])[];
  readonly ttft_ms: Spread | undefined;
  readonly prefill_ms: Spread | undefined;
  readonly total_ms: Spread | undefined;
  readonly cached_share: Spread | undefined;
  readonly estimate_error: Spread | undefined;
  readonly prefill_rate: number | undefined;
  readonly decode_rate: number | undefined;
  /** Requests that read context after the click, by reason, the most frequent first. */
  readonly misses: readonly (readonly [string, number])[];
  readonly rejected: readonly (readonly [string, number])[];
  readonly n_applied: number;
  readonly n_edits: number;
  readonly n_kept: number;
  readonly n_undone: number;
  readonly n_changed: number;
}

/** The history of requests on this machine. */
export interface History {
  /** 0 is all of it. */
  readonly days: number;
  readonly all: Summary;
  readonly targets: readonly (readonly [string, Summary])[];
}

/** Why context had to be read after the click, in words. */
const REASONS: Readonly<Record<string, string>> = {
  new: "new to the prompt",
  changed: "changed since it was read",
  evicted: "had to make room for others",
  moved: "stood elsewhere before",
  restart: "the engine was started anew",
  unfinished: "the prewarm was not finished",
};

/** What the server answered; nothing of it is taken on trust. */
export function historyFrom(answer: unknown): History {
  const given = object(answer);
  const targets = Object.entries(object(object(given.by).target));
  return {
    days: number(given.days) ?? 0,
    all: summaryFrom(given.all),
    targets: targets.map(([name, value]) => [name, summaryFrom(value)] as const),
  };
}

/** A part of the panel's page. */
export function renderHistory({ days, all, targets }: History): string {
  const when = days === 0 ? "All requests" : `The last ${days} days`;
  const head = `<h2>${when}</h2>`;
  if (all.n === 0) {
    return `${head}<p>No request was kept. <code>singlepass.stats</code> in the settings says whether they are.</p>`;
  }
  const rows = [
    spreadRow("first text", all.ttft_ms, seconds),
    spreadRow("prefill", all.prefill_ms, seconds),
    spreadRow("total", all.total_ms, seconds),
    spreadRow("cached, at least", all.cached_share, percent),
    spreadRow("estimate off by", all.estimate_error, percent),
  ];
  const columns = ["", "median", "9 of 10", "99 of 100"];
  return `${head}<p>${escapeHtml(sentences(all).join(" · "))}</p>${table(columns, rows)}${byTarget(targets)}`;
}

function sentences(all: Summary): string[] {
  const judged = [`${all.n_kept} kept`, `${all.n_undone} undone`, `${all.n_changed} changed by hand`];
  const rates = [
    ...(all.prefill_rate ? [`prefill ${all.prefill_rate.toFixed(0)} tok/s`] : []),
    ...(all.decode_rate ? [`decode ${all.decode_rate.toFixed(0)} tok/s`] : []),
  ];
  return [
    `requests: ${listed(all.outcomes)}`,
    ...(rates.length > 0 ? [rates.join(", ")] : []),
    all.misses.length > 0
      ? `context read after the click: ${listed(all.misses.map(([name, n]) => [REASONS[name] ?? name, n]))}`
      : "no context read after the click",
    `hunks: ${all.n_applied} applied${all.rejected.length > 0 ? `, rejected: ${listed(all.rejected)}` : ""}`,
    ...(all.n_edits > 0 ? [`edits: ${judged.join(", ")}`] : []),
  ];
}

function byTarget(targets: History["targets"]): string {
  if (targets.length < 2) {
    return "";
  }
  const rows = targets.map(([name, one]) => [
    name,
    String(one.n),
    one.ttft_ms ? seconds(one.ttft_ms.median) : "–",
    one.cached_share ? percent(one.cached_share.median) : "–",
    one.misses.length > 0 ? listed(one.misses) : "–",
  ]);
  return table(["target", "requests", "first text", "cached", "misses"], rows);
}

function table(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const heads = columns.map((name) => `<th>${escapeHtml(name)}</th>`).join("");
  const cell = (value: string, at: number) =>
    `<td${at > 0 ? ' class="number"' : ""}>${escapeHtml(value)}</td>`;
  const body = rows.filter((row) => row.length > 0).map((row) => `<tr>${row.map(cell).join("")}</tr>`);
  return `<table><tr>${heads}</tr>${body.join("")}</table>`;
}

function spreadRow(name: string, spread: Spread | undefined, told: (value: number) => string): string[] {
  return spread ? [name, told(spread.median), told(spread.p90), told(spread.p99)] : [];
}

function listed(counts: Summary["misses"]): string {
  return counts.map(([name, n]) => `${n} ${name}`).join(", ");
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(0)}%`;
}

function summaryFrom(value: unknown): Summary {
  const given = object(value);
  const n = (name: string) => number(given[name]) ?? 0;
  return {
    n: n("n"),
    outcomes: counts(given.outcomes),
    ttft_ms: spread(given.ttft_ms),
    prefill_ms: spread(given.prefill_ms),
    total_ms: spread(given.total_ms),
    cached_share: spread(given.cached_share),
    estimate_error: spread(given.estimate_error),
    prefill_rate: number(given.prefill_rate),
    decode_rate: number(given.decode_rate),
    misses: counts(given.misses),
    rejected: counts(given.rejected),
    n_applied: n("n_applied"),
    n_edits: n("n_edits"),
    n_kept: n("n_kept"),
    n_undone: n("n_undone"),
    n_changed: n("n_changed"),
  };
}

function object(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function counts(value: unknown): (readonly [string, number])[] {
  return Object.entries(object(value)).map(([name, n]) => [name, number(n) ?? 0] as const);
}

function spread(value: unknown): Spread | undefined {
  const { median, p90, p99 } = object(value);
  const [middle, nine, all] = [number(median), number(p90), number(p99)];
  return middle === undefined || nine === undefined || all === undefined
    ? undefined
    : { median: middle, p90: nine, p99: all };
}
