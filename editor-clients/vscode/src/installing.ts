/** Installs the server that the extension brings along. */

import { type ChildProcess, execFile, spawn } from "node:child_process";
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

let running: vscode.Terminal | undefined;

/**
 * Let the user choose a way and run it in a terminal, where they see it; true when it succeeded.
 *
 * `began` is called when something runs. While it does, another call shows it.
 */
export async function install(context: vscode.ExtensionContext, began: () => void): Promise<boolean> {
  if (running) {
    running.show();
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
  if (!way || running) {
    return false;
  }
  began();
  const code = await runInTerminal(way.line, storage);
  if (code !== 0) {
    const how = code === undefined ? "was stopped" : `ended with ${code}; the terminal says why`;
    throw new NoServer(`The installation ${how}.`);
  }
  return true;
}

/**
 * Run a line of shell in a terminal; its exit code, or nothing where the user closed the terminal.
 *
 * Neither a task nor a shell of VS Code: those ask to trust the workspace first, with which this has nothing to do.
 */
async function runInTerminal(line: string, cwd: string): Promise<number | undefined> {
  const written = new vscode.EventEmitter<string>();
  const write = (text: string) => written.fire(text.replace(/\r?\n/g, "\r\n"));
  let child: ChildProcess | undefined;
  const ended = new Promise<number | undefined>((resolve) => {
    const open = () => {
      write(`${line}\n\n`);
      // A group of its own, so that compilers end with it.
      child = spawn("/bin/sh", ["-c", line], { cwd, detached: true, stdio: ["ignore", "pipe", "pipe"] });
      child.stdout?.setEncoding("utf8").on("data", write);
      child.stderr?.setEncoding("utf8").on("data", write);
      child.on("error", (error) => write(`${error.message}\n`));
      child.on("close", (code) => resolve(code ?? 1));
    };
    const close = () => {
      resolve(undefined);
      try {
        process.kill(-(child?.pid ?? Number.NaN));
      } catch {
        // It has ended by itself.
      }
    };
    running = vscode.window.createTerminal({
      name: "singlepass: install",
      pty: { onDidWrite: written.event, open, close },
    });
    running.show();
  });
  const code = await ended;
  if (code === 0) {
    running?.dispose();
  } else {
    write("\nThe server was not installed.\n");
  }
  running = undefined;
  return code;
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
