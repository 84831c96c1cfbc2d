/** What a user does, in the real editor, with a model whose words are known. */

import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as vscode from "vscode";
import type { Api } from "../../src/extension";
import { beforeUri } from "../../src/reviewing";
import {
  answering,
  api,
  block,
  closeAll,
  enginePid,
  finish,
  folder,
  inOrder,
  open,
  type Reply,
  recording,
  select,
  set,
  targets,
  typing,
  until,
  use,
  watching,
} from "./helpers";

const GREET =
  "def greet(name):\n    print('hello ' + name)\n\n\ndef leave(name):\n    print('bye ' + name)\n";

const WORDS = `"""Split text into words and count them."""

from collections import Counter


def count_words(text):
    words = text.lower().split()
    return Counter(words)
`;

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
    when: "wish-closed",
    text: [block("opened.py", "a = 1\n", "a = 10\n"), block("closed.py", "b = 2\n", "b = 20\n")],
  },
  {
    when: "wish-diff",
    text: [block("left.py", "a = 1\n", "a = 10\n"), block("right.py", "b = 2\n", "b = 20\n")],
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
    when: "wish-saved",
    text: [
      block("saved.py", "def greet(name):\n", "def greet(name: str) -> None:\n"),
      block("saved.py", "    print('hello ' + name)\n", "    print(f'hello {name}')\n"),
      block("saved.py", "def leave(name):\n", "def leave(name: str) -> None:\n"),
    ],
    delay_ms: 400,
  },
  {
    when: "wish-typing",
    text: [
      block("typing.py", "def greet(name):\n", "def greet(name: str):\n"),
      ...Array.from({ length: 40 }, () => "\n"),
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
  {
    when: "wish-long",
    text: block(
      "long.py",
      "def greet(name):\n    print('hello ' + name)\n",
      `def greet(name):\n${Array.from({ length: 12 }, (_, n) => `# ${n}\n`).join("")}`,
    ).split(/(?<=\n)/),
    delay_ms: 120,
  },
  {
    when: "wish-review",
    text: [
      block("review.py", "    print('hello ' + name)\n", "    # say it\n    print(f'hello {name}')\n"),
      block("review.py", "    print('bye ' + name)\n", "    print(f'bye {name}')\n"),
    ],
  },
  {
    when: "wish-other",
    text: [block("review.py", "    print('hello ' + name)\n", "    print('HELLO ' + name)\n")],
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
  afterEach(async () => {
    await vscode.commands.executeCommand("singlepass.keep");
    await closeAll();
  });

  it("prewarms and says how far it is", async () => {
    const seen = await watching(extension, async (seen) => {
      await open("ahead.py", GREET);
      await until("it has warmed", () => seen.some((text) => text.startsWith("warming")));
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

  it("has an entry of the menu for the user's own words", async () => {
    const editor = await open("free.py", GREET);
    select(editor, 4, 5);
    const offered = (kind: vscode.CodeActionKind) =>
      vscode.commands.executeCommand<vscode.CodeAction[]>(
        "vscode.executeCodeActionProvider",
        editor.document.uri,
        editor.selection,
        kind.value,
      );
    const entry = (actions: readonly vscode.CodeAction[]) =>
      actions.find(({ title }) => title === "Ask for an edit…");
    assert.equal(entry(await offered(vscode.CodeActionKind.QuickFix)), undefined);
    const action = entry(await offered(vscode.CodeActionKind.Refactor));
    assert(action?.command);
    const { command } = action.command;
    const run = await finish(extension, () =>
      typing("wish-free", () => vscode.commands.executeCommand(command)),
    );
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

  it("edits files that are chosen, with words that are typed", async () => {
    const closed = join(folder(), "closed.py");
    writeFileSync(closed, "b = 2\n");
    await open("beside.py", "c = 3\n", vscode.ViewColumn.Two);
    const { document } = await open("opened.py", "a = 1\n");
    const listed: [string, boolean | undefined][] = [];
    const choose = async (items: readonly (vscode.QuickPickItem & { uri: vscode.Uri })[]) => {
      listed.push(...items.map(({ label, picked }): [string, boolean | undefined] => [label, picked]));
      return items.filter(({ label }) => label === "closed.py");
    };
    const ask = () => typing("wish-closed", () => vscode.commands.executeCommand("singlepass.askFiles"));
    const run = await finish(extension, () => answering("showQuickPick", choose, ask));
    assert.deepEqual(listed[0], ["beside.py", true]);
    assert.deepEqual(
      listed.filter(([label]) => label === "closed.py"),
      [["closed.py", false]],
    );
    assert(!listed.some(([label]) => label === "opened.py"), "the active file is changed anyway");
    assert.equal(run.n_applied, 2, run.message);
    assert.equal(document.getText(), "a = 10\n");
    assert.equal((await vscode.workspace.openTextDocument(closed)).getText(), "b = 20\n");
  });

  it("asks nothing when no files are chosen", async () => {
    await open("opened.py", "a = 1\n");
    const n_runs = extension.runs().length;
    await answering(
      "showQuickPick",
      async () => undefined,
      () => vscode.commands.executeCommand("singlepass.askFiles"),
    );
    assert.equal(extension.runs().length, n_runs);
    assert.doesNotMatch(extension.status().text, /starting|prefill/);
  });

  it("says that the demo model edits while none is chosen, and takes one from a dialog", async () => {
    const before = vscode.workspace.getConfiguration("singlepass").inspect("target")?.globalValue;
    const target = () => vscode.workspace.getConfiguration("singlepass").inspect("target")?.globalValue;
    const model = join(folder(), "chosen.gguf");
    try {
      await set("target", undefined);
      await until("it is said", () => extension.status().text.includes("demo model"));
      const choose = (chosen: vscode.Uri[] | undefined) => {
        const asked: vscode.OpenDialogOptions[] = [];
        return answering(
          "showOpenDialog",
          async (options: vscode.OpenDialogOptions) => {
            asked.push(options);
            return chosen;
          },
          () => vscode.commands.executeCommand("singlepass.chooseModel"),
        ).then(() => asked[0]);
      };
      await choose(undefined);
      assert.equal(target(), undefined);
      const options = await choose([vscode.Uri.file(model)]);
      // VS Code shows a dialog for folders where both are asked for.
      assert.equal(options?.canSelectFolders, process.platform === "darwin");
      assert.deepEqual(target(), { model });
      await until("it is another", () => !extension.status().text.includes("demo model"));
      await set("target", { backend: "openai_compatible", url: "http://127.0.0.1:9", n_ctx: 512 });
      await choose([vscode.Uri.file(model)]);
      assert.deepEqual(target(), { model, n_ctx: 512 });
      await until("the server knows it", async () => {
        const [first] = await targets();
        return first?.model === model && first.backend === "llama_cpp";
      });
    } finally {
      await use(before as { model: string });
    }
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

  it("takes a whole job back although files are saved while it streams", async () => {
    const files = vscode.workspace.getConfiguration("files");
    await files.update("autoSave", "afterDelay", vscode.ConfigurationTarget.Global);
    await files.update("autoSaveDelay", 50, vscode.ConfigurationTarget.Global);
    try {
      const editor = await open("saved.py", GREET);
      let n_saved = 0;
      const listener = vscode.workspace.onDidSaveTextDocument(() => {
        n_saved += 1;
      });
      const run = await finish(extension, () => ask("wish-saved"));
      listener.dispose();
      assert.equal(run.n_applied, 3, run.message);
      assert(n_saved > 0, "nothing was saved while it streamed");
      await vscode.commands.executeCommand("singlepass.undoAll");
      await until("it is as before", () => editor.document.getText() === GREET);
    } finally {
      await files.update("autoSave", "off", vscode.ConfigurationTarget.Global);
      await files.update("autoSaveDelay", undefined, vscode.ConfigurationTarget.Global);
    }
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
      await until("it is shown", () => /failed$/.test(extension.status().text));
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
      await until("the result is shown", () => /warm · .* tok\/s$/.test(extension.status().text));
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
    await until("the history is told", () => extension.panel()?.includes("The last 30 days"));
  });

  it("shows a hunk while it is written", async () => {
    const editor = await open("long.py", GREET);
    const seen = new Set<string>();
    const run = await finish(extension, async () => {
      await ask("wish-long");
      await until("it is whole", () => {
        const ghost = extension.reviewer.writingIn(editor.document);
        if (ghost) {
          assert.equal(editor.document.getText(), GREET, "it is only shown");
          seen.add(`${ghost.line} ${ghost.text}`);
        }
        return editor.document.getText() !== GREET;
      });
    });
    assert.equal(run.n_applied, 1, run.message);
    assert(seen.size > 3, [...seen].join("\n"));
    for (const shown of seen) {
      assert.match(shown, /^0 \+\d+ {2}# \d+$/);
    }
    assert.equal(extension.reviewer.writingIn(editor.document), undefined);
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

  it("lets one hunk be kept and another be undone", async () => {
    const editor = await open("review.py", GREET);
    await finish(extension, () => ask("wish-review"));
    const hunks = await until("both are in review", () => {
      const listed = extension.reviewer.hunksOf(editor.document.uri);
      return listed.length === 2 ? listed : undefined;
    });
    assert.deepEqual(
      hunks.map(({ old }) => old),
      ["    print('hello ' + name)\n", "    print('bye ' + name)\n"],
    );
    const lenses = await vscode.commands.executeCommand<vscode.CodeLens[]>(
      "vscode.executeCodeLensProvider",
      editor.document.uri,
      20,
    );
    const titles = lenses.map((lens) => `${lens.range.start.line} ${lens.command?.title}`);
    assert.deepEqual(titles.slice(0, 3), ["1 $(check) Keep", "1 $(discard) Undo", "1 +2 −1"]);

    editor.selection = new vscode.Selection(0, 0, 0, 0);
    await vscode.commands.executeCommand("type", { text: "# typed above\n" });
    await vscode.commands.executeCommand("singlepass.nextHunk");
    assert.equal(editor.selection.active.line, 2, "hunks move with what is typed above");
    await vscode.commands.executeCommand("singlepass.nextHunk");
    assert.equal(editor.selection.active.line, 7);
    await vscode.commands.executeCommand("singlepass.undoHunk");
    await until("it is undone", () => editor.document.getText().includes("'bye ' + name"));
    await vscode.commands.executeCommand("singlepass.previousHunk");
    assert.equal(editor.selection.active.line, 2);
    await vscode.commands.executeCommand("singlepass.keepHunk");
    await until("none is left", () => extension.reviewer.n_hunks === 0);
    const kept = GREET.replace("    print('hello ' + name)", "    # say it\n    print(f'hello {name}')");
    assert.equal(editor.document.getText(), `# typed above\n${kept}`);
  });

  it("takes a hunk out of review when its text is changed by hand", async () => {
    const editor = await open("review.py", GREET);
    await finish(extension, () => ask("wish-review"));
    await until("both are in review", () => extension.reviewer.n_hunks === 2);
    await editor.edit((builder) => builder.insert(new vscode.Position(2, 4), "return "));
    await until("one is left", () => extension.reviewer.n_hunks === 1);
    await vscode.commands.executeCommand("singlepass.undoAll");
    await until("none is left", () => extension.reviewer.n_hunks === 0);
    assert(editor.document.getText().includes("    return print(f'hello {name}')"));
    assert(editor.document.getText().includes("'bye ' + name"));
  });

  it("shows what is in review in the diff editor", async () => {
    const one = await open("left.py", "a = 1\n");
    await open("right.py", "b = 2\n");
    await finish(extension, () => ask("wish-diff"));
    await until("both are in review", () => extension.reviewer.n_hunks === 2);
    await vscode.commands.executeCommand("singlepass.showDiff");
    const tab = await until("its tab is there", () =>
      vscode.window.tabGroups.activeTabGroup.activeTab?.label.includes("in review")
        ? vscode.window.tabGroups.activeTabGroup.activeTab
        : undefined,
    );
    assert.match(tab.label, /edits in review/);
    const before = await vscode.workspace.openTextDocument(beforeUri(one.document.uri));
    assert.equal(before.getText(), "a = 1\n");
    await vscode.commands.executeCommand("singlepass.undoAll");
    await until("they are undone", () => one.document.getText() === "a = 1\n");
  });

  it("tries again with other words", async () => {
    const editor = await open("review.py", GREET);
    await finish(extension, () => ask("wish-review"));
    const run = await finish(extension, () =>
      vscode.commands.executeCommand("singlepass.tryAgain", { instruction: "wish-other" }),
    );
    assert.equal(run.title, "wish-other");
    assert.equal(editor.document.getText(), GREET.replace("hello", "HELLO"));
  });

  it("shows the context, and the targets to choose from", async () => {
    await open("free.py", GREET);
    await vscode.commands.executeCommand("singlepass.showContext");
    const page = await until("the page is open", () =>
      vscode.window.visibleTextEditors.find(({ document }) => document.getText().includes("# Context of")),
    );
    assert.match(page.document.getText(), /\| free\.py \| \d+ \| \d+ \|/);
    assert.deepEqual(
      (await targets()).map(({ name }) => name),
      ["default"],
    );
  });

  it("asks first when the review is set to confirm", async () => {
    await set("review", "confirm");
    const editor = await open("free.py", GREET);
    let applied = false;
    const done = finish(extension, () => ask("wish-free")).then((run) => {
      applied = true;
      return run;
    });
    await until("the refactor preview waits", async () => {
      await new Promise((resolve) => setTimeout(resolve, 300));
      // What asks first is not ticked in VS Code's preview.
      for (const command of ["focus", "toggleCheckedState", "apply"]) {
        await vscode.commands.executeCommand(`refactorPreview.${command}`);
        await vscode.commands.executeCommand("list.focusFirst");
      }
      return applied;
    });
    assert.equal((await done).outcome, "done");
    assert.equal(editor.document.getText(), GREET.replace("'bye ' + name", "f'bye {name}'"));
    await set("review", undefined);
  });

  it("takes no target and no program from a workspace", async () => {
    const described = async () => (await targets()).map(({ name, backend, model }) => [name, backend, model]);
    const before = await described();
    const own = {
      "singlepass.target": { model: "/theirs.gguf" },
      "singlepass.target.url": "http://127.0.0.1:1",
    };
    mkdirSync(join(folder(), ".vscode"), { recursive: true });
    const section = () => vscode.workspace.getConfiguration("singlepass");
    const seen = await watching(extension, async () => {
      writeFileSync(
        join(folder(), ".vscode", "settings.json"),
        JSON.stringify({ ...own, "singlepass.server.path": "/bin/false", "singlepass.ignore": ["*.secret"] }),
      );
      await until("the settings are read", () => section().inspect("ignore")?.workspaceValue);
      assert.deepEqual(await described(), before);
    });
    assert(!seen.includes("starting"), "a workspace restarts the server");
    await vscode.commands.executeCommand("singlepass.restart");
    await until("it has its settings", async () => (await described()).length > 0);
    assert.deepEqual(await described(), before);
    const later = await watching(extension, async () => {
      rmSync(join(folder(), ".vscode"), { recursive: true });
      await until("the settings are gone", () => !section().inspect("ignore")?.workspaceValue);
      assert.deepEqual(await described(), before);
    });
    assert(!later.includes("starting"), "a workspace restarts the server");
  });

  it("says what is the matter when something is kept while the server starts again", async () => {
    const editor = await open("review.py", GREET);
    await finish(extension, () => ask("wish-review"));
    await until("both are in review", () => extension.reviewer.n_hunks === 2);
    const done = editor.document.getText();
    const seen = await watching(extension, async () => {
      const restarted = vscode.commands.executeCommand("singlepass.restart");
      await until("the server is away", () => extension.status().text.includes("starting"));
      await vscode.commands.executeCommand("singlepass.keepAll");
      // What a menu or a lens of before names: it waits for the server and changes nothing.
      await vscode.commands.executeCommand("singlepass.keep", { hunk: 1 });
      await restarted;
    });
    assert.match(extension.failure(), /^The server is not running now, .* nothing to keep/);
    inOrder(seen, /^starting$/, /^(singlepass|warm)/);
    assert.equal(editor.document.getText(), done);
    assert.equal(extension.reviewer.n_hunks, 0);
    await vscode.commands.executeCommand("undo");
    assert.equal(editor.document.getText(), GREET);
  });

  it("works with the demo model, and goes on after its engine was killed", async () => {
    await set("target", undefined);
    await set("max_neighbours", 0); // documents of other tests are open for a while
    await until("the demo model", async () => (await targets())[0]?.name === "demo model");
    const editor = await open("words.py", WORDS);
    const { document } = editor;
    const edited = WORDS.replace("words = text", "found = text").replace("(words)", "(found)");
    select(editor, 5, 7);
    const run = await finish(extension, () => ask("Rename the variable words to found."));
    assert.equal(run.outcome, "done", run.message);
    assert.match(run.message, /; demo model$/);
    assert.equal(document.getText(), edited);
    await vscode.commands.executeCommand("undo");
    assert.equal(document.getText(), WORDS);
    select(editor, 5, 7);
    const seen = await watching(extension, async () => {
      process.kill(await enginePid(), "SIGKILL");
      const again = await finish(extension, () => ask("Rename the variable words to found."));
      assert.equal(again.outcome, "done", again.message);
    });
    assert.equal(document.getText(), edited);
    inOrder(seen, /^prefill/, /^decode/);
  });
}
