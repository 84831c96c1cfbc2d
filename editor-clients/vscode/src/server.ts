/** The server process and the connection to it: found, started, restarted, asked. */

import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { homedir } from "node:os";
import { promisify } from "node:util";
import * as vscode from "vscode";
import {
  type DynamicFeature,
  ExecuteCommandRequest,
  LanguageClient,
  type Middleware,
  State,
  type StaticFeature,
} from "vscode-languageclient/node";
import { candidates, fromSetting, type Machine, pythons, type ServerCommand } from "./core/discovery";
import { serverSettings } from "./core/settings";
import type { Server } from "./core/status";

const SECTION = "singlepass";
const PROBE_TIMEOUT_MS = 10_000;

/** What the server lets a client run. */
export const SERVER_COMMANDS = [
  "singlepass.edit",
  "singlepass.cancel",
  "singlepass.revert",
  "singlepass.keep",
  "singlepass.undo",
  "singlepass.retry",
  "singlepass.reply",
  "singlepass.context",
  "singlepass.selectTarget",
  "singlepass.stats",
] as const;

/** What the server tells, after `singlepass/`. */
const NOTIFICATIONS = ["status", "timings", "hunks", "preview"] as const;
export type Notification = (typeof NOTIFICATIONS)[number];

/** Announces that hunks are shown while they are written. */
const SHOWS_PREVIEW: StaticFeature = {
  fillClientCapabilities: (capabilities) => {
    capabilities.experimental = { ...capabilities.experimental, singlepass: { preview: true } };
  },
  initialize: () => {},
  getState: () => ({ kind: "static" }),
  clear: () => {},
};

/** What the rest of the extension wants to hear of. */
export interface Listeners {
  became(server: Server): void;
  notified(method: Notification, params: unknown): void;
}

/** No server was found; the message says what to do. */
export class NoServer extends Error {}

/** The server ended too often to be started again unasked. */
export class Stopped extends Error {}

/**
 * A client that registers no commands of the server. It would take them away with each end of the process, so that a
 * menu opened before answers "command not found"; the extension registers them once and for all.
 */
class Client extends LanguageClient {
  override registerFeature(feature: StaticFeature | DynamicFeature<unknown>): void {
    const type = "registrationType" in feature ? feature.registrationType : undefined;
    if (type?.method !== ExecuteCommandRequest.method) {
      super.registerFeature(feature);
    }
  }
}

export class ServerConnection implements vscode.Disposable {
  private client: LanguageClient | undefined;
  private starting: Promise<LanguageClient> | undefined;
  private readonly settingNames: string[];
  private path: string | undefined;

  constructor(
    private readonly context: vscode.ExtensionContext,
    private readonly log: vscode.LogOutputChannel,
    private readonly middleware: Middleware,
    private readonly listeners: Listeners,
  ) {
    const declared: Record<string, unknown> =
      context.extension.packageJSON.contributes.configuration.properties;
    this.settingNames = Object.keys(declared).map((name) => name.slice(SECTION.length + 1));
  }

  /** The running client, started if need be. Raises NoServer. */
  start(): Promise<LanguageClient> {
    this.starting ??= this.launch().catch((error: unknown) => {
      this.starting = undefined;
      throw error;
    });
    return this.starting;
  }

