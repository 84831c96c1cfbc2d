/** Which files to offer beside the active one. */

export interface FileOffer {
  /** Its address. */
  readonly uri: string;
  /** Chosen before the user says anything. */
  readonly picked: boolean;
}

/** The open ones first and chosen, then all others; each once, and only what lies on disk. */
export function fileOffers(active: string, open: readonly string[], found: readonly string[]): FileOffer[] {
  const seen = new Set([active]);
  return [...open.map((uri) => ({ uri, picked: true })), ...found.map((uri) => ({ uri, picked: false }))]
    .filter(({ uri }) => uri.startsWith("file:"))
    .filter(({ uri }) => !seen.has(uri) && seen.add(uri));
}
