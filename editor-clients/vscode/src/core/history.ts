/** The instructions asked for before. */

export const MAX_HISTORY = 50;

/** With this instruction as the newest, once. */
export function remember(history: readonly string[], instruction: string): string[] {
  const asked = instruction.trim();
  return asked === ""
    ? [...history]
    : [asked, ...history.filter((one) => one !== asked)].slice(0, MAX_HISTORY);
}

/** What to offer while this is typed: the words themselves first, then those of before. */
export function offers(history: readonly string[], typed: string): string[] {
  const asked = typed.trim();
  return asked === "" ? [...history] : [asked, ...history.filter((one) => one !== asked)];
}

/**
 * What Enter asks for: the words themselves, unless one of those before was moved to.
 *
 * VS Code tells which entry is active a moment after the entries changed. Until then it is one of an older list,
 * which says nothing about what is typed now.
 */
export function accepted<T extends { readonly instruction: string }>(
  typed: string,
  offered: readonly T[],
  active: T | undefined,
): string | undefined {
  const isMoved = active !== undefined && offered.indexOf(active) > 0;
  return isMoved ? active.instruction : typed.trim() || offered[0]?.instruction;
}

/** One line for a list. */
export function oneLine(instruction: string): string {
  return instruction.replace(/\s+/g, " ").trim();
}
