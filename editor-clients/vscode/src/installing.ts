/** Offers to install the server that the extension brings along. */

import { accessSync, constants, mkdirSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import * as vscode from "vscode";
import { type Installer, installers } from "./core/discovery";

/** Let the user choose a way and run it in a terminal, where they see it; true when it succeeded. */
export async function install(context: vscode.ExtensionContext): Promise<boolean> {
  const wheel = bundledWheel(context);
  if (!wheel) {
    void vscode.window.showErrorMessage(
      "This build of the extension brings no server. The README says how to install it.",
    );
    return false;
  }
  const storage = context.globalStorageUri.fsPath;
  mkdirSync(storage, { recursive: true });
  const ways = installers(isOnPath, wheel, storage);
  if (ways.length === 0) {
    void vscode.window.showErrorMessage(
      "Python 3.11 or later is needed to install the server, and there is none on PATH.",
    );
    return false;
  }
  const way =
    ways.length === 1
      ? ways[0]
      : await vscode.window.showQuickPick(
          ways.map((one) => ({ ...one, description: one.detail, detail: one.line })),
          { title: "singlepass: install the server with …" },
        );
  return way ? await run(way) : false;
}

async function run(way: Installer): Promise<boolean> {
  // Compiling llama.cpp can take minutes; a terminal shows that it still runs, and what went wrong.
  const task = new vscode.Task(
    { type: "singlepass" },
    vscode.TaskScope.Global,
    "install the server",
    "singlepass",
    new vscode.ShellExecution(way.line, { executable: "/bin/sh", shellArgs: ["-c"] }),
  );
  task.presentationOptions = { reveal: vscode.TaskRevealKind.Always, clear: true };
  const execution = await vscode.tasks.executeTask(task);
  return await new Promise((resolve) => {
    const listener = vscode.tasks.onDidEndTaskProcess((ended) => {
      if (ended.execution === execution) {
        listener.dispose();
        resolve(ended.exitCode === 0);
      }
    });
  });
}

function bundledWheel(context: vscode.ExtensionContext): string | undefined {
  const folder = context.asAbsolutePath("dist");
  const name = readdirSync(folder).find((file) => file.endsWith(".whl"));
  return name && join(folder, name);
}

function isOnPath(command: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return folder !== "";
    } catch {
      return false;
    }
  });
}
