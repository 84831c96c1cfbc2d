/** Which settings the server is given, and whose word counts for each. */

/** What VS Code's `inspect` tells of a setting. */
export interface Inspected {
  readonly globalValue?: unknown;
  readonly workspaceValue?: unknown;
  readonly workspaceFolderValue?: unknown;
}

/** For the extension alone; the server does not know them. */
const OWN = new Set(["server.path", "inlineReview"]);

/** What a workspace may add to, as a repository's `.singlepass.toml` may. */
const OF_THE_WORKSPACE = new Set(["actions", "ignore"]);

/**
 * The settings that somebody has set, for the server.
 *
 * Defaults are left out, so that they do not hide the user's `singlepass.toml`. Of a workspace only two count,
 * and only when it is trusted. The user's value is taken as it is: VS Code merges objects, so that
 * `singlepass.target.url` in a workspace's settings would otherwise end up in the user's target.
 */
export function serverSettings(
  names: readonly string[],
  inspect: (name: string) => Inspected | undefined,
  isTrusted: boolean,
): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const name of names) {
    if (OWN.has(name)) {
      continue;
    }
    const given = inspect(name);
    let value = given?.globalValue;
    if (OF_THE_WORKSPACE.has(name) && isTrusted) {
      const added = [given?.workspaceValue, given?.workspaceFolderValue].filter(Array.isArray).flat();
      if (added.length > 0) {
        value = [...(Array.isArray(value) ? value : []), ...added];
      }
    }
    if (value !== undefined) {
      found[name] = value;
    }
  }
  return found;
}

/** Of a target that is a server, or a recording: they mean nothing to a model on this machine. */
const OF_SERVERS = ["backend", "url", "api_key_env"];

/** The user's target with another model of this machine; how to run it stays. */
export function withModel(target: unknown, model: string): Record<string, unknown> {
  const kept = typeof target === "object" && target !== null ? Object.entries(target) : [];
  return { ...Object.fromEntries(kept.filter(([name]) => !OF_SERVERS.includes(name))), model };
}
