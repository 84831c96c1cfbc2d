/** What the status bar says: a state, changed by what the server tells, drawn as text. */

import type { Run } from "./runs";

/** The notification `singlepass/status`. */
export interface StatusParams {
  readonly job: number | null;
  readonly uri: string | null;
  readonly state: string;
  readonly message: string;
  readonly percent: number | null;
  /** Until the prompt is read. */
  readonly eta_ms: number | null;
  /** Tokens a second. */
  readonly decode_rate: number | null;
  readonly target: string | null;
}

export type Server = "starting" | "running" | "stopped" | "missing" | "installing" | "failed";

export interface Status {
  readonly server: Server;
  /** Jobs in flight, with what each was last said to do. */
  readonly jobs: ReadonlyMap<number, string>;
  /** `warming 63%` or `warm`; empty before the first word of it. */
  readonly ahead: string;
  readonly last: Run | undefined;
  readonly target: string;
  /** The user has named no model yet, so the demo model edits. */
  readonly isDemo: boolean;
  /** Hunks in review. */
  readonly n_hunks: number;
}

export interface Drawn {
  readonly text: string;
  readonly tooltip: string;
  readonly kind: "normal" | "warning" | "error";
}

export const NOTHING: Status = {
  server: "starting",
  jobs: new Map(),
  ahead: "",
  last: undefined,
  target: "",
  isDemo: false,
  n_hunks: 0,
};

const ENDS = new Set(["done", "failed", "cancelled"]);

/** What a status says about a prewarm; undefined if it is about something else. */
function aheadOf(params: StatusParams): string | undefined {
  if (params.state === "cold") {
    return ""; // what was cached is gone with its engine
  }
  return params.state === "warming" || params.state === "warm" ? params.message : undefined;
}

/** The state after a word of the server. */
export function told(status: Status, params: StatusParams): Status {
  const target = params.target ?? status.target;
  if (params.job === null) {
    const ahead = aheadOf(params) ?? status.ahead;
    const isAbout = params.state === "demo_model" || params.state === "target";
    const isDemo = isAbout ? params.state === "demo_model" : status.isDemo;
    return { ...status, ahead, target, isDemo };
  }
  const jobs = new Map(status.jobs);
  if (!ENDS.has(params.state)) {
    jobs.set(params.job, doing(params));
    return { ...status, jobs, target };
  }
  jobs.delete(params.job);
  // The job interrupted a prewarm; when that continues, there is a new status.
  const ahead = status.ahead.startsWith("warming") ? "" : status.ahead;
  return { ...status, jobs, target, ahead };
}

/** The state after the server process started, ended, or was not found. */
export function became(status: Status, server: Server): Status {
  return server === "running" ? { ...status, server } : { ...NOTHING, server, last: status.last };
}

/** What a job does, short enough for a status bar. The server's message has it at length. */
function doing({ state, percent, eta_ms, decode_rate }: StatusParams): string {
  switch (state) {
    case "loading":
      return `loading ${percent ?? 0}%`;
    case "prefill":
      return `prefill ${percent ?? 0}%${eta_ms ? ` · ${wait(eta_ms)} left` : ""}`;
    case "decode":
      return decode_rate ? `decode ${Math.round(decode_rate)} tok/s` : "decode";
    default:
      return state;
  }
}

/** `3 s`, `2 min 5 s`: a countdown needs no hundredths. */
function wait(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  return seconds < 100 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** `0.2 s + 61 tok/s`: the wait for the first text, and how fast the rest came. */
export function cost(run: Run): string {
  const wait = run.ttft_ms === null ? "" : `${(run.ttft_ms / 1000).toFixed(1)} s`;
  const rate = run.decode_rate === null ? "" : `${Math.round(run.decode_rate)} tok/s`;
  return [wait, rate].filter((part) => part !== "").join(" + ");
}

/** What a click on the item does: the next thing there is to do. */
export function onClick(status: Status): "install" | "chooseModel" | "showRuns" {
  if (status.server === "missing" || status.server === "installing") {
    return "install";
  }
  return status.server === "running" && status.isDemo && !status.last ? "chooseModel" : "showRuns";
}

/** The item as it is drawn. */
export function draw(status: Status): Drawn {
  const [text, kind] = words(status);
  const lines = [
    status.last ? `Last: ${status.last.title}: ${status.last.message}` : "",
    status.target ? `Target: ${status.target}` : "",
    status.n_hunks > 0 ? `${status.n_hunks} ${status.n_hunks === 1 ? "hunk" : "hunks"} in review` : "",
  ];
  return { text: `$(zap) ${text}`, tooltip: lines.filter((line) => line !== "").join("\n\n"), kind };
}

function words(status: Status): [string, Drawn["kind"]] {
  switch (status.server) {
    case "missing":
      return ["install singlepass", "warning"];
    case "installing":
      return ["installing singlepass", "normal"];
    case "failed":
    case "stopped":
      return [`singlepass ${status.server}`, "error"];
    case "starting":
      return ["starting", "normal"];
    case "running":
  }
  // The newest job is the one the user looks at.
  const job = [...status.jobs].sort(([a], [b]) => b - a)[0];
  if (job) {
    return [job[1], "normal"];
  }
  if (status.ahead.startsWith("warming")) {
    return [status.ahead, "normal"];
  }
  const name = status.isDemo ? "demo model" : "singlepass";
  const base = status.ahead === "" ? name : status.isDemo ? `${name} · ${status.ahead}` : status.ahead;
  if (!status.last) {
    return [base, "normal"];
  }
  if (status.last.outcome !== "done") {
    return [`${base} · ${status.last.outcome}`, status.last.outcome === "failed" ? "warning" : "normal"];
  }
  const spent = cost(status.last);
  return [spent === "" ? base : `${base} · ${spent}`, "normal"];
}