  async stop(): Promise<void> {
    const starting = this.starting;
    this.starting = undefined;
    // By now another may be on its way, which is left alone.
    const client = await starting?.catch(() => undefined);
    if (this.client === client) {
      this.client = undefined;
    }
    // One that died cannot be stopped; it is gone all the same.
    await client?.dispose().catch((error: unknown) => this.log.debug(String(error)));
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** Run one of the server's commands. */
  async command<T>(command: string, ...args: unknown[]): Promise<T> {
    const client = await this.start();
    if (client.state === State.Stopped) {
      throw new Stopped("The server has stopped.");
    }
    return await client.sendRequest<T>("workspace/executeCommand", { command, arguments: args });
  }

  /** A document's address as the server knows it. */
  uri(document: vscode.Uri): string {
    return this.client?.code2ProtocolConverter.asUri(document) ?? document.toString();
  }

  /** Whether the user set another program since the last start. What a workspace sets counts for nothing. */
  isOtherProgram(): boolean {
    return setPath() !== this.path;
  }

  settingsChanged(): void {
    if (this.client?.state === State.Running) {
      const settings = { [SECTION]: this.settings() };
      void this.client.sendNotification("workspace/didChangeConfiguration", { settings });
    }
  }

  dispose(): void {
    void this.stop();
  }

  private settings(): Record<string, unknown> {
    const section = vscode.workspace.getConfiguration(SECTION);
    return serverSettings(this.settingNames, (name) => section.inspect(name), vscode.workspace.isTrusted);
  }

  private async launch(): Promise<LanguageClient> {
    this.listeners.became("starting");
    let server: ServerCommand;
    try {
      server = await this.find();
    } catch (error) {
      this.listeners.became("missing");
      throw error;
    }
    this.log.info(`server: ${server.command} ${server.args.join(" ")} (${server.from})`);
    const client = new Client(
      SECTION,
      "singlepass",
      // Not in the workspace: Python looks for modules where it is started.
      { command: server.command, args: [...server.args], options: { cwd: homedir() } },
      {
        documentSelector: [{ scheme: "file" }, { scheme: "untitled" }],
        outputChannel: this.log,
        middleware: {
          ...this.middleware,
          workspace: {
            ...this.middleware.workspace,
            configuration: (params) =>
              params.items.map((item) => (item.section === SECTION ? this.settings() : null)),
          },
        },
      },
    );
    client.registerFeature(SHOWS_PREVIEW);
    for (const method of NOTIFICATIONS) {
      client.onNotification(`singlepass/${method}`, (params) => this.listeners.notified(method, params));
    }
    client.onDidChangeState(({ newState }) => {
      if (newState === State.Stopped && this.client === client) {
        this.listeners.became("stopped");
      } else if (newState === State.Running) {
        this.listeners.became("running");
      } else if (newState === State.Starting) {
        this.listeners.became("starting");
      }
    });
    this.client = client;
    try {
      await client.start();
    } catch (error) {
      this.client = undefined;
      this.listeners.became("failed");
      this.log.error(String(error));
      throw new Error(`The server, ${server.command}, ended at once. The log says why.`);
    }
    return client;
  }

  private async find(): Promise<ServerCommand> {
    const set = setPath();
    this.path = set;
    const machine = this.machine();
    if (set) {
      const server = fromSetting(set, machine.home);
      if (await isExecutable(server.command)) {
        return server;
      }
      throw new NoServer(`There is no program at ${server.command}, which singlepass.server.path names.`);
    }
    for (const server of candidates(machine)) {
      if (await isExecutable(server.command)) {
        return server;
      }
    }
    for (const server of pythons(machine)) {
      if ((await isExecutable(server.command)) && (await hasPackage(server.command, machine.home))) {
        return server;
      }
    }
    throw new NoServer("The singlepass server is not installed on this machine.");
  }

  private machine(): Machine {
    return {
      home: homedir(),
      path: process.env.PATH ?? "",
      storage: this.context.globalStorageUri.fsPath,
      xdgDataHome: process.env.XDG_DATA_HOME,
      workspace: (vscode.workspace.workspaceFolders ?? []).map((folder) => folder.uri.fsPath),
    };
  }
}

function setPath(): string | undefined {
  return vscode.workspace.getConfiguration(SECTION).inspect<string>("server.path")?.globalValue;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function hasPackage(python: string, cwd: string): Promise<boolean> {
  const code = "import singlepass.app";
  try {
    await promisify(execFile)(python, ["-P", "-c", code], { cwd, timeout: PROBE_TIMEOUT_MS });
    return true;
  } catch {
    return false;
  }
}
