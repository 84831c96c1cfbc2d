/** Opens the editor on a folder in Chromium and runs the suite inside its extension host; exits as the suite did. */

import { argument, open } from "./browser.mjs";

const { url, chromium, authority, folder, extension } = argument();
const remote = (path) => `vscode-remote://${authority}${path}`;
const payload = [
  ["extensionDevelopmentPath", remote(extension)],
  ["extensionTestsPath", remote(`${extension}/out/editor/index.js`)],
];

const { browser, page } = await open(chromium);
const code = await new Promise((resolve, reject) => {
  page.on("crash", () => reject(new Error("the page crashed")));
  page
    .exposeFunction("codeAutomationLog", (_type, args) => console.log(...args))
    .then(() => page.exposeFunction("codeAutomationExit", resolve))
    .then(() =>
      page.goto(
        `${url}/?folder=${encodeURIComponent(folder)}&payload=${encodeURIComponent(JSON.stringify(payload))}`,
        { waitUntil: "commit" },
      ),
    )
    .catch(reject);
});
await browser.close();
process.exit(code);
