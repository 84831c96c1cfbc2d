/** Wires the parts together; each has its own story in its own file. */

import * as vscode from "vscode";
import type { Middleware } from "vscode-languageclient/node";
import { Applier } from "./applying";
import { AskAction, Instructions, pickFiles } from "./asking";
import type { HunksParams, PreviewParams, Range } from "./core/review";
import { addRun, type Run, runFrom } from "./core/runs";
import { historyFrom } from "./core/stats";
import { became, type Drawn, draw, NOTHING, onClick, type StatusParams, told } from "./core/status";
import { install } from "./installing";
import { RunsPanel } from "./panel";
import { Reviewer, type Where } from "./reviewing";
import { NoServer, type Notification, SERVER_COMMANDS, ServerConnection, Stopped } from "./server";
import { chooseModel, chooseTarget, showContext } from "./targets";

/** The server writes its history of requests in the background. */
const HISTORY_PAUSE_MS = 500;

/** What a request asks for, as `singlepass.edit` takes it. */
interface EditRequest {
  readonly uri: string;
  readonly range: Range;
  readonly instruction: string;
  readonly title?: string;
  readonly files?: readonly string[];
}

/** What tests look at; nothing else uses it. */
export interface Api {
  status(): Drawn;
  runs(): readonly Run[];
  panel(): string | undefined;
  /** What the user was last told that went wrong. */
  failure(): string;
  readonly onDidDraw: vscode.Event<Drawn>;
  readonly reviewer: Reviewer;
}

export function activate(context: vscode.ExtensionContext): Api {
  const extension = new Extension(context);
  context.subscriptions.push(extension);
  extension.begin();
  return extension.api;
}

class Extension implements vscode.Disposable {
  private status = NOTHING;
  private runs: Run[] = [];
  private failure = "";
  private readonly log = vscode.window.createOutputChannel("singlepass", { log: true });
  private readonly installation = vscode.window.createOutputChannel("singlepass installation");
  private readonly item = vscode.window.createStatusBarItem(
    "singlepass.status",
    vscode.StatusBarAlignment.Left,
  );
  private readonly drawn = new vscode.EventEmitter<Drawn>();
  private readonly panel = new RunsPanel();
  private readonly applier = new Applier();
  private readonly instructions: Instructions;
  private readonly reviewer: Reviewer;
  private readonly server: ServerConnection;
  private readonly registered: vscode.Disposable[] = [];

  constructor(private readonly context: vscode.ExtensionContext) {
    this.instructions = new Instructions(context.globalState);
    const middleware: Middleware = {
      workspace: { handleApplyEdit: (params, next) => this.applier.apply(params, next) },
    };
    this.server = new ServerConnection(context, this.log, middleware, {
      became: (server) => {
        this.status = became(this.status, server);
        void setContext("ready", server === "running");
        if (server !== "running") {
          this.reviewer.clear();
        }
        this.update();
      },
      notified: (method, params) => this.notified(method, params),
    });
    this.reviewer = new Reviewer(
      (what, where) => this.judge(what, where),
      (n_hunks) => {
        this.status = { ...this.status, n_hunks };
        void setContext("reviewing", n_hunks > 0);
        this.update();
      },
    );
    this.item.name = "singlepass";
    this.item.command = "singlepass.showRuns";
    this.registered.push(
      this.log,
      this.installation,
      this.item,
      this.drawn,
      this.panel,
      this.reviewer,
      this.server,
    );
  }

  get api(): Api {
    return {
      status: () => draw(this.status),
      runs: () => this.runs,
      panel: () => this.panel.html,
      failure: () => this.failure,
      onDidDraw: this.drawn.event,
      reviewer: this.reviewer,
    };
  }

  dispose(): void {
    for (const one of this.registered) {
      one.dispose();
    }
  }

  begin(): void {
    this.registerCommands();
    this.registered.push(
      vscode.workspace.onDidChangeTextDocument((event) => {
        if (event.contentChanges.length > 0) {
          this.applier.documentChanged(event.document);
          this.reviewer.documentChanged(event);
        }
      }),
      vscode.workspace.onDidChangeConfiguration((event) => {
        if (event.affectsConfiguration("singlepass.server.path") && this.server.isOtherProgram()) {
          void this.restart();
        } else if (event.affectsConfiguration("singlepass")) {
          this.reviewer.draw();
          this.server.settingsChanged();
        }
      }),
      vscode.workspace.onDidGrantWorkspaceTrust(() => this.server.settingsChanged()),
      vscode.languages.registerCodeActionsProvider(
        [{ scheme: "file" }, { scheme: "untitled" }],
        new AskAction(),
        { providedCodeActionKinds: [AskAction.kind] },
      ),
    );
    this.update();
    this.item.show();
    void this.guarded(() => this.server.start());
  }

