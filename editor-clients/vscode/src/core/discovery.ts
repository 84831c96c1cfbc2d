/** Where a server may be, most wanted first. Pure: what exists is asked of the caller. */

import { isAbsolute, join, relative } from "node:path";

/** How a server is started. */
export interface ServerCommand {
  readonly command: string;
  readonly args: readonly string[];
  /** Where it was found, for the log. */
  readonly from: string;
}

export interface Machine {
  readonly home: string;
  /** The value of PATH. */
  readonly path: string;
  /** The extension's own folder, with the environment that it installs. */
  readonly storage: string;
  readonly xdgDataHome: string | undefined;
  /** The workspace's folders: nothing that PATH names inside of them is ever run. */
  readonly workspace: readonly string[];
}

/** The environment that the extension makes when the user asks it to install. */
export function ownEnvironment(storage: string): string {
  return join(storage, "server");
}

/** What the user's setting names: the command itself, or a Python that has it. */
export function fromSetting(path: string, home: string): ServerCommand {
  const command = path.startsWith("~/") ? join(home, path.slice(2)) : path;
  return isPython(command)
    ? { ...python(command), from: "singlepass.server.path" }
    : { command, args: ["serve"], from: "singlepass.server.path" };
}

function isPython(path: string): boolean {
  return /^(python|pypy)[\d.]*(\.exe)?$/.test(path.split(/[/\\]/).at(-1) ?? "");
}

/** -P: a folder's own `singlepass.py` must not be what is run. */
function python(path: string): Omit<ServerCommand, "from"> {
  return { command: path, args: ["-P", "-m", "singlepass", "serve"] };
}

/**
 * Places of the command itself. What PATH names may lie in the workspace, as an active environment does, and is left
 * out then. The other places are the user's own wherever the workspace is, be it the whole home folder.
 */
export function candidates(machine: Machine): ServerCommand[] {
  const data = machine.xdgDataHome || join(machine.home, ".local", "share");
  const onPath = searchPath(machine).filter((folder) => isOutside(folder, machine));
  const found: [string, string][] = [
    [join(ownEnvironment(machine.storage), "bin"), "installed by the extension"],
    ...onPath.map((folder): [string, string] => [folder, "PATH"]),
    [join(machine.home, ".local", "bin"), "~/.local/bin"],
    [join(data, "uv", "tools", "singlepass", "bin"), "uv tool"],
    [join(data, "pipx", "venvs", "singlepass", "bin"), "pipx"],
    [join(machine.home, ".local", "pipx", "venvs", "singlepass", "bin"), "pipx"],
  ];
  return found
    .map(([folder, from]) => ({ command: join(folder, "singlepass"), args: ["serve"], from }))
    .filter((one, index, all) => all.findIndex((other) => other.command === one.command) === index);
}

/** Pythons that may have the package; each has to be asked. */
export function pythons(machine: Machine): ServerCommand[] {
  return searchPath(machine)
    .filter((folder) => isOutside(folder, machine))
    .flatMap((folder) => ["python3", "python"].map((name) => join(folder, name)))
    .map((path) => ({ ...python(path), from: `${path} -m singlepass` }));
}

/** The absolute folders of PATH: a relative one means the workspace, or any other folder. */
export function searchPath(machine: Pick<Machine, "path">): string[] {
  return machine.path.split(":").filter((folder) => isAbsolute(folder));
}

export function isOutside(path: string, machine: Pick<Machine, "workspace">): boolean {
  return !machine.workspace.some((folder) => {
    const inside = relative(folder, path);
    return !inside.startsWith("..") && !isAbsolute(inside);
  });
}

/** A way to install the server. */
export interface Installer {
  readonly label: string;
  readonly detail: string;
  /** A command line for the terminal. */
  readonly line: string;
}

/** The Pythons to try, by name. */
export const PYTHONS = ["python3", "python3.14", "python3.13", "python3.12", "python3.11"] as const;

/** Ends with 0 where this Python can make an environment, with 3 where it is too old, with 4 where a part is missing. */
export const PROBE = `import sys
if sys.version_info < (3, 11): sys.exit(3)
try: import ensurepip, venv
except ImportError: sys.exit(4)`;

export const TOO_OLD = 3;
export const LACKS_VENV = 4;

/** What a machine has to install with. */
export interface Tools {
  /** Paths of the programs. */
  readonly uv: string | undefined;
  readonly pipx: string | undefined;
  /** A Python that can make an environment. */
  readonly python: string | undefined;
  /** With what the probe of each Python on PATH ended. */
  readonly probed: readonly number[];
  readonly compiler: boolean;
}

/** The ways that this machine offers. */
export function installers({ uv, pipx, python }: Tools, wheel: string, storage: string): Installer[] {
  const own = ownEnvironment(storage);
  const found: Installer[] = [];
  if (uv !== undefined) {
    // uv brings a Python along where the machine has none.
    const line = `${quoted(uv)} tool install --force --python '>=3.11' ${quoted(wheel)}`;
    found.push({ label: "uv tool", detail: "as a tool of your user, with uv", line });
  }
  if (pipx !== undefined) {
    const with_ = python === undefined ? "" : ` --python ${quoted(python)}`;
    const line = `${quoted(pipx)} install --force${with_} ${quoted(wheel)}`;
    found.push({ label: "pipx", detail: "as an application of your user, with pipx", line });
  }
  if (python !== undefined) {
    // -I: nothing that lies in the folder where it is started.
    const line = `${quoted(python)} -I -m venv ${quoted(own)} && ${quoted(join(own, "bin", "pip"))} install --upgrade ${quoted(wheel)}`;
    found.push({
      label: "Python environment",
      detail: "in the extension's own folder, with Python 3.11 or later",
      line,
    });
  }
  return found;
}

/** Why there is no way, and what to do about it. */
export function whyNone({ probed }: Tools): string {
  if (probed.includes(LACKS_VENV)) {
    return (
      "Python is there, but not its module venv, with which the server is installed. " +
      "On Debian and Ubuntu `apt install python3-venv` brings it."
    );
  }
  const found = probed.includes(TOO_OLD) ? "the one on PATH is older" : "there is none on PATH";
  return `Python 3.11 or later is needed to install the server, and ${found}.`;
}

/** What to say before an installation that will probably fail; nothing where it will not. */
export function warning({ compiler }: Tools, platform: string): string | undefined {
  if (compiler) {
    return undefined;
  }
  const how = platform === "darwin" ? "`xcode-select --install`" : "on Debian and Ubuntu `apt install g++`";
  return `llama.cpp may have to be compiled, and there is no C++ compiler on PATH. Install one first: ${how}.`;
}

/** A word for a POSIX shell. */
export function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
