/** What past jobs cost: read from `singlepass/timings`, shown as a page. */

import { escapeHtml } from "./html";
import { type History, renderHistory } from "./stats";

export interface Run {
  readonly job: number;
  readonly uri: string;
  readonly title: string;
  readonly outcome: string;
  readonly message: string;
  readonly total_ms: number;
  readonly ttft_ms: number | null;
  readonly prefill_ms: number | null;
  readonly n_prefilled: number | null;
  readonly n_cached: number | null;
  readonly n_decoded: number | null;
  readonly decode_rate: number | null;
  readonly n_applied: number;
  readonly n_rejected: number;
  readonly miss: string;
  readonly inferred: readonly string[];
  readonly target: string;
  readonly why: string;
}

export const MAX_RUNS = 50;

type Json = Readonly<Record<string, unknown>>;

function object(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** The run that a `singlepass/timings` notification tells of. */
export function runFrom(params: unknown): Run {
  const given = object(params);
  const timings = object(given.timings);
  const target = object(given.target);
  const n_decoded = number(timings.n_decoded);
  const decode_ms = number(timings.decode_ms);
  return {
    job: number(given.job) ?? 0,
    uri: text(given.uri),
    title: text(given.title),
    outcome: text(given.outcome),
    message: text(given.message),
    total_ms: number(given.total_ms) ?? 0,
    ttft_ms: number(given.ttft_ms),
    prefill_ms: number(timings.prefill_ms),
    n_prefilled: number(timings.n_prefilled),
    n_cached: number(timings.n_cached),
    n_decoded,
    decode_rate: n_decoded && decode_ms ? (n_decoded / decode_ms) * 1000 : null,
    n_applied: number(given.n_applied) ?? 0,
    n_rejected: number(given.n_rejected) ?? 0,
    miss: text(given.miss),
    inferred: Array.isArray(timings.inferred) ? timings.inferred.map(String) : [],
    target: [text(target.name), text(target.model), text(target.device)].filter((part) => part).join(" · "),
    why: text(target.why),
  };
}

/** The newest first, the oldest forgotten. */
export function addRun(runs: readonly Run[], run: Run): Run[] {
  return [run, ...runs].slice(0, MAX_RUNS);
}

function seconds(ms: number | null): string {
  return ms === null ? "–" : `${(ms / 1000).toFixed(2)} s`;
}

function count(value: number | null): string {
  return value === null ? "–" : value.toLocaleString("en-US");
}

function fileName(uri: string): string {
  const name = uri.split("/").at(-1) ?? "";
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

function row(run: Run): string {
  const cells = [
    `<td>${escapeHtml(run.title)}<br><small>${escapeHtml(fileName(run.uri))}</small></td>`,
    `<td class="${escapeHtml(run.outcome)}">${escapeHtml(run.outcome)}</td>`,
    ...[
      seconds(run.ttft_ms),
      seconds(run.prefill_ms),
      count(run.n_prefilled),
      count(run.n_cached),
      run.decode_rate === null ? "–" : `${run.decode_rate.toFixed(0)} tok/s`,
      count(run.n_decoded),
      seconds(run.total_ms),
    ].map((cell) => `<td class="number">${cell}</td>`),
    `<td class="number">${run.n_applied}${run.n_rejected ? ` (${run.n_rejected} rejected)` : ""}</td>`,
    `<td>${escapeHtml(run.target)}${run.why ? `<br><small>${escapeHtml(run.why)}</small>` : ""}</td>`,
  ];
  const notes = [
    run.outcome === "done" ? "" : run.message,
    run.miss,
    run.inferred.length > 0 ? `measured here, not reported by the server: ${run.inferred.join(", ")}` : "",
  ].filter((note) => note);
  const noted =
    notes.length > 0 ? `<tr class="note"><td colspan="11">${escapeHtml(notes.join("; "))}</td></tr>` : "";
  return `<tr>${cells.join("")}</tr>${noted}`;
}

/** The panel's page: no script, no resource from anywhere. Without a history it was not told yet. */
export function renderRuns(
  runs: readonly Run[],
  ahead: string,
  target: string,
  nonce: string,
  history?: History,
): string {
  const heads = [
    "",
    "",
    "first text",
    "prefill",
    "new",
    "cached",
    "decode",
    "tokens",
    "total",
    "hunks",
    "target",
  ];
  const table =
    runs.length === 0
      ? "<p>No request yet. Select code and ask.</p>"
      : `<table><tr>${heads.map((head) => `<th>${head}</th>`).join("")}</tr>${runs.map(row).join("")}</table>`;
  const policy = `default-src 'none'; style-src 'nonce-${nonce}'`;
  const style = `table{border-collapse:collapse}th,td{padding:3px 10px;text-align:left;vertical-align:top}
th{font-weight:normal;opacity:.7}tr{border-top:1px solid var(--vscode-widget-border,#8884)}
.number{text-align:right;white-space:nowrap}.note,tr.note{border-top:none}.note td{opacity:.8;font-style:italic}
.failed{color:var(--vscode-errorForeground)}`;
  return `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}"><title>singlepass</title>
<style nonce="${nonce}">${style}</style></head><body><h2>Last runs</h2>
<p>Target: <b>${escapeHtml(target || "chosen for each request")}</b>${ahead ? ` · ${escapeHtml(ahead)}` : ""} ·
<a href="command:singlepass.chooseTarget">select target</a> ·
<a href="command:singlepass.showContext">show context</a> ·
<a href="command:singlepass.showLog">show log</a> ·
<a href="command:singlepass.restart">restart server</a></p>
${table}${history ? renderHistory(history) : ""}</body></html>`;
}