  private registerCommands(): void {
    const commands: Record<string, (...args: never[]) => unknown> = {
      ask: (given?: { instruction?: string }) => this.ask(given?.instruction),
      askFiles: () => this.askFiles(),
      tryAgain: (given?: { instruction?: string }) => this.tryAgain(given?.instruction),
      cancelJob: () => this.server.command("singlepass.cancel"),
      keepHunk: (uri?: vscode.Uri, id?: number) => this.reviewer.decide("keep", uri, id),
      undoHunk: (uri?: vscode.Uri, id?: number) => this.reviewer.decide("undo", uri, id),
      keepAll: () => this.judge("keep"),
      undoAll: () => this.judge("undo"),
      nextHunk: () => this.reviewer.go(1),
      previousHunk: () => this.reviewer.go(-1),
      showDiff: () => this.reviewer.showDiff(),
      showRuns: () => this.showRuns(),
      chooseTarget: () => chooseTarget(this.server),
      chooseModel: () => chooseModel(),
      showContext: () => showContext(this.server),
      showLog: () => this.log.show(),
      restart: () => this.restart(),
      install: () => this.install(),
      openWalkthrough: () =>
        vscode.commands.executeCommand(
          "workbench.action.openWalkthrough",
          `${this.context.extension.id}#start`,
        ),
    };
    for (const command of SERVER_COMMANDS) {
      const run = (...args: unknown[]) => this.guarded(() => this.server.command(command, ...args));
      this.registered.push(vscode.commands.registerCommand(command, run));
    }
    for (const [name, run] of Object.entries(commands)) {
      const guarded = (...args: unknown[]) => this.guarded(() => run(...(args as never[])));
      this.registered.push(vscode.commands.registerCommand(`singlepass.${name}`, guarded));
    }
  }

  /** Run something for the user; what goes wrong is told with what can be done about it. */
  private async guarded<T>(run: () => T): Promise<Awaited<T> | undefined> {
    try {
      return await run();
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.log.error(message);
      this.failure = message;
      const offers = error instanceof NoServer ? ["Install", "Settings"] : ["Show Log"];
      if (error instanceof Stopped) {
        offers.unshift("Restart");
      }
      void vscode.window.showErrorMessage(`singlepass: ${message}`, ...offers).then((chosen) => {
        if (chosen === "Install") {
          void vscode.commands.executeCommand("singlepass.install");
        } else if (chosen === "Restart") {
          void this.restart();
        } else if (chosen === "Settings") {
          void vscode.commands.executeCommand("workbench.action.openSettings", "singlepass.server.path");
        } else if (chosen) {
          this.log.show();
        }
      });
      return undefined;
    }
  }

  // What the server tells.

  private notified(method: Notification, params: unknown): void {
    if (method === "hunks") {
      this.reviewer.told(params as HunksParams);
    } else if (method === "preview") {
      this.reviewer.previewed(params as PreviewParams);
    } else if (method === "timings") {
      const run = runFrom(params);
      this.runs = addRun(this.runs, run);
      this.status = { ...this.status, last: run };
      void setContext("canRetry", true);
      this.update();
      setTimeout(() => void this.readHistory(), HISTORY_PAUSE_MS);
    } else {
      const n_jobs = this.status.jobs.size;
      this.status = told(this.status, params as StatusParams);
      if (this.status.jobs.size !== n_jobs) {
        this.applier.jobChanged();
        void setContext("running", this.status.jobs.size > 0);
      }
      void setContext("warm", this.status.ahead === "warm");
      this.update();
    }
  }

  private update(): void {
    const drawn = draw(this.status);
    const { text, tooltip, kind } = drawn;
    this.item.text = text;
    this.item.tooltip = tooltip === "" ? "singlepass: show the last runs" : tooltip;
    this.item.command = `singlepass.${onClick(this.status)}`;
    this.item.backgroundColor =
      kind === "normal" ? undefined : new vscode.ThemeColor(`statusBarItem.${kind}Background`);
    this.panel.update(this.runs, this.status.ahead, this.status.target);
    this.drawn.fire(drawn);
  }

