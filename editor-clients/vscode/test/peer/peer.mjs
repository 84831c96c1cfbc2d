/**
 * The protocol as Microsoft's own library speaks it, without an editor: what the server answers is read by that
 * library, and edits are applied by its text document. Prints what came of it as JSON.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { pathToFileURL } from "node:url";
import {
  ApplyWorkspaceEditRequest,
  CodeActionKind,
  CodeActionRequest,
  createProtocolConnection,
  DidChangeTextDocumentNotification,
  DidOpenTextDocumentNotification,
  ExecuteCommandRequest,
  ExitNotification,
  InitializedNotification,
  InitializeRequest,
  ShutdownRequest,
  StreamMessageReader,
  StreamMessageWriter,
  TextDocumentEdit,
  WorkDoneProgress,
  WorkDoneProgressCancelNotification,
  WorkDoneProgressCreateRequest,
} from "vscode-languageserver-protocol/node";
import { TextDocument } from "vscode-languageserver-textdocument";

const { command, folder, name, text, settings, cancelled } = JSON.parse(process.argv[2]);
const uri = pathToFileURL(`${folder}/${name}`).href;
const server = spawn(command[0], command.slice(1), { cwd: folder, stdio: ["pipe", "pipe", "inherit"] });
const connection = createProtocolConnection(
  new StreamMessageReader(server.stdout),
  new StreamMessageWriter(server.stdin),
);
const problems = [];
connection.onError(([error]) => problems.push(String(error)));
connection.onUnhandledNotification(({ method }) => {
  if (
    !method.startsWith("singlepass/") &&
    !method.startsWith("window/") &&
    !method.startsWith("textDocument/")
  )
    problems.push(method);
});

let document = TextDocument.create(uri, "python", 1, text);
const edits = [];
connection.onRequest(ApplyWorkspaceEditRequest.type, ({ label, edit }) => {
  const [change, ...others] = edit.documentChanges ?? [];
  if (others.length > 0 || !TextDocumentEdit.is(change) || change.textDocument.version !== document.version)
    return { applied: false, failureReason: "not for the version that is here" };
  edits.push(label);
  const after = TextDocument.applyEdits(document, change.edits);
  const contentChanges = change.edits
    .toSorted((a, b) => document.offsetAt(b.range.start) - document.offsetAt(a.range.start))
    .map(({ range, newText }) => ({ range, text: newText }));
  document = TextDocument.create(uri, "python", document.version + 1, after);
  connection.sendNotification(DidChangeTextDocumentNotification.type, {
    textDocument: { uri, version: document.version },
    contentChanges,
  });
  return { applied: true };
});

const progress = [];
let token;
connection.onRequest(WorkDoneProgressCreateRequest.type, (params) => {
  token = params.token;
  connection.onProgress(WorkDoneProgress.type, token, ({ kind }) => {
    if (progress.at(-1) !== kind) progress.push(kind);
  });
});

const waiting = new Map();
const timings = new Map();
connection.onNotification("singlepass/timings", (params) => {
  timings.set(params.job, params);
  waiting.get(params.job)?.(params);
});
let isWriting = () => {};
connection.onNotification(
  "singlepass/status",
  ({ state }) => state === "decode" && edits.length > 0 && isWriting(),
);
const ended = (job) => timings.get(job) ?? new Promise((resolve) => waiting.set(job, resolve));

connection.listen();
const { capabilities } = await connection.sendRequest(InitializeRequest.type, {
  processId: process.pid,
  rootUri: null,
  workspaceFolders: [{ uri: pathToFileURL(folder).href, name: "folder" }],
  initializationOptions: settings,
  capabilities: {
    window: { workDoneProgress: true },
    workspace: { applyEdit: true, workspaceEdit: { documentChanges: true } },
    textDocument: { codeAction: { codeActionLiteralSupport: { codeActionKind: { valueSet: [""] } } } },
  },
});
await connection.sendNotification(InitializedNotification.type, {});
await connection.sendNotification(DidOpenTextDocumentNotification.type, {
  textDocument: { uri, languageId: "python", version: 1, text },
});

const whole = { start: { line: 0, character: 0 }, end: document.positionAt(text.length) };
const offers = await connection.sendRequest(CodeActionRequest.type, {
  textDocument: { uri },
  range: whole,
  context: { diagnostics: [], only: [CodeActionKind.RefactorRewrite] },
});
const simplify = offers.find(({ title }) => title.startsWith("Simplify"));
const { job } = await connection.sendRequest(ExecuteCommandRequest.type, {
  command: simplify.command.command,
  arguments: simplify.command.arguments,
});
const first = await ended(job);
const simplified = document.getText();

// A second one, cancelled by the progress that the editor shows, once its first hunk is there.
edits.length = 0;
const writing = new Promise((resolve) => {
  isWriting = resolve;
});
const second = await connection.sendRequest(ExecuteCommandRequest.type, {
  command: "singlepass.edit",
  arguments: [uri, whole, cancelled],
});
await writing;
await connection.sendNotification(WorkDoneProgressCancelNotification.type, { token });
const last = await ended(second.job);

const unknown = await connection.sendRequest("singlepass/unknown", {}).catch(({ code }) => code);
await connection.sendRequest(ShutdownRequest.type);
await connection.sendNotification(ExitNotification.type);
const [exit] = await once(server, "exit");
console.log(
  JSON.stringify({
    commands: capabilities.executeCommandProvider.commands,
    kinds: [...new Set(offers.map(({ kind }) => kind))],
    outcomes: [first.outcome, last.outcome],
    n_applied: [first.n_applied, last.n_applied],
    simplified,
    text: document.getText(),
    progress,
    unknown,
    exit,
    problems,
  }),
);
process.exit(0);
