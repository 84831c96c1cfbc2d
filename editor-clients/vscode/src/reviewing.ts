/** The review in the editor: marks at what came in, removed lines beside it, lenses, and the way from hunk to hunk. */

import * as vscode from "vscode";
import { rangeFrom } from "./applying";
import {
  asDiff,
  type Change,
  catchUp,
  type Ghost,
  ghosts,
  type Hunk,
  type HunksParams,
  hunkAt,
  linesOf,
  move,
  neighbour,
  type PreviewParams,
  type Step,
  size,
  textBefore,
  writing,
} from "./core/review";

/** Of the scheme whose documents are those in review as they were before. */
export const BEFORE = "singlepass-before";

const MAX_STEPS = 200;

/** Which hunks are meant: one, or all of a document. */
export interface Where {
  readonly uri: string;
  readonly hunk?: number;
}

interface InReview {
  readonly hunks: readonly Hunk[];
  readonly uri: string;
}

export class Reviewer
  implements vscode.Disposable, vscode.CodeLensProvider, vscode.TextDocumentContentProvider
{
  private readonly inReview = new Map<string, InReview>();
  /** The hunks that are being written, by document: places as if in review, and the lines so far. */
  private readonly inWriting = new Map<string, { place: Hunk; lines: readonly string[] }>();
  private readonly steps = new WeakMap<vscode.TextDocument, Step[]>();
  private readonly lensesChanged = new vscode.EventEmitter<void>();
  private readonly beforeChanged = new vscode.EventEmitter<vscode.Uri>();
  private readonly added = vscode.window.createTextEditorDecorationType({
    isWholeLine: true,
    backgroundColor: new vscode.ThemeColor("diffEditor.insertedLineBackground"),
    overviewRulerColor: new vscode.ThemeColor("editorOverviewRuler.addedForeground"),
    overviewRulerLane: vscode.OverviewRulerLane.Left,
    rangeBehavior: vscode.DecorationRangeBehavior.ClosedClosed,
  });
  private readonly removed = vscode.window.createTextEditorDecorationType({
    after: {
      margin: "0 0 0 2em",
      color: new vscode.ThemeColor("editorGhostText.foreground"),
      backgroundColor: new vscode.ThemeColor("diffEditor.removedTextBackground"),
      textDecoration: "line-through",
    },
    rangeBehavior: vscode.DecorationRangeBehavior.ClosedClosed,
  });
  private readonly written = vscode.window.createTextEditorDecorationType({
    after: {
      margin: "0 0 0 2em",
      color: new vscode.ThemeColor("editorGhostText.foreground"),
      backgroundColor: new vscode.ThemeColor("diffEditor.insertedTextBackground"),
    },
    rangeBehavior: vscode.DecorationRangeBehavior.ClosedClosed,
  });
  private readonly registered: vscode.Disposable[];

  readonly onDidChangeCodeLenses = this.lensesChanged.event;
  readonly onDidChange = this.beforeChanged.event;

  constructor(
    private readonly judge: (what: "keep" | "undo", where: Where) => Promise<void>,
    private readonly changed: (n_hunks: number) => void,
  ) {
    this.registered = [
      this.added,
      this.removed,
      this.written,
      this.lensesChanged,
      this.beforeChanged,
      vscode.languages.registerCodeLensProvider([{ scheme: "file" }, { scheme: "untitled" }], this),
      vscode.workspace.registerTextDocumentContentProvider(BEFORE, this),
      vscode.window.onDidChangeVisibleTextEditors(() => this.draw()),
      // The server tells again what is in review when a document is opened again with the same text.
      vscode.workspace.onDidCloseTextDocument(({ uri }) => this.put(uri, "", [])),
    ];
  }

  dispose(): void {
    for (const one of this.registered) {
      one.dispose();
    }
  }

  get n_hunks(): number {
    return [...this.inReview.values()].reduce((sum, { hunks }) => sum + hunks.length, 0);
  }

  /** The hunks in review of a document. */
  hunksOf(uri: vscode.Uri): readonly Hunk[] {
    return this.inReview.get(uri.toString())?.hunks ?? [];
  }

  // What happens.

  /** The server told the hunks of a document. */
  told(params: HunksParams): void {
    const uri = vscode.Uri.parse(params.uri, true);
    const document = openDocument(uri);
    const hunks = catchUp(params, (document && this.steps.get(document)) ?? []);
    this.put(uri, params.uri, hunks);
  }

  /** The server told what is being written. */
  previewed({ job, uri: sent, version, range, lines }: PreviewParams): void {
    const uri = vscode.Uri.parse(sent, true);
    const document = openDocument(uri);
    const told = { job, uri: sent, version, hunks: range ? [{ id: 0, range, old: "", new: "" }] : [] };
    const [place] = catchUp(told, (document && this.steps.get(document)) ?? []);
    if (place) {
      this.inWriting.set(uri.toString(), { place, lines });
    } else {
      this.inWriting.delete(uri.toString());
    }
    this.draw();
  }

  /** The line beside which something is shown that is being written, and what. */
  writingIn(document: vscode.TextDocument): Ghost | undefined {
    const found = this.inWriting.get(document.uri.toString());
    const textOf = (line: number) => (line < document.lineCount ? document.lineAt(line).text : "");
    return found && writing(found.place.range, found.lines, textOf);
  }

  documentChanged({ document, contentChanges }: vscode.TextDocumentChangeEvent): void {
    if (contentChanges.length === 0) {
      return;
    }
    const changes: Change[] = contentChanges.map(({ range, text }) => ({ range, text }));
    const steps = this.steps.get(document) ?? [];
    this.steps.set(document, [...steps, { version: document.version, changes }].slice(-MAX_STEPS));
    const key = document.uri.toString();
    const written = this.inWriting.get(key);
    if (written) {
      const [place] = move([written.place], changes);
      if (place) {
        this.inWriting.set(key, { ...written, place });
      } else {
        this.inWriting.delete(key);
      }
      this.draw();
    }
    const current = this.inReview.get(key);
    if (current) {
      this.put(document.uri, current.uri, move(current.hunks, changes));
    }
  }

  /** The server is gone, and with it what it knew of hunks. */
  clear(): void {
    this.inReview.clear();
    this.inWriting.clear();
    this.update();
  }

  private put(uri: vscode.Uri, sent: string, hunks: readonly Hunk[]): void {
    if (hunks.length > 0) {
      this.inReview.set(uri.toString(), { hunks, uri: sent });
    } else {
      this.inReview.delete(uri.toString());
    }
    this.beforeChanged.fire(beforeUri(uri));
    this.update();
  }

  private update(): void {
    this.draw();
    this.lensesChanged.fire();
    this.changed(this.n_hunks);
  }

  // How it looks.

  /** Draw what is in review in the visible editors. */
  draw(): void {
    const isOn = vscode.workspace.getConfiguration("singlepass").get("inlineReview", true);
    for (const editor of vscode.window.visibleTextEditors) {
      const hunks = isOn ? this.hunksOf(editor.document.uri) : [];
      editor.setDecorations(
        this.added,
        hunks.flatMap((hunk) => {
          const { first, last } = linesOf(hunk);
          return last < first
            ? []
            : [{ range: new vscode.Range(first, 0, last, 0), hoverMessage: hover(hunk) }];
        }),
      );
      editor.setDecorations(
        this.removed,
        hunks.flatMap((hunk) =>
          ghosts(hunk).map((ghost) => ({ ...beside(editor.document, ghost), hoverMessage: hover(hunk) })),
        ),
      );
      const ghost = isOn ? this.writingIn(editor.document) : undefined;
      editor.setDecorations(this.written, ghost ? [beside(editor.document, ghost)] : []);
    }
  }

  provideCodeLenses(document: vscode.TextDocument): vscode.CodeLens[] {
    if (!vscode.workspace.getConfiguration("singlepass").get("inlineReview", true)) {
      return [];
    }
    const hunks = this.hunksOf(document.uri);
    return hunks.flatMap((hunk) => {
      const line = Math.min(hunk.range.start.line, document.lineCount - 1);
      const lens = (title: string, command: string, ...args: unknown[]) =>
        new vscode.CodeLens(new vscode.Range(line, 0, line, 0), { title, command, arguments: args });
      return [
        lens("$(check) Keep", "singlepass.keepHunk", document.uri, hunk.id),
        lens("$(discard) Undo", "singlepass.undoHunk", document.uri, hunk.id),
        lens(`${size(hunk)}`, "singlepass.showDiff"),
      ];
    });
  }

  provideTextDocumentContent(uri: vscode.Uri): string {
    const document = openDocument(vscode.Uri.parse(uri.query, true));
    return document ? textBefore(document.getText(), this.hunksOf(document.uri)) : "";
  }

  // What the user does.

  /** Keep or undo a hunk: the one of the lens, or the one at the cursor. */
  async decide(what: "keep" | "undo", uri?: vscode.Uri, id?: number): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    const document = uri ?? editor?.document.uri;
    const hunks = document ? this.hunksOf(document) : [];
    const hunk =
      id === undefined && editor
        ? hunkAt(hunks, editor.selection.active.line)
        : hunks.find((one) => one.id === id);
    if (!document || !hunk) {
      void vscode.window.setStatusBarMessage("singlepass: no hunk here", 3000);
      return;
    }
    await this.judge(what, { uri: this.inReview.get(document.toString())!.uri, hunk: hunk.id });
  }

  /** Go to the next or previous hunk, also into the other documents in review. */
  async go(direction: 1 | -1): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    const here = editor ? this.hunksOf(editor.document.uri) : [];
    const line = editor?.selection.active.line ?? 0;
    const hunk = neighbour(here, line, direction);
    const wraps = !hunk || direction * (hunk.range.start.line - line) <= 0;
    const uris = [...this.inReview.keys()];
    const index = editor ? uris.indexOf(editor.document.uri.toString()) : -1;
    const other = uris.at((index + direction) % uris.length);
    if (wraps && other !== undefined && (uris.length > 1 || index < 0)) {
      const document = await vscode.workspace.openTextDocument(vscode.Uri.parse(other, true));
      const hunks = this.hunksOf(document.uri);
      const first = neighbour(hunks, direction > 0 ? -1 : Number.MAX_SAFE_INTEGER, direction);
      if (first) {
        reveal(await vscode.window.showTextDocument(document), first);
      }
    } else if (editor && hunk) {
      reveal(editor, hunk);
    }
  }

  /** What is in review in the native diff editor: one document, or all of them. */
  async showDiff(): Promise<void> {
    const uris = [...this.inReview.keys()].map((uri) => vscode.Uri.parse(uri, true));
    const [only] = uris;
    if (!only) {
      return;
    }
    if (uris.length === 1) {
      const name = only.path.split("/").at(-1);
      await vscode.commands.executeCommand("vscode.diff", beforeUri(only), only, `${name}: edits in review`);
    } else {
      const triples = uris.map((uri) => [uri, beforeUri(uri), uri]);
      await vscode.commands.executeCommand("vscode.changes", "singlepass: edits in review", triples);
    }
  }
}

/** The address of a document as it was before what is in review. */
export function beforeUri(uri: vscode.Uri): vscode.Uri {
  return vscode.Uri.from({ scheme: BEFORE, path: uri.path, query: uri.toString() });
}

function openDocument(uri: vscode.Uri): vscode.TextDocument | undefined {
  return vscode.workspace.textDocuments.find((document) => document.uri.toString() === uri.toString());
}

function reveal(editor: vscode.TextEditor, hunk: Hunk): void {
  const { start } = rangeFrom(hunk.range);
  editor.selection = new vscode.Selection(start, start);
  editor.revealRange(rangeFrom(hunk.range), vscode.TextEditorRevealType.InCenterIfOutsideViewport);
}

function beside(document: vscode.TextDocument, { line, text }: Ghost): vscode.DecorationOptions {
  const { end } = document.lineAt(Math.min(line, document.lineCount - 1)).range;
  return { range: new vscode.Range(end, end), renderOptions: { after: { contentText: text } } };
}

function hover(hunk: Hunk): vscode.MarkdownString {
  return new vscode.MarkdownString().appendCodeblock(asDiff(hunk), "diff");
}
