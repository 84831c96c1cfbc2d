/**
 * From nothing to the first edit, as the README counts it, on a machine where the server was never installed: the
 * package is there, its server is installed by a click, and the demo model answers. The folder is not trusted.
 */

import { argument, open, workbench } from "./browser.mjs";

const { url, chromium, folder, shots } = argument();
const { browser, page } = await open(chromium, { width: 1180, height: 620 });
const { item, status, lines, shot, step, openFile } = workbench({ browser, page }, shots);

await step("it says that the server has to be installed", async () => {
  await page.goto(`${url}/?folder=${encodeURIComponent(folder)}`, { waitUntil: "commit" });
  await page.getByText("Restricted Mode").first().waitFor();
  await status(/^\s*install singlepass/);
  await shot("first-missing");
});

await step("a click installs it, and shows how", async () => {
  await item.click();
  await status(/installing singlepass/);
  await shot("first-installing");
  await status(/demo model/);
  await shot("first-installed");
  await openFile("words.py");
  await status(/demo model · warm/);
});

await step("the first edit streams in", async () => {
  await lines().click();
  await page.keyboard.press("Control+Home");
  for (let n = 0; n < 5; n++) {
    await page.keyboard.press("ArrowDown");
  }
  for (let n = 0; n < 3; n++) {
    await page.keyboard.press("Shift+ArrowDown");
  }
  await page.keyboard.press("Control+Alt+.");
  await page.locator(".quick-input-title").filter({ hasText: "singlepass:" }).waitFor();
  await page.keyboard.type("Add the docstring Return how often each word occurs.");
  await page.keyboard.press("Enter");
  await page
    .locator(".codelens-decoration a")
    .filter({ hasText: "Keep" })
    .first()
    .waitFor({ state: "attached" });
  await status(/tok\/s/);
  await shot("first-edit");
});

await browser.close();
