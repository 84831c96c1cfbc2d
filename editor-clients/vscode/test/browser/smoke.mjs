/**
 * The packaged extension as a user meets it, in the browser: first use, shortcut, streamed edit, keep, undo, Escape,
 * try again, panel; in a workspace that is not trusted. Screenshots go to `shots`.
 *
 * What is expected is looked for on the page; each `step` prints its name, so that a failure tells where it was.
 */

import { argument, open, workbench } from "./browser.mjs";

const { url, chromium, folder, shots } = argument();
const { browser, page } = await open(chromium, { width: 1180, height: 620 });
const { item, status, lines, shown, shot, step, command, openFile } = workbench({ browser, page }, shots);
const lenses = (title) => page.locator(".codelens-decoration a").filter({ hasText: title });
const lensesAre = (title, n) =>
  page.waitForFunction(
    ([word, wanted]) =>
      [...document.querySelectorAll(".codelens-decoration a")].filter((a) => a.textContent.includes(word))
        .length === wanted,
    [title, n],
  );

async function ask(instruction) {
  await page.keyboard.press("Control+Alt+.");
  await page.locator(".quick-input-title").filter({ hasText: "singlepass:" }).waitFor();
  await page.keyboard.type(instruction);
  await page.keyboard.press("Enter");
}

/** Open the menu of actions. VS Code drops a request for it that a change of the cursor or of the layout overtakes. */
async function menu(entry) {
  for (let i = 0; i < 20; i++) {
    await page.keyboard.press("Control+.");
    const found = page.locator(".action-widget").filter({ hasText: entry });
    if (
      await found.waitFor({ timeout: 6000 }).then(
        () => true,
        () => false,
      )
    )
      return;
    await page.keyboard.press("Escape");
  }
  throw new Error(`the menu never showed ${entry}`);
}

await step("opens the folder, in restricted mode", async () => {
  await page.goto(`${url}/?folder=${encodeURIComponent(folder)}`, { waitUntil: "commit" });
  await page.getByText("Restricted Mode").first().waitFor();
});

await step("the extension runs and prewarms", async () => {
  await status(/starting|singlepass|warm/);
  await openFile("words.py");
  await shown(/count_words/);
  await status(/warm/);
});

await step("the menu has the model's actions, and none of a workspace that is not trusted", async () => {
  await lines().locator(".view-line").filter({ hasText: "count_words" }).first().click();
  await menu("Simplify");
  if (await page.locator(".action-widget").filter({ hasText: "Theirs" }).count()) {
    throw new Error("an action of the workspace is offered");
  }
  await shot("menu");
  await page.keyboard.press("Escape");
});

await step("an instruction streams in", async () => {
  await page.keyboard.press("Control+A");
  await page.keyboard.press("Control+Alt+.");
  await page.locator(".quick-input-title").filter({ hasText: "singlepass:" }).waitFor();
  await page.keyboard.type("Add types");
  await shot("ask");
  await page.keyboard.press("Enter");
  await status(/prefill \d+%/);
  await shot("prefill");
  await status(/decode \d+ tok\/s/);
  await shown(/Iterable\[str\]/);
  await shot("decode");
  await status(/warm · .* tok\/s/);
});

await step("removed lines and Keep and Undo are shown", async () => {
  await lensesAre("Keep", 3);
  await lensesAre("Undo", 3);
  await page.locator(".view-line").filter({ hasText: "def split_words" }).first().waitFor();
  await page.keyboard.press("Control+Home");
  await shot("review");
});

await step("one hunk is kept, another undone", async () => {
  const before = await lenses("Keep").count();
  await lenses("Undo").first().click();
  await shown(/split_words\(text\):/);
  // The lens of a hunk that is gone stays for a moment, and does nothing.
  await lensesAre("Keep", before - 1);
  await lenses("Keep").first().click();
  await lensesAre("Keep", before - 2);
  await shown(/Iterable\[str\]/);
  await shot("kept");
});

await step("Escape cancels", async () => {
  await ask("Explain");
  await status(/decode/);
  await lines().click();
  await page.keyboard.press("Escape");
  await status(/cancelled/);
});

await step("try again has the last words", async () => {
  await page.keyboard.press("Control+Alt+R");
  await page.locator(".quick-input-title").filter({ hasText: "singlepass:" }).waitFor();
  const words = await page.locator(".quick-input-widget input").first().inputValue();
  if (words !== "Explain") {
    throw new Error(`the box has ${words}`);
  }
  await shot("again");
  await page.keyboard.press("Escape");
});

await step("the status item opens the panel with the runs", async () => {
  await item.click();
  const frame = page.frameLocator("iframe.webview").frameLocator("iframe#active-frame");
  await frame.locator("td").filter({ hasText: "Add types" }).first().waitFor();
  await shot("panel");
});

await step("the walkthrough opens", async () => {
  await command("singlepass: Get Started");
  await page.locator(".gettingStartedContainer").filter({ hasText: "Get started with singlepass" }).waitFor();
  await shot("walkthrough");
});

await browser.close();
