/** The panel with the last runs and the history of requests. */

import { randomBytes } from "node:crypto";
import * as vscode from "vscode";
import { type Run, renderRuns } from "./core/runs";
import type { History } from "./core/stats";

const COMMANDS = ["chooseTarget", "showContext", "showLog", "restart"].map((name) => `singlepass.${name}`);

export class RunsPanel implements vscode.Disposable {
  private panel: vscode.WebviewPanel | undefined;
  private history: History | undefined;

  /** Whether it is open, so that reading the history is worth it. */
  get isOpen(): boolean {
    return this.panel !== undefined;
  }

  /** What the panel shows, as HTML, if it is open. */
  get html(): string | undefined {
    return this.panel?.webview.html;
  }

  show(runs: readonly Run[], ahead: string, target: string): void {
    if (!this.panel) {
      this.panel = vscode.window.createWebviewPanel(
        "singlepass.runs",
        "singlepass",
        vscode.ViewColumn.Beside,
        {
          enableScripts: false,
          enableCommandUris: COMMANDS,
          localResourceRoots: [],
        },
      );
      this.panel.onDidDispose(() => {
        this.panel = undefined;
      });
    }
    this.update(runs, ahead, target);
    this.panel.reveal(undefined, true);
  }

  /** Keep the history for the next time it is drawn. */
  told(history: History): void {
    this.history = history;
  }

  /** Draw again, if it is open. */
  update(runs: readonly Run[], ahead: string, target: string): void {
    if (this.panel) {
      const nonce = randomBytes(16).toString("hex");
      this.panel.webview.html = renderRuns(runs, ahead, target, nonce, this.history);
    }
  }

  dispose(): void {
    this.panel?.dispose();
  }
}
