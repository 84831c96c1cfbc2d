/**
 * The server's workspace edits, applied so that a job is one step of undo.
 *
 * VS Code makes each workspace edit a step of its own. A text editor's `edit` can join the step before, but needs a
 * visible editor; other documents are left to VS Code. It also refuses by itself when the document has moved on.
 */

import * as vscode from "vscode";
import type {
  ApplyWorkspaceEditParams,
  ApplyWorkspaceEditRequest,
  ApplyWorkspaceEditResult,
} from "vscode-languageclient/node";
import { singleDocument, UndoSteps } from "./core/edits";
import type { Range } from "./core/review";

const CHANGED: ApplyWorkspaceEditResult = { applied: false, failureReason: "the document changed meanwhile" };

export class Applier {
  private readonly steps = new UndoSteps();
  private applying: string | undefined;

  /** A job began or ended. */
  jobChanged(): void {
    this.steps.close();
  }

  /** A document changed, by whomever. */
  documentChanged(document: vscode.TextDocument): void {
    const uri = document.uri.toString();
    if (uri !== this.applying) {
      this.steps.interrupted(uri);
    }
  }

  async apply(
    params: ApplyWorkspaceEditParams,
    next: ApplyWorkspaceEditRequest.HandlerSignature,
  ): Promise<ApplyWorkspaceEditResult> {
    const otherwise = async () =>
      (await next(params, new vscode.CancellationTokenSource().token)) as ApplyWorkspaceEditResult;
    const one = singleDocument(params.edit);
    const uri = one && vscode.Uri.parse(one.uri, true);
    const editor = vscode.window.visibleTextEditors.find(
      ({ document }) => document.uri.toString() === uri?.toString(),
    );
    if (!one || !editor) {
      return await otherwise();
    }
    const { document } = editor;
    if (one.version !== null && one.version !== document.version) {
      return CHANGED;
    }
    const key = document.uri.toString();
    const begins = this.steps.begins(key, params.label ?? "");
    this.applying = key;
    try {
      const applied = await editor.edit(
        (builder) => {
          for (const { range, newText } of one.edits) {
            builder.replace(rangeFrom(range), newText);
          }
        },
        { undoStopBefore: begins, undoStopAfter: false },
      );
      return applied ? { applied } : CHANGED;
    } finally {
      this.applying = undefined;
    }
  }
}

export function rangeFrom({ start, end }: Range): vscode.Range {
  return new vscode.Range(start.line, start.character, end.line, end.character);
}
