/** Installs the server that the extension brings along. */

import { execFile, spawn } from "node:child_process";
import { accessSync, constants, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import * as vscode from "vscode";
import {
  installers,
  isOutside,
  PROBE,
  PYTHONS,
  searchPath,
  type Tools,
  warning,
  whyNone,
} from "./core/discovery";
import { NoServer } from "./server";

const ANYWAY = "Install Anyway";
const MESSAGE_CHARS = 80;

let isRunning = false;

/**
 * Let the user choose a way and run it where they see it; true when it succeeded.
 *
 * `began` is called when something runs. While it does, another call shows it.
 */
export async function install(
  context: vscode.ExtensionContext,
  output: vscode.OutputChannel,
  began: () => void,
): Promise<boolean> {
  if (isRunning) {
    output.show(true);
    return false;
  }
  const wheel = bundledWheel(context);
  if (!wheel) {
    throw new Error("This build of the extension brings no server. The README says how to install it.");
  }
  const storage = context.globalStorageUri.fsPath;
  mkdirSync(storage, { recursive: true });
  const tools = await toolsOf(onPath(), storage);
  const ways = installers(tools, wheel, storage);
  if (ways.length === 0) {
    throw new NoServer(whyNone(tools));
  }
  const doubt = warning(tools, process.platform);
  if (doubt && (await vscode.window.showWarningMessage(`singlepass: ${doubt}`, ANYWAY)) !== ANYWAY) {
    return false;
  }
  const way =
    ways.length === 1
      ? ways[0]
      : await vscode.window.showQuickPick(
          ways.map((one) => ({ ...one, description: one.detail, detail: one.line })),
          { title: "singlepass: install the server with …" },
        );
  if (!way || isRunning) {
    return false;
  }
  began();
  isRunning = true;
  output.show(true);
  try {
    const code = await runShown(way.line, storage, output);
    if (code !== 0) {
      throw new NoServer(
        code === undefined
          ? "The installation was stopped."
          : `The installation ended with ${code}. Its output says why.`,
      );
    }
  } finally {
    isRunning = false;
  }
  return true;
}

/**
 * Run a line of shell; its exit code, or nothing where the user stopped it.
 *
 * Not in a terminal: VS Code lets none of any kind into a folder that is not trusted, which has nothing to do with this.
 */
async function runShown(
  line: string,
  cwd: string,
  output: vscode.OutputChannel,
): Promise<number | undefined> {
  const options = {
    location: vscode.ProgressLocation.Notification,
    title: "singlepass: installing the server",
    cancellable: true,
  };
  return await vscode.window.withProgress(options, (progress, token) => {
    output.appendLine(line);
    // A group of its own, so that compilers end with it.
    const child = spawn("/bin/sh", ["-c", line], { cwd, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output.append(text);
        const last = text.trim().split("\n").at(-1) ?? "";
        progress.report({ message: last.slice(0, MESSAGE_CHARS) });
      });
    }
    token.onCancellationRequested(() => child.pid && process.kill(-child.pid));
    return new Promise<number | undefined>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code) => resolve(token.isCancellationRequested ? undefined : (code ?? 1)));
    });
  });
}

function bundledWheel(context: vscode.ExtensionContext): string | undefined {
  const folder = context.asAbsolutePath("dist");
  const name = readdirSync(folder).find((file) => file.endsWith(".whl"));
  return name && join(folder, name);
}

/** The folders where programs are looked for; none of a workspace. */
function onPath(): string[] {
  const workspace = (vscode.workspace.workspaceFolders ?? []).map((folder) => folder.uri.fsPath);
  return searchPath({ path: process.env.PATH ?? "" }).filter((folder) => isOutside(folder, { workspace }));
}

async function toolsOf(folders: readonly string[], cwd: string): Promise<Tools> {
  const find = (name: string) => folders.map((folder) => join(folder, name)).find(isExecutable);
  const probed: number[] = [];
  let python: string | undefined;
  for (const name of PYTHONS) {
    const path = find(name);
    if (path && python === undefined) {
      const code = await exitCode(path, ["-I", "-c", PROBE], cwd);
      probed.push(code);
      python = code === 0 ? path : undefined;
    }
  }
  return {
    uv: find("uv"),
    pipx: find("pipx"),
    python,
    probed,
    compiler: ["c++", "g++", "clang++"].some((name) => find(name) !== undefined),
  };
}

async function exitCode(command: string, args: readonly string[], cwd: string): Promise<number> {
  return await new Promise((resolve) => {
    execFile(command, args, { cwd, timeout: 20_000 }, (error) =>
      resolve(error ? (typeof error.code === "number" ? error.code : 1) : 0),
    );
  });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
