import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, it } from "node:test";
import {
  candidates,
  fromSetting,
  installers,
  LACKS_VENV,
  type Machine,
  PROBE,
  pythons,
  quoted,
  TOO_OLD,
  type Tools,
  warning,
  whyNone,
} from "../../src/core/discovery";
import { singleDocument, UndoSteps } from "../../src/core/edits";
import { fileOffers } from "../../src/core/files";
import { accepted, MAX_HISTORY, offers, remember } from "../../src/core/history";
import { addRun, MAX_RUNS, renderRuns, runFrom } from "../../src/core/runs";
import { serverSettings, withModel } from "../../src/core/settings";
import { historyFrom } from "../../src/core/stats";

const MACHINE: Machine = {
  home: "/home/ann",
  path: "/code/repo/.venv/bin:relative:/usr/bin::/bin",
  storage: "/store",
  xdgDataHome: undefined,
  workspace: ["/code/repo"],
};

describe("finding the server", () => {
  it("looks in the usual places, in this order", () => {
    assert.deepEqual(
      candidates(MACHINE).map(({ command }) => command),
      [
        "/store/server/bin/singlepass",
        "/usr/bin/singlepass",
        "/bin/singlepass",
        "/home/ann/.local/bin/singlepass",
        "/home/ann/.local/share/uv/tools/singlepass/bin/singlepass",
        "/home/ann/.local/share/pipx/venvs/singlepass/bin/singlepass",
        "/home/ann/.local/pipx/venvs/singlepass/bin/singlepass",
      ],
    );
  });

  it("never runs what lies in the workspace, or a Python that could import from it", () => {
    const commands = [...candidates(MACHINE), ...pythons(MACHINE)];
    assert(commands.every(({ command }) => !command.startsWith("/code/repo") && command.startsWith("/")));
    assert(pythons(MACHINE).every(({ args }) => args[0] === "-P"));
    const inPath = { ...MACHINE, workspace: ["/usr/bin"] };
    assert([...candidates(inPath), ...pythons(inPath)].every(({ command }) => !command.startsWith("/usr/")));
  });

  it("finds the user's own installation where the workspace is the whole home folder", () => {
    const inHome = { ...MACHINE, path: "/home/ann/bin:/usr/bin", workspace: ["/home/ann"] };
    const commands = candidates(inHome).map(({ command }) => command);
    assert(commands.includes("/home/ann/.local/bin/singlepass"));
    assert(!commands.includes("/home/ann/bin/singlepass"));
    assert(pythons(inHome).every(({ command }) => !command.startsWith("/home/ann/")));
  });

  it("takes a command or a Python from the user's setting", () => {
    assert.deepEqual(fromSetting("/x/python3.12", "/h").args, ["-P", "-m", "singlepass", "serve"]);
    assert.deepEqual(fromSetting("~/bin/singlepass", "/h").command, "/h/bin/singlepass");
    assert.deepEqual(fromSetting("/opt/pythonic/singlepass", "/h").args, ["serve"]);
  });

  const bare: Tools = { uv: undefined, pipx: undefined, python: undefined, probed: [], compiler: true };

  it("offers the ways to install that the machine has", () => {
    const whole = { ...bare, uv: "/b/uv", pipx: "/b/pipx", python: "/b/python3.12" };
    const all = installers(whole, "/ext/it's.whl", "/store");
    assert.deepEqual(
      all.map(({ label }) => label),
      ["uv tool", "pipx", "Python environment"],
    );
    assert.equal(all[0]!.line, "'/b/uv' tool install --force --python '>=3.11' '/ext/it'\\''s.whl'");
    assert.match(all[1]!.line, /^'\/b\/pipx' install --force --python '\/b\/python3.12' /);
    assert.match(all[2]!.line, /^'\/b\/python3.12' -I -m venv '\/store\/server' && /);
    assert.deepEqual(
      installers({ ...bare, python: "/b/python3" }, "/w.whl", "/s").map(({ label }) => label),
      ["Python environment"],
    );
    assert.deepEqual(installers(bare, "/w.whl", "/s"), []);
    assert.equal(quoted("a b"), "'a b'");
  });

  it("says why it cannot be installed, and what to do", () => {
    assert.match(whyNone(bare), /Python 3\.11 or later is needed .*, and there is none on PATH/);
    assert.match(whyNone({ ...bare, probed: [TOO_OLD] }), /the one on PATH is older/);
    assert.match(whyNone({ ...bare, probed: [TOO_OLD, LACKS_VENV] }), /apt install python3-venv/);
  });

  it("warns where llama.cpp could not be compiled", () => {
    assert.equal(warning(bare, "linux"), undefined);
    assert.match(warning({ ...bare, compiler: false }, "linux")!, /apt install g\+\+/);
    assert.match(warning({ ...bare, compiler: false }, "darwin")!, /xcode-select --install/);
  });

  it("asks a Python whether it will do", () => {
    execFileSync("python3", ["-I", "-c", PROBE]);
    const ends = (code: string, expected: number) =>
      assert.throws(
        () => execFileSync("python3", ["-I", "-c", `${code}\n${PROBE}`]),
        (error: { status?: number }) => error.status === expected,
      );
    ends("import sys; sys.version_info = (3, 10, 9)", TOO_OLD);
    ends("import sys; sys.modules['ensurepip'] = None", LACKS_VENV);
  });
});

