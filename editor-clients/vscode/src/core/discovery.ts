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
  /** The workspace's folders: nothing inside of them is ever run. */
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

/** Places of the command itself. */
export function candidates(machine: Machine): ServerCommand[] {
  const data = machine.xdgDataHome || join(machine.home, ".local", "share");
  const found: [string, string][] = [
    [join(ownEnvironment(machine.storage), "bin"), "installed by the extension"],
    ...searchPath(machine).map((folder): [string, string] => [folder, "PATH"]),
    [join(machine.home, ".local", "bin"), "~/.local/bin"],
    [join(data, "uv", "tools", "singlepass", "bin"), "uv tool"],
    [join(data, "pipx", "venvs", "singlepass", "bin"), "pipx"],
    [join(machine.home, ".local", "pipx", "venvs", "singlepass", "bin"), "pipx"],
  ];
  return found
    .map(([folder, from]) => ({ command: join(folder, "singlepass"), args: ["serve"], from }))
    .filter(
      (one, index, all) =>
        all.findIndex((other) => other.command === one.command) === index && isOutside(one, machine),
    );
}

/** Pythons that may have the package; each has to be asked. */
export function pythons(machine: Machine): ServerCommand[] {
  return searchPath(machine)
    .flatMap((folder) => ["python3", "python"].map((name) => join(folder, name)))
    .map((path) => ({ ...python(path), from: `${path} -m singlepass` }))
    .filter((one) => isOutside(one, machine));
}

/** The absolute folders of PATH: a relative one means the workspace, or any other folder. */
function searchPath(machine: Machine): string[] {
  return machine.path.split(":").filter((folder) => isAbsolute(folder));
}

function isOutside(one: ServerCommand, machine: Machine): boolean {
  return !machine.workspace.some((folder) => {
    const inside = relative(folder, one.command);
    return inside !== "" && !inside.startsWith("..") && !isAbsolute(inside);
  });
}

/** A way to install the server. */
export interface Installer {
  readonly label: string;
  readonly detail: string;
  /** A command line for the terminal. */
  readonly line: string;
}

/** The ways that this machine offers. `has` tells whether a command is there. */
export function installers(has: (command: string) => boolean, wheel: string, storage: string): Installer[] {
  const own = ownEnvironment(storage);
  const found: Installer[] = [];
  if (has("uv")) {
    const line = `uv tool install --force ${quoted(wheel)}`;
    found.push({ label: "uv tool", detail: "as a tool of your user, with uv", line });
  }
  if (has("pipx")) {
    const line = `pipx install --force ${quoted(wheel)}`;
    found.push({ label: "pipx", detail: "as an application of your user, with pipx", line });
  }
  if (has("python3")) {
    const line = `python3 -m venv ${quoted(own)} && ${quoted(join(own, "bin", "pip"))} install --upgrade ${quoted(wheel)}`;
    found.push({
      label: "Python environment",
      detail: "in the extension's own folder, with Python 3.11 or later",
      line,
    });
  }
  return found;
}

/** A word for a POSIX shell. */
export function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
