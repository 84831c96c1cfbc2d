/** Workspace edits of the server, and how they become one step for the editor's undo. */

import type { Range } from "./review";

export interface TextEdit {
  readonly range: Range;
  readonly newText: string;
  readonly annotationId?: string;
}

/** The edits of one document, at one version of it. */
export interface DocumentEdit {
  readonly uri: string;
  readonly version: number | null;
  readonly edits: readonly TextEdit[];
}

interface WorkspaceEdit {
  readonly documentChanges?: readonly unknown[];
  readonly changeAnnotations?: Readonly<Record<string, { readonly needsConfirmation?: boolean }>>;
}

/** The one document that an edit is about; nothing for those that VS Code itself has to apply. */
export function singleDocument(edit: WorkspaceEdit): DocumentEdit | undefined {
  const [change, ...others] = edit.documentChanges ?? [];
  if (others.length > 0 || typeof change !== "object" || change === null || !("textDocument" in change)) {
    return undefined;
  }
  if (Object.values(edit.changeAnnotations ?? {}).some((annotation) => annotation.needsConfirmation)) {
    return undefined;
  }
  const { textDocument, edits } = change as {
    textDocument: { uri: string; version: number | null };
    edits: TextEdit[];
  };
  return { uri: textDocument.uri, version: textDocument.version, edits };
}

/**
 * Which edits go into one undo step: those of one job in one document, as long as nothing else changed it.
 *
 * A step of the editor's undo is a run of changes, so when the user typed between two hunks, the second begins a
 * step of its own; else undoing it would take the typed text along.
 */
export class UndoSteps {
  private readonly open = new Map<string, string>();

  /** Whether an edit with this label begins a step. */
  begins(uri: string, label: string): boolean {
    const continues = this.open.get(uri) === label;
    this.open.set(uri, label);
    return !continues;
  }

  /** Somebody else changed the document. */
  interrupted(uri: string): void {
    this.open.delete(uri);
  }

  /** A job began or ended; what comes next is not part of what was before. */
  close(): void {
    this.open.clear();
  }
}
