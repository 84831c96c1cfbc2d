/** What the tests in the editor share: files, recordings of a model, waiting. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import * as vscode from "vscode";
import type { Api } from "../../src/extension";

/** Long, because CI machines are busy; what is awaited comes much sooner. */
const PATIENCE_MS = 60_000;

/** A reply of the scripted backend; see its module for the fields. */
export interface Reply {
  when: string;
  text?: string[];
  n_prompt?: number;
  n_cached?: number;
  chunk_tokens?: number;
  chunk_ms?: number;
  delay_ms?: number;
  fail?: { code: string; message: string; exits?: boolean };
}

/** A block that replaces lines of a file. */
export function block(path: string, search: string, replace: string): string {
  return `${path}\n<<<<<<< SEARCH\n${search}=======\n${replace}>>>>>>> REPLACE\n`;
}

export async function api(): Promise<Api> {
  const extension = vscode.extensions.getExtension<Api>("singlepass.singlepass");
  assert(extension, "the extension is not there");
  return await extension.activate();
}

/** Wait until something holds; what is awaited is asked again and again. */
export async function until<T>(what: string, ask: () => T | Promise<T>): Promise<NonNullable<T>> {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await ask();
    if (found) {
      return found as NonNullable<T>;
    }
    if (Date.now() > end) {
      throw new Error(`waited in vain: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export function folder(): string {
  return vscode.workspace.workspaceFolders![0]!.uri.fsPath;
}

/** A new file in the workspace, open and active. */
export async function open(
  name: string,
  text: string,
  column: vscode.ViewColumn = vscode.ViewColumn.One,
): Promise<vscode.TextEditor> {
  const path = join(folder(), name);
  writeFileSync(path, text);
  const document = await vscode.workspace.openTextDocument(path);
  return await vscode.window.showTextDocument(document, { viewColumn: column, preview: false });
}

/** Select whole lines, from 0, the last included. */
export function select(editor: vscode.TextEditor, first: number, last: number): void {
  editor.selection = new vscode.Selection(first, 0, last + 1, 0);
}

export async function closeAll(): Promise<void> {
  for (const document of vscode.workspace.textDocuments) {
    if (document.isDirty) {
      await vscode.window.showTextDocument(document);
      await vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor");
    }
  }
  await vscode.commands.executeCommand("workbench.action.closeAllEditors");
}

/** Set one of our settings for the user; `undefined` removes it. */
export async function set(name: string, value: unknown): Promise<void> {
  await vscode.workspace
    .getConfiguration("singlepass")
    .update(name, value, vscode.ConfigurationTarget.Global);
}

interface Targets {
  targets: { name: string; model: string; backend: string }[];
}

export async function targets(): Promise<Targets["targets"]> {
  return (await vscode.commands.executeCommand<Targets>("singlepass.selectTarget")).targets;
}

/** Let the server use a target, and wait until it does. */
export async function use(target: {
  backend?: string;
  model: string;
  [key: string]: unknown;
}): Promise<void> {
  await set("target", target);
  await until("the server knows the target", async () => (await targets())[0]?.model === target.model);
}

/** The process that holds the demo model. */
export async function enginePid(): Promise<number> {
  const python = vscode.workspace.getConfiguration("singlepass").get<string>("server.path")!;
  const listed = await promisify(execFile)(python, ["-P", "-m", "singlepass", "engine", "status"]);
  const pid = /^pid (\d+) .* demo model /m.exec(listed.stdout)?.[1];
  assert(pid, listed.stdout);
  return Number(pid);
}

/** Write a recording for the scripted backend. */
export function recording(replies: Reply[], more: object = {}): string {
  const path = join(mkdtempSync(join(tmpdir(), "sp-recording-")), "recording.json");
  writeFileSync(path, JSON.stringify({ name: "scripted", replies, ...more }));
  return path;
}

/** Do something in whose course VS Code asks the user: the answer, in place of its own box. */
export async function answering<T>(
  name: "showQuickPick" | "showOpenDialog",
  answer: unknown,
  run: () => Thenable<T>,
): Promise<T> {
  const window = vscode.window as unknown as Record<string, unknown>;
  const own = window[name];
  window[name] = answer;
  try {
    return await run();
  } finally {
    window[name] = own;
  }
}

/** Do something in whose course an instruction is asked for: type it into the box, which is VS Code's own. */
export async function typing<T>(words: string, run: () => Thenable<T>): Promise<T> {
  const window = vscode.window as unknown as Record<string, unknown>;
  const create = vscode.window.createQuickPick;
  let pick: vscode.QuickPick<vscode.QuickPickItem> | undefined;
  window.createQuickPick = () => {
    pick = create();
    return pick;
  };
  try {
    const running = run();
    const box = await until("the box is open", () => pick);
    box.value = words;
    await new Promise((resolve) => setTimeout(resolve, 200));
    await vscode.commands.executeCommand("workbench.action.acceptSelectedQuickOpenItem");
    return await running;
  } finally {
    window.createQuickPick = create;
  }
}

/** Do something that starts a job, and wait for the job's end. */
export async function finish(
  extension: Api,
  start: () => Thenable<unknown>,
): Promise<Api["runs"] extends () => readonly (infer R)[] ? R : never> {
  // Not by their numbers: a server that starts again counts from 1.
  const [before] = extension.runs();
  await start();
  return await until("the job is done", () => {
    const [last] = extension.runs();
    return last === before ? undefined : last;
  });
}

/** Every text that the status bar shows while something runs, which may look at them too. */
export async function watching(
  extension: Api,
  run: (seen: readonly string[]) => Promise<unknown>,
): Promise<string[]> {
  const seen: string[] = [];
  const listener = extension.onDidDraw(({ text }) => {
    const shown = text.replace("$(zap) ", "");
    if (seen.at(-1) !== shown) {
      seen.push(shown);
    }
  });
  await run(seen);
  listener.dispose();
  return seen;
}

/** Assert that these occur in this order. */
export function inOrder(seen: readonly string[], ...wanted: RegExp[]): void {
  let from = 0;
  for (const pattern of wanted) {
    const index = seen.findIndex((text, i) => i >= from && pattern.test(text));
    assert(index >= 0, `${pattern} is missing, or not in this order, in ${JSON.stringify(seen)}`);
    from = index + 1;
  }
}
