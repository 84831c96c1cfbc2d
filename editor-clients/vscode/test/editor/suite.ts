/** What a user does, in the real editor, with a model whose words are known. */

import assert from "node:assert/strict";
import * as vscode from "vscode";
import type { Api } from "../../src/extension";
import {
  api,
  block,
  closeAll,
  finish,
  inOrder,
  open,
  type Reply,
  recording,
  select,
  set,
  until,
  use,
  watching,
} from "./helpers";

const GREET =
  "def greet(name):\n    print('hello ' + name)\n\n\ndef leave(name):\n    print('bye ' + name)\n";

const REPLIES: Reply[] = [
  {
    when: "wish-menu",
    text: [block("menu.py", "    print('hello ' + name)\n", "    print(f'hello {name}')\n")],
  },
  { when: "wish-free", text: [block("free.py", "    print('bye ' + name)\n", "    print(f'bye {name}')\n")] },
  {
    when: "wish-two-files",
    text: [block("one.py", "a = 1\n", "a = 10\n"), block("two.py", "b = 2\n", "b = 20\n")],
  },
  {
    when: "wish-undo",
    text: [
      block("undo.py", "def greet(name):\n", "def greet(name: str) -> None:\n"),
      block("undo.py", "    print('hello ' + name)\n", "    print(f'hello {name}')\n"),
      block("undo.py", "def leave(name):\n", "def leave(name: str) -> None:\n"),
    ],
    delay_ms: 100,
  },
  {
    when: "wish-typing",
    text: [
      block("typing.py", "def greet(name):\n", "def greet(name: str):\n"),
      ...Array.from({ length: 20 }, () => "\n"),
      block("typing.py", "def leave(name):\n", "def leave(name: str):\n"),
    ],
    delay_ms: 100,
  },
  { when: "wish-slow-prefill", n_prompt: 100_000, chunk_tokens: 10, chunk_ms: 20, text: ["never"] },
  {
    when: "wish-slow-decode",
    text: [
      block("decode.py", "def greet(name):\n", "def greet(name: str):\n"),
      ...Array.from({ length: 500 }, () => "\n"),
      block("decode.py", "def leave(name):\n", "def leave(name: str):\n"),
    ],
    delay_ms: 50,
  },
  { when: "wish-crash", text: ["crash.py\n"], fail: { code: "internal", message: "crash", exits: true } },
  {
    when: "wish-states",
    n_prompt: 1000,
    n_cached: 400,
    chunk_tokens: 100,
    chunk_ms: 60,
    text: [
      block("states.py", "def greet(name):\n", "def greet(name: str):\n"),
      ...Array.from({ length: 10 }, () => "\n"),
    ],
    delay_ms: 30,
  },
  { when: "", n_prompt: 500, chunk_tokens: 100, chunk_ms: 30 },
];