describe("settings for the server", () => {
  const names = ["server.path", "inlineReview", "target", "actions", "max_tokens"];
  const mine = { title: "Mine", instruction: "do" };
  const theirs = { title: "Theirs", instruction: "do" };
  const inspect = (name: string) =>
    ({
      target: { globalValue: { model: "/m.gguf" }, workspaceValue: { url: "http://evil" } },
      actions: { globalValue: [mine], workspaceValue: [theirs] },
      "server.path": { globalValue: "/x" },
    })[name];

  it("are what the user has set, and of a trusted workspace the actions", () => {
    const expected = { target: { model: "/m.gguf" }, actions: [mine, theirs] };
    assert.deepEqual(serverSettings(names, inspect, true), expected);
  });

  it("are the user's alone where the workspace is not trusted", () => {
    assert.deepEqual(serverSettings(names, inspect, false), {
      target: { model: "/m.gguf" },
      actions: [mine],
    });
  });
});

describe("a model that is chosen", () => {
  it("leaves how to run it, and nothing of a server", () => {
    const before = {
      backend: "openai_compatible",
      url: "http://x",
      api_key_env: "K",
      n_ctx: 512,
      model: "a",
    };
    assert.deepEqual(withModel(before, "/b.gguf"), { n_ctx: 512, model: "/b.gguf" });
    assert.deepEqual(withModel(undefined, "/b.gguf"), { model: "/b.gguf" });
    assert.deepEqual(withModel("odd", "/b.gguf"), { model: "/b.gguf" });
  });
});

describe("files to change together", () => {
  it("are the open ones first, chosen, then all others, each once", () => {
    assert.deepEqual(
      fileOffers(
        "file:///a",
        ["file:///b", "file:///a", "untitled:c"],
        ["file:///a", "file:///d", "file:///b"],
      ),
      [
        { uri: "file:///b", picked: true },
        { uri: "file:///d", picked: false },
      ],
    );
  });
});

describe("instructions of before", () => {
  it("are kept once, the newest first, and not for ever", () => {
    assert.deepEqual(remember(["a", "b"], " b "), ["b", "a"]);
    assert.deepEqual(remember(["a"], "  "), ["a"]);
    const many = Array.from({ length: 200 }, (_, i) => String(i)).reduce<string[]>(remember, []);
    assert.equal(many.length, MAX_HISTORY);
    assert.equal(many[0], "199");
  });

  it("stand below what is typed", () => {
    assert.deepEqual(offers(["a", "b"], ""), ["a", "b"]);
    assert.deepEqual(offers(["a", "b"], "c "), ["c", "a", "b"]);
    assert.deepEqual(offers(["a", "b"], "b"), ["b", "a"]);
  });

  it("takes what is typed at Enter, however late the list follows", () => {
    const listed = (typed: string) =>
      offers(["before", "older"], typed).map((instruction) => ({ instruction }));
    const list = listed("Explain");
    assert.equal(accepted("Explain ", list, undefined), "Explain");
    assert.equal(accepted("Explain", list, list[0]), "Explain");
    assert.equal(accepted("Explain", list, list[2]), "older");
    for (const typed of ["", "E", "Expl", "Explain"]) {
      for (const active of listed(typed)) {
        assert.equal(accepted("Explain", list, active), "Explain");
      }
    }
    const all = listed("");
    assert.equal(accepted(" ", all, all[0]), "before");
    assert.equal(accepted("", all, all[1]), "older");
    assert.equal(accepted("", all, list[0]), "before");
    assert.equal(accepted(" ", [], undefined), undefined);
  });
});

