/** A browser for the tests: Chromium as the system has it, driven by playwright-core. */

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
