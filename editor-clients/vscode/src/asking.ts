/** A free instruction on the selection: typed, or taken from those of before. */

import * as vscode from "vscode";
import { fileOffers } from "./core/files";
import { accepted, offers, oneLine, remember } from "./core/history";

const KEY = "instructions";

interface Offer extends vscode.QuickPickItem {
  readonly instruction: string;
}

export class Instructions {
  constructor(private readonly memory: vscode.Memento) {}

  private get all(): string[] {
    return this.memory.get<string[]>(KEY, []);
  }

  async add(instruction: string): Promise<void> {
    await this.memory.update(KEY, remember(this.all, instruction));
  }

  /** Ask the user; nothing where they left the box. */
  ask(title: string, typed = ""): Promise<string | undefined> {
    const pick = vscode.window.createQuickPick<Offer>();
    const change: vscode.QuickInputButton = {
      iconPath: new vscode.ThemeIcon("edit"),
      tooltip: "Change before asking",
    };
    const fill = () => {
      const asked = pick.value.trim();
      pick.items = offers(this.all, pick.value).map((instruction) => ({
        instruction,
        label: oneLine(instruction),
        iconPath: new vscode.ThemeIcon(instruction === asked ? "sparkle" : "history"),
        alwaysShow: instruction === asked,
        buttons: instruction === asked ? [] : [change],
      }));
    };
    pick.title = title;
    pick.placeholder = "What should change? Enter asks, arrow down for what you asked before";
    pick.value = typed;
    pick.ignoreFocusOut = true;
    fill();
    return new Promise((resolve) => {
      pick.onDidChangeValue(fill);
      pick.onDidTriggerItemButton(({ item }) => {
        pick.value = item.instruction;
        fill();
      });
      pick.onDidAccept(() => {
        const instruction = accepted(pick.value, pick.items, pick.activeItems[0]);
        if (instruction) {
          resolve(instruction);
          pick.hide();
        }
      });
      pick.onDidHide(() => {
        resolve(undefined);
        pick.dispose();
      });
      pick.show();
    });
  }
}

/** The entry of the menu of actions where the user says in words what to change; the server has all others. */
export class AskAction implements vscode.CodeActionProvider {
  static readonly kind = vscode.CodeActionKind.RefactorRewrite;

  provideCodeActions(
    _document: vscode.TextDocument,
    _range: vscode.Range,
    { only }: vscode.CodeActionContext,
  ): vscode.CodeAction[] {
    if (only && !only.contains(AskAction.kind)) {
      return [];
    }
    const action = new vscode.CodeAction("Ask for an edit…", AskAction.kind);
    action.command = { command: "singlepass.ask", title: action.title };
    return [action];
  }
}

/** Files that one request may change together with the active one. */
export async function pickFiles(active: vscode.Uri): Promise<vscode.Uri[] | undefined> {
  const open = vscode.window.tabGroups.all
    .flatMap((group) => group.tabs)
    .flatMap((tab) => (tab.input instanceof vscode.TabInputText ? [tab.input.uri.toString()] : []));
  const found = await vscode.workspace
    .findFiles("**/*", "**/{node_modules,.git,.venv,__pycache__}/**", 2000)
    // The open ones can be chosen all the same.
    .then(undefined, () => []);
  const items = fileOffers(
    active.toString(),
    open,
    found.map((uri) => uri.toString()),
  ).map((offer) => {
    const uri = vscode.Uri.parse(offer.uri, true);
    return { label: vscode.workspace.asRelativePath(uri), uri, picked: offer.picked };
  });
  const chosen = await vscode.window.showQuickPick(items, {
    canPickMany: true,
    title: "singlepass: which other files may change?",
    placeHolder: "Open files are chosen already",
  });
  return chosen?.map(({ uri }) => uri);
}
