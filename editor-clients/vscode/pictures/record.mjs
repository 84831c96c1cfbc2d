/** What the pictures of the README show: an instruction is typed, its edit streams in, and is in review. */

import { join } from "node:path";
import { argument, open, workbench } from "../test/browser/browser.mjs";

const { url, chromium, folder, shots } = argument();
const { browser, page } = await open(chromium, { width: 960, height: 640 });
const { status, lines, shown, shot, step, openFile } = workbench({ browser, page }, shots);

const frames = [];
const began = Date.now();

/** One picture of the animation. */
async function frame() {
  const name = `frame-${String(frames.length).padStart(3, "0")}.png`;
  await page.screenshot({ path: join(shots, name) });
  frames.push({ name, at_ms: Date.now() - began });
}

async function framesUntil(done) {
  let isDone = false;
  const end = done.finally(() => {
    isDone = true;
  });
  while (!isDone) {
    await frame();
    await page.waitForTimeout(200);
  }
  await end;
}

await step("the file is prewarmed", async () => {
  await page.goto(`${url}/?folder=${encodeURIComponent(folder)}`, { waitUntil: "commit" });
  await status(/warm/); // before that no key is heard
  await openFile("words.py");
  await shown(/count_words/);
  await status(/warm/);
});

await step("an instruction is typed", async () => {
  await lines().click();
  await page.keyboard.press("Control+A");
  await frame();
  await page.keyboard.press("Control+Alt+.");
  await page.locator(".quick-input-title").filter({ hasText: "singlepass:" }).waitFor();
  await frame();
  for (const word of ["Add ", "types"]) {
    await page.keyboard.type(word);
    await frame();
  }
});

await step("its edit streams in", async () => {
  await page.keyboard.press("Enter");
  await framesUntil(status(/warm · .* tok\/s/));
});

await step("it is in review", async () => {
  await page.keyboard.press("Control+Home");
  await shown(/Keep|split_words/);
  await frame();
  await shot("review");
});

console.log(JSON.stringify(frames));
await browser.close();