  private async showRuns(): Promise<void> {
    this.panel.show(this.runs, this.status.ahead, this.status.target);
    await this.readHistory();
  }

  /** Have the open panel show what `singlepass stats` tells. Without a server it keeps what it has. */
  private async readHistory(): Promise<void> {
    if (!this.panel.isOpen || this.status.server !== "running") {
      return;
    }
    try {
      this.panel.told(historyFrom(await this.server.command("singlepass.stats", { by: ["target"] })));
      this.panel.update(this.runs, this.status.ahead, this.status.target);
    } catch (error) {
      this.log.warn(String(error));
    }
  }

  // What the user asks for.

  private async ask(given?: string, files: readonly string[] = []): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    if (!editor || !["file", "untitled"].includes(editor.document.uri.scheme)) {
      throw new Error("Open a file and select what to change.");
    }
    const { document, selection } = editor;
    await this.server.start();
    const instruction = given ?? (await this.instructions.ask(titleOf(document, selection)));
    if (instruction) {
      const uri = this.server.uri(document.uri);
      await this.send({ uri, range: rangeOf(selection), instruction, files });
    }
  }

  private async askFiles(): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    const files = editor ? await pickFiles(editor.document.uri) : [];
    if (files) {
      await this.ask(
        undefined,
        files.map((file) => this.server.uri(file)),
      );
    }
  }

  private async tryAgain(given?: string): Promise<void> {
    const asked = await this.server.command<EditRequest>("singlepass.retry");
    const document = await vscode.workspace.openTextDocument(vscode.Uri.parse(asked.uri, true));
    const editor = await vscode.window.showTextDocument(document);
    const { start, end } = asked.range;
    editor.selection = new vscode.Selection(start.line, start.character, end.line, end.character);
    const instruction =
      given ?? (await this.instructions.ask(titleOf(document, editor.selection), asked.instruction));
    if (instruction) {
      // All that was asked, a comment to take away among it; only the words are others.
      await this.send({ ...asked, title: "", instruction });
    }
  }

  private async send(request: EditRequest): Promise<void> {
    await this.instructions.add(request.instruction);
    await this.server.command("singlepass.edit", request);
  }

  /** Keep or undo what is in review, or a part of it. */
  private async judge(what: "keep" | "undo", where?: Where): Promise<void> {
    if (this.status.server !== "running") {
      throw new Error(
        `The server is not running now, and nothing is in review: there is nothing to ${what}. ` +
          "The text is as it was; the editor's own undo takes an edit back.",
      );
    }
    const answer = await this.server.command<{ changed?: number }>(
      `singlepass.${what}`,
      ...(where ? [where] : []),
    );
    if (answer.changed) {
      const hunks = answer.changed === 1 ? "1 hunk stays" : `${answer.changed} hunks stay`;
      void vscode.window.showWarningMessage(`singlepass: ${hunks}, because the text was changed since.`);
    }
  }

  private async restart(): Promise<void> {
    await this.guarded(() => this.server.restart());
  }

  private async install(): Promise<void> {
    const done = await install(this.context, this.installation, () => {
      if (this.status.server === "missing") {
        this.status = became(this.status, "installing");
        this.update();
      }
    });
    if (done) {
      await this.server.restart();
    } else if (this.status.server === "installing") {
      this.status = became(this.status, "missing");
      this.update();
    }
  }
}

function rangeOf({ start, end }: vscode.Range): Range {
  return {
    start: { line: start.line, character: start.character },
    end: { line: end.line, character: end.character },
  };
}

function titleOf(document: vscode.TextDocument, selection: vscode.Selection): string {
  const name = vscode.workspace.asRelativePath(document.uri);
  const first = selection.start.line + 1;
  const last = selection.end.line + (selection.end.character > 0 || selection.isEmpty ? 1 : 0);
  return `singlepass: ${name}, ${first >= last ? `line ${first}` : `lines ${first}–${last}`}`;
}

function setContext(name: string, value: boolean): Thenable<unknown> {
  return vscode.commands.executeCommand("setContext", `singlepass.${name}`, value);
}
