/**
 * From nothing to the first edit, as the README counts it, on a machine where the server was never installed: the
 * package is there, its server is installed by a click, and a model answers. The folder is not trusted.
 */

import { argument, open, workbench } from "./browser.mjs";

const { url, chromium, folder, shots, model } = argument();
const { browser, page } = await open(chromium, { width: 1180, height: 620 });
const { item, status, lines, box, entry, shot, step, openFile } = workbench({ browser, page }, shots);

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
  await status(/choose a model|warm/);
  await shot("first-installed");
});

await step("it asks for a model, which is chosen", async () => {
  await box().waitFor();
  await box().fill(model);
  await entry(model.split("/").at(-1)).waitFor();
  await shot("first-model");
  await page.keyboard.press("Enter");
  await openFile("words.py");
  await status(/warm/);
});

await step("the first edit streams in", async () => {
  await lines().click();
  await page.keyboard.press("Control+A");
  await page.keyboard.press("Control+Alt+.");
  await page.locator(".quick-input-title").filter({ hasText: "singlepass:" }).waitFor();
  await page.keyboard.type("Add types");
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
