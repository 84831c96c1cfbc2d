import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { candidates, fromSetting, installers, type Machine, pythons, quoted } from "../../src/core/discovery";
import { singleDocument, UndoSteps } from "../../src/core/edits";
import { MAX_HISTORY, offers, remember } from "../../src/core/history";
import { addRun, MAX_RUNS, renderRuns, runFrom } from "../../src/core/runs";
import { serverSettings } from "../../src/core/settings";

const MACHINE: Machine = {
  home: "/home/ann",
  path: "/work/repo/.venv/bin:relative:/usr/bin::/bin",
  storage: "/store",
  xdgDataHome: undefined,
  workspace: ["/work/repo"],
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
    assert(commands.every(({ command }) => !command.startsWith("/work/repo") && command.startsWith("/")));
    assert(pythons(MACHINE).every(({ args }) => args[0] === "-P"));
    const inHome = { ...MACHINE, workspace: ["/home/ann"] };
    assert(candidates(inHome).every(({ command }) => !command.startsWith("/home/ann/")));
  });

  it("takes a command or a Python from the user's setting", () => {
    assert.deepEqual(fromSetting("/x/python3.12", "/h").args, ["-P", "-m", "singlepass", "serve"]);
    assert.deepEqual(fromSetting("~/bin/singlepass", "/h").command, "/h/bin/singlepass");
    assert.deepEqual(fromSetting("/opt/pythonic/singlepass", "/h").args, ["serve"]);
  });

  it("offers the ways to install that the machine has", () => {
    const all = installers(() => true, "/ext/it's.whl", "/store");
    assert.deepEqual(
      all.map(({ label }) => label),
      ["uv tool", "pipx", "Python environment"],
    );
    assert.equal(all[0]!.line, "uv tool install --force '/ext/it'\\''s.whl'");
    assert.deepEqual(
      installers((name) => name === "python3", "/w.whl", "/s").map(({ label }) => label),
      ["Python environment"],
    );
    assert.equal(quoted("a b"), "'a b'");
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

  it("forgets old runs", () => {
    const runs = Array.from({ length: 99 }).reduce<ReturnType<typeof addRun>>((all) => addRun(all, run), []);
    assert.equal(runs.length, MAX_RUNS);
  });
});
