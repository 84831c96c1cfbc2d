/** The panel with the last runs. */

import { randomBytes } from "node:crypto";
import * as vscode from "vscode";
import { type Run, renderRuns } from "./core/runs";

const COMMANDS = ["chooseTarget", "showContext", "showLog", "restart"].map((name) => `singlepass.${name}`);

export class RunsPanel implements vscode.Disposable {
  private panel: vscode.WebviewPanel | undefined;

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

  /** Draw again, if it is open. */
  update(runs: readonly Run[], ahead: string, target: string): void {
    if (this.panel) {
      this.panel.webview.html = renderRuns(runs, ahead, target, randomBytes(16).toString("hex"));
    }
  }

  dispose(): void {
    this.panel?.dispose();
  }
}