export function define(): void {
  let extension: Api;
  const ask = (instruction: string) => vscode.commands.executeCommand("singlepass.ask", { instruction });

  before(async () => {
    extension = await api();
    await until("the server runs", () => {
      const { text } = extension.status();
      assert.doesNotMatch(text, /install|failed|stopped/);
      return !text.includes("starting");
    });
    await use({ backend: "scripted", model: recording(REPLIES) });
  });
  afterEach(closeAll);

  it("reads ahead and says how far it is", async () => {
    const seen = await watching(extension, async () => {
      await open("ahead.py", GREET);
      await until("it is warm", () => extension.status().text === "$(zap) warm");
    });
    inOrder(seen, /^warming \d+%$/, /^warm$/);
  });

  it("does an action of the menu, set at run time", async () => {
    const { document } = await open("menu.py", GREET);
    await set("actions", [{ title: "Use f-strings", instruction: "wish-menu" }]);
    const action = await until("the action is offered", async () => {
      const offered = await vscode.commands.executeCommand<vscode.CodeAction[]>(
        "vscode.executeCodeActionProvider",
        document.uri,
        new vscode.Range(0, 0, 2, 0),
      );
      assert(offered.some(({ title }) => title.startsWith("Simplify")));
      return offered.find(({ title }) => title.startsWith("Use f-strings"));
    });
    const run = await finish(extension, () =>
      vscode.commands.executeCommand(action.command!.command, ...action.command!.arguments!),
    );
    assert.equal(run.outcome, "done", run.message);
    assert.equal(document.getText(), GREET.replace("'hello ' + name", "f'hello {name}'"));
    await set("actions", undefined);
  });

  it("does what the user writes", async () => {
    const editor = await open("free.py", GREET);
    select(editor, 4, 5);
    const run = await finish(extension, () => ask("wish-free"));
    assert.equal(run.n_applied, 1, run.message);
    assert.equal(editor.document.getText(), GREET.replace("'bye ' + name", "f'bye {name}'"));
  });

  it("edits several files at once", async () => {
    const one = await open("one.py", "a = 1\n");
    const two = await open("two.py", "b = 2\n", vscode.ViewColumn.Two);
    const run = await finish(extension, () => ask("wish-two-files"));
    assert.equal(run.n_applied, 2, run.message);
    assert.equal(one.document.getText(), "a = 10\n");
    assert.equal(two.document.getText(), "b = 20\n");
  });

  it("takes a whole job back with one undo", async () => {
    const editor = await open("undo.py", GREET);
    editor.selection = new vscode.Selection(2, 0, 2, 0);
    await vscode.commands.executeCommand("type", { text: "#before" });
    const start = editor.document.getText();
    const run = await finish(extension, () => ask("wish-undo"));
    assert.equal(run.n_applied, 3, run.message);
    const done = editor.document.getText();
    await vscode.commands.executeCommand("type", { text: "#after" });
    await vscode.commands.executeCommand("undo");
    assert.equal(editor.document.getText(), done, "the typed text alone goes first");
    await vscode.commands.executeCommand("undo");
    assert.equal(editor.document.getText(), start);
    await vscode.commands.executeCommand("undo");
    assert.equal(editor.document.getText(), GREET);
  });

  it("keeps what is typed while it streams", async () => {
    const editor = await open("typing.py", GREET);
    await finish(extension, async () => {
      await ask("wish-typing");
      await until("the first hunk is there", () => editor.document.getText().includes("greet(name: str)"));
      editor.selection = new vscode.Selection(2, 0, 2, 0);
      for (const letter of "#mine") {
        await vscode.commands.executeCommand("type", { text: letter });
      }
    });
    const done = GREET.replace("hello ' + name)\n", "hello ' + name)\n#mine").replaceAll(
      "(name):",
      "(name: str):",
    );
    assert.equal(editor.document.getText(), done);
    // Each undo takes back one thing, the latest first; nothing of mine goes with a hunk.
    await vscode.commands.executeCommand("undo");
    assert.equal(editor.document.getText(), done.replace("leave(name: str)", "leave(name)"));
    await vscode.commands.executeCommand("undo");
    assert(!editor.document.getText().includes("#mine"));
    await vscode.commands.executeCommand("undo");
    assert.equal(editor.document.getText(), GREET);
  });

  it("cancels while the prompt is read", async () => {
    const editor = await open("prefill.py", GREET);
    const run = await finish(extension, async () => {
      await ask("wish-slow-prefill");
      await until("it reads", () => /prefill \d+%/.test(extension.status().text));
      await vscode.commands.executeCommand("singlepass.cancelJob");
    });
    assert.equal(run.outcome, "cancelled");
    assert.equal(editor.document.getText(), GREET);
  });

  it("cancels while text is written, and keeps finished hunks", async () => {
    const editor = await open("decode.py", GREET);
    const run = await finish(extension, async () => {
      await ask("wish-slow-decode");
      await until("a hunk is there", () => editor.document.getText().includes("greet(name: str)"));
      await until("it decodes", () => /decode \d+ tok\/s/.test(extension.status().text));
      await vscode.commands.executeCommand("singlepass.cancelJob");
    });
    assert.equal(run.outcome, "cancelled");
    assert.equal(editor.document.getText(), GREET.replace("greet(name)", "greet(name: str)"));
  });

  it("survives an engine that is killed", async () => {
    const editor = await open("crash.py", GREET);
    const seen = await watching(extension, async () => {
      const run = await finish(extension, () => ask("wish-crash"));
      assert.equal(run.outcome, "failed");
    });
    inOrder(seen, /failed$/);
    assert.equal(editor.document.getText(), GREET);
    await open("free.py", GREET);
    const next = await finish(extension, () => ask("wish-free"));
    assert.equal(next.outcome, "done", next.message);
  });

  it("tells every state in the status bar", async () => {
    await open("states.py", GREET);
    await until("it is warm", () => extension.status().text.includes("warm"));
    const seen = await watching(extension, async () => {
      await finish(extension, () => ask("wish-states"));
      await until("the result is shown", () => extension.status().text.includes("tok/s"));
    });
    inOrder(
      seen,
      /^starting$/,
      /^prefill \d+% · \d+ s left$/,
      /^decode \d+ tok\/s$/,
      /^warm · \d+\.\d s \+ \d+ tok\/s$/,
    );
    const last = extension.runs()[0]!;
    await vscode.commands.executeCommand("singlepass.showRuns");
    const page = await until("the panel is open", () => extension.panel());
    assert(page.includes("wish-states"));
    assert(page.includes(last.target.split(" · ")[1]!));
  });

  it("shows what a job cost as a diagnostic, unless told not to", async () => {
    const editor = await open("free.py", GREET);
    const ours = () =>
      vscode.languages.getDiagnostics(editor.document.uri).filter(({ source }) => source === "singlepass");
    await finish(extension, () => ask("wish-free"));
    const [diagnostic] = await until("there is a diagnostic", () => (ours().length > 0 ? ours() : undefined));
    assert.equal(diagnostic!.severity, vscode.DiagnosticSeverity.Information);
    assert.match(diagnostic!.message, /prefill .* cached/);
    await vscode.commands.executeCommand("undo");
    await until("it goes with the next change", () => ours().length === 0);
    await set("timings", false);
    const again = await finish(extension, () => ask("wish-free"));
    assert.equal(again.outcome, "done", again.message);
    assert.equal(ours().length, 0);
    await set("timings", undefined);
  });
}
