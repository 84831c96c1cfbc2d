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

/** One line for a list. */
export function oneLine(instruction: string): string {
  return instruction.replace(/\s+/g, " ").trim();
}
