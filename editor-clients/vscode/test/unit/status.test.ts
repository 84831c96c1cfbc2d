import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { runFrom } from "../../src/core/runs";
import { became, draw, NOTHING, onClick, type Status, type StatusParams, told } from "../../src/core/status";

function params(
  state: string,
  message: string,
  percent: number | null = null,
  job: number | null = 1,
  numbers: { eta_ms?: number; decode_rate?: number } = {},
): StatusParams {
  const known = { eta_ms: null, decode_rate: null, ...numbers };
  return { job, uri: "file:///a.py", state, message, percent, target: "default", ...known };
}

const reading = (percent: number, eta_ms?: number) =>
  params("prefill", "prefill", percent, 1, eta_ms === undefined ? {} : { eta_ms });
const writing = (decode_rate: number, job = 1) => params("decode", "40 tokens", null, job, { decode_rate });

const RUNNING = became(NOTHING, "running");
const DEMO = told(RUNNING, params("demo_model", "no model is configured", null, null));
const WARM = told(RUNNING, params("warm", "warm", 100, null));
const RUN = runFrom({
  job: 1,
  outcome: "done",
  message: "0.4 s: …",
  ttft_ms: 234,
  timings: { n_decoded: 122, decode_ms: 2000 },
});

function text(status: Status): string {
  return draw(status).text.replace("$(zap) ", "");
}

describe("the status bar", () => {
  const cases: [string, Status, string][] = [
    ["before the server", NOTHING, "starting"],
    ["with a server", RUNNING, "singlepass"],
    ["no server", became(NOTHING, "missing"), "install singlepass"],
    ["it is being installed", became(NOTHING, "installing"), "installing singlepass"],
    ["the demo model", DEMO, "demo model"],
    ["the demo model, warm", told(DEMO, params("warm", "warm", null, null)), "demo model · warm"],
    ["it edited", { ...DEMO, last: RUN }, "demo model · 0.2 s + 61 tok/s"],
    ["it stopped", became(WARM, "stopped"), "singlepass stopped"],
    ["it would not start", became(NOTHING, "failed"), "singlepass failed"],
    ["a prewarm", told(RUNNING, params("warming", "warming 63%", 63, null)), "warming 63%"],
    ["read", WARM, "warm"],
    ["the engine is gone", told(WARM, params("cold", "cold: its engine is gone", 0, null)), "singlepass"],
    ["a target was chosen", told(WARM, params("target", "target: large", null, null)), "warm"],
    ["a job starts", told(WARM, params("starting", "starting")), "starting"],
    ["the model loads", told(WARM, params("loading", "loading the model: 40%", 40)), "loading 40%"],
    ["the prompt is read", told(WARM, reading(40, 2310)), "prefill 40% · 3 s left"],
    ["for more than a minute", told(WARM, reading(4, 99_000)), "prefill 4% · 99 s left"],
    ["for minutes", told(WARM, reading(4, 124_700)), "prefill 4% · 2 min 5 s left"],
    ["no more", told(WARM, reading(100, 0)), "prefill 100%"],
    ["nobody knows how long", told(WARM, reading(0)), "prefill 0%"],
    ["text is written", told(WARM, writing(61.4)), "decode 61 tok/s"],
    ["nobody knows how fast", told(WARM, params("decode", "1 token · 0 tok/s")), "decode"],
    [
      "a job ended",
      told({ ...told(WARM, params("decode", "40 tokens")), last: RUN }, params("done", "0.4 s: …")),
      "warm · 0.2 s + 61 tok/s",
    ],
    ["a job ended, and it warms again", { ...WARM, ahead: "warming 5%", last: RUN }, "warming 5%"],
    [
      "a job failed that had interrupted a prewarm",
      told({ ...WARM, ahead: "warming 40%", last: { ...RUN, outcome: "failed" } }, params("failed", "died")),
      "singlepass · failed",
    ],
    ["a job failed", { ...WARM, last: { ...RUN, outcome: "failed" } }, "warm · failed"],
    ["a job was cancelled", { ...WARM, last: { ...RUN, outcome: "cancelled" } }, "warm · cancelled"],
    ["nothing was measured", { ...WARM, last: { ...RUN, ttft_ms: null, decode_rate: null } }, "warm"],
  ];
  for (const [what, status, expected] of cases) {
    it(what, () => assert.equal(text(status), expected));
  }

  it("is clicked for what there is to do next", () => {
    assert.equal(onClick(became(NOTHING, "missing")), "install");
    assert.equal(onClick(DEMO), "chooseModel");
    assert.equal(onClick({ ...DEMO, last: RUN }), "showRuns");
    const chosen = told(DEMO, params("target", "target: default", null, null));
    assert.equal(onClick(chosen), "showRuns");
    assert.equal(text(chosen), "singlepass");
    assert.equal(text(told(DEMO, params("starting", "starting"))), "starting");
  });

  it("shows the newest of several jobs", () => {
    const two = told(told(WARM, writing(5, 2)), reading(9));
    assert.equal(text(two), "decode 5 tok/s");
    assert.equal(text(told(two, params("done", "", null, 2))), "prefill 9%");
  });

  it("forgets jobs and warmth with the server, but not the last run", () => {
    const again = became(became({ ...told(WARM, params("decode", "x")), last: RUN }, "stopped"), "running");
    assert.equal(again.jobs.size, 0);
    assert.equal(text(again), "singlepass · 0.2 s + 61 tok/s");
  });

  it("says in its tooltip what the last run cost and what is in review", () => {
    assert.match(
      draw({ ...WARM, last: RUN, n_hunks: 1 }).tooltip,
      /0\.4 s.*Target: default.*1 hunk in review/s,
    );
  });
});
