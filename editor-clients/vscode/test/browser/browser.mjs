/** A browser for the tests: Chromium as the system has it, driven by playwright-core. */

import { join } from "node:path";
import { chromium as driver } from "playwright-core";

/** What the caller asks for, as JSON in the only argument. */
export function argument() {
  return JSON.parse(process.argv[2]);
}

export async function open(executablePath, size = { width: 1280, height: 800 }) {
  const browser = await driver.launch({
    executablePath,
    headless: true,
    // In a container there is no other sandbox to be had, and pages come from this machine alone.
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
  const page = await browser.newPage({ viewport: size });
  return { browser, page };
}

/** What the drivers of the whole editor share. Each `step` prints its name, so that a failure tells where it was. */
export function workbench({ browser, page }, shots) {
  page.setDefaultTimeout(Number(process.env.SINGLEPASS_TEST_PATIENCE_MS ?? 150_000));
  const item = page
    .locator("#singlepass\\.singlepass\\.singlepass\\.status, [id*='singlepass.status']")
    .first();
  const lines = () => page.locator(".editor-instance .view-lines").first();
  const box = () => page.locator(".quick-input-widget input").first();
  const entry = (name) =>
    page.locator(".quick-input-list .monaco-list-row").filter({ hasText: name }).first();
  const shot = (name) => page.screenshot({ path: join(shots, `${name}.png`) });
  return {
    item,
    lines,
    box,
    entry,
    shot,
    status: (pattern) => item.filter({ hasText: pattern }).waitFor(),
    shown: (pattern) => lines().filter({ hasText: pattern }).waitFor(),

    async step(name, run) {
      try {
        await run();
        console.log(`ok   ${name}`);
      } catch (error) {
        await shot("failed");
        console.log(`FAIL ${name}: ${error.message}; the status bar says: ${await said(item)}`);
        await browser.close();
        process.exit(1);
      }
    },

    async command(name) {
      await page.keyboard.press("F1");
      await box().fill(`>${name}`);
      await entry(name).waitFor();
      await page.keyboard.press("Enter");
    },

    async openFile(name) {
      await page.keyboard.press("Control+P");
      await page.keyboard.type(name);
      await entry(name).waitFor();
      await page.keyboard.press("Enter");
    },
  };
}

async function said(item) {
  return await item.textContent({ timeout: 1000 }).catch(() => "nothing");
}