describe("workspace edits", () => {
  const change = { textDocument: { uri: "file:///a", version: 3 }, edits: [] };

  it("of one document are ours to apply", () => {
    assert.deepEqual(singleDocument({ documentChanges: [change] }), {
      uri: "file:///a",
      version: 3,
      edits: [],
    });
  });

  it("of several, of none, of files, or to be confirmed are VS Code's", () => {
    assert.equal(singleDocument({ documentChanges: [change, change] }), undefined);
    assert.equal(singleDocument({}), undefined);
    assert.equal(singleDocument({ documentChanges: [{ kind: "create", uri: "file:///b" }] }), undefined);
    const confirmed = { documentChanges: [change], changeAnnotations: { a: { needsConfirmation: true } } };
    assert.equal(singleDocument(confirmed), undefined);
  });

  it("of one job are one step of undo, unless somebody typed between them", () => {
    const steps = new UndoSteps();
    assert.equal(steps.begins("a", "job"), true);
    assert.equal(steps.begins("a", "job"), false);
    assert.equal(steps.begins("b", "job"), true);
    steps.interrupted("a");
    assert.equal(steps.begins("a", "job"), true);
    assert.equal(steps.begins("b", "job"), false);
    assert.equal(steps.begins("b", "undo job"), true);
    steps.close();
    assert.equal(steps.begins("b", "undo job"), true);
  });
});

describe("the panel", () => {
  const run = runFrom({
    job: 3,
    uri: "file:///x/a%20b.py",
    title: "<b>bold</b>",
    outcome: "done",
    miss: "`a.py` is new to the prompt",
    ttft_ms: 200,
    timings: { n_prefilled: 12, n_cached: 1234, n_decoded: 10, decode_ms: 100, inferred: ["n_cached"] },
    target: { name: "default", model: "m", device: "cpu", why: "the first" },
  });

  it("shows numbers, misses and targets, and escapes what it is given", () => {
    const page = renderRuns([run], "warm", "default", "n0nce");
    for (const part of [
      "&lt;b&gt;bold",
      "a b.py",
      "1,234",
      "100 tok/s",
      "is new to the prompt",
      "default · m · cpu",
    ]) {
      assert(page.includes(part), part);
    }
    assert(page.includes("n_cached"));
    assert(!page.includes("<b>bold"));
    assert(!page.includes("<script"));
    assert.match(page, /default-src 'none'/);
  });

  it("takes anything a server may tell", () => {
    for (const odd of [null, 3, {}, { timings: null, target: [], title: 4, uri: "%" }]) {
      assert.equal(typeof renderRuns([runFrom(odd)], "", "", "n"), "string");
    }
  });

  const summary = {
    n: 12,
    outcomes: { done: 10, failed: 2 },
    ttft_ms: { median: 210, p90: 900, p99: 4000 },
    cached_share: { median: 0.99, p90: 0.5, p99: 0 },
    total_ms: null,
    prefill_rate: 123.4,
    misses: { changed: 3, "<odd>": 1 },
    rejected: { ambiguous: 2 },
    n_applied: 9,
    n_edits: 9,
    n_kept: 7,
  };
  const by = { target: { "default: m": summary, "large: <b>": { n: 1, misses: { new: 1 } } } };

  it("shows the history that the server tells, and escapes it", () => {
    const page = renderRuns([run], "", "", "n", historyFrom({ days: 30, all: summary, by }));
    for (const part of [
      "The last 30 days",
      "requests: 10 done, 2 failed",
      '<td>first text</td><td class="number">0.21 s</td><td class="number">0.90 s</td>',
      "3 changed since it was read, 1 &lt;odd&gt;",
      "rejected: 2 ambiguous",
      "7 kept, 0 undone",
      '<td>default: m</td><td class="number">12</td>',
      "large: &lt;b&gt;",
    ]) {
      assert(page.includes(part), part);
    }
    assert(!page.includes("<td>total</td>"));
    assert(!page.includes("<odd>"));
    assert(!renderRuns([run], "", "", "n").includes("The last"));
  });

  it("takes any history a server may tell", () => {
    for (const odd of [
      null,
      3,
      {},
      { all: { n: 3, misses: 4, ttft_ms: { median: "x" } }, by: { target: 1 } },
    ]) {
      assert.equal(typeof renderRuns([], "", "", "n", historyFrom(odd)), "string");
    }
    assert.match(renderRuns([], "", "", "n", historyFrom({ days: 30, all: {} })), /No request was kept/);
  });

  it("forgets old runs", () => {
    const runs = Array.from({ length: 99 }).reduce<ReturnType<typeof addRun>>((all) => addRun(all, run), []);
    assert.equal(runs.length, MAX_RUNS);
  });
});
