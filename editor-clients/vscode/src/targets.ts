/** Which model serves, and what it reads. */

import * as vscode from "vscode";
import { withModel } from "./core/settings";
import type { ServerConnection } from "./server";

interface Target {
  readonly name: string;
  readonly model: string;
  readonly backend: string;
  readonly remote: boolean;
  readonly allowed: boolean;
  readonly prefill_rate: number | null;
  readonly decode_rate: number | null;
}

interface Targets {
  readonly selected: string | null;
  readonly targets: readonly Target[];
}

interface ContextAnswer {
  readonly target?: {
    readonly name: string;
    readonly url: string;
    readonly remote: boolean;
    readonly allowed: boolean;
  };
  readonly n_ctx: number;
  readonly segments: readonly {
    readonly name: string;
    readonly n_tokens: number;
    readonly n_cached: number;
  }[];
  readonly left_out: readonly string[];
}

export async function chooseTarget(server: ServerConnection): Promise<void> {
  const { selected, targets } = await server.command<Targets>("singlepass.selectTarget");
  const automatic = { label: "Choose for each request", description: "by rules and estimates", name: null };
  const items = targets.map((one) => ({
    label: one.name,
    description: [one.model, one.remote ? "remote" : "", one.allowed ? "" : "not allowed for this workspace"]
      .filter((part) => part !== "")
      .join(" · "),
    detail: rates(one),
    name: one.name,
  }));
  const marked = [automatic, ...items].map((item) => ({
    ...item,
    label: item.name === selected ? `$(check) ${item.label}` : item.label,
  }));
  const chosen = await vscode.window.showQuickPick(marked, { title: "singlepass: target for requests" });
  if (chosen) {
    await server.command("singlepass.selectTarget", chosen.name);
  }
}

function rates({ prefill_rate, decode_rate }: Target): string {
  return prefill_rate && decode_rate
    ? `measured here: prefill ${prefill_rate.toFixed(0)}, decode ${decode_rate.toFixed(0)} tok/s`
    : "";
}

/** Let the user choose a model file, and keep it in their own settings. */
export async function chooseModel(): Promise<void> {
  // MLX runs on Macs alone, and elsewhere a dialog that takes folders takes no files.
  const takesFolders = process.platform === "darwin";
  const chosen = await vscode.window.showOpenDialog({
    title: `singlepass: a GGUF file${takesFolders ? ", or the folder of an MLX model" : ""}`,
    canSelectFiles: true,
    canSelectFolders: takesFolders,
    filters: { Models: ["gguf"], "All files": ["*"] },
    openLabel: "Use This Model",
  });
  if (chosen?.[0]) {
    const section = vscode.workspace.getConfiguration("singlepass");
    const value = withModel(section.inspect("target")?.globalValue, chosen[0].fsPath);
    await section.update("target", value, vscode.ConfigurationTarget.Global);
  }
}

/** What stands in the prompt for the active file, as a page of its own. */
export async function showContext(server: ServerConnection): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  if (!editor) {
    throw new Error("Open a file first.");
  }
  const uri = server.uri(editor.document.uri);
  const location = { location: vscode.ProgressLocation.Window, title: "singlepass: reading the context" };
  const found = await vscode.window.withProgress(location, () =>
    server.command<ContextAnswer>("singlepass.context", uri),
  );
  const name = vscode.workspace.asRelativePath(editor.document.uri);
  const document = await vscode.workspace.openTextDocument({
    language: "markdown",
    content: page(name, found),
  });
  await vscode.window.showTextDocument(document, { preview: true, viewColumn: vscode.ViewColumn.Beside });
}

function page(name: string, { target, n_ctx, segments, left_out }: ContextAnswer): string {
  const total = segments.reduce((sum, one) => sum + one.n_tokens, 0);
  const where = target?.remote
    ? ` at ${target.url}${target.allowed ? "" : " (not allowed; nothing was sent)"}`
    : "";
  return [
    `# Context of ${name}`,
    "",
    `${total.toLocaleString("en-US")} of ${n_ctx.toLocaleString("en-US")} tokens${target ? `, target ${target.name}${where}` : ""}`,
    "",
    "| segment | tokens | cached |",
    "|---|---:|---:|",
    ...segments.map((one) => `| ${one.name} | ${one.n_tokens} | ${one.n_cached} |`),
    ...(left_out.length > 0 ? ["", `Left out: ${left_out.join(", ")}`] : []),
    "",
  ].join("\n");
}
