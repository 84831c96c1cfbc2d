/** `node build.mjs [--tests] [--package]`: bundles the extension, its tests, or a .vsix with the server in it. */

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const options = new Set(process.argv.slice(2));
const common = {
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node20",
  external: ["vscode", "mocha"],
  logLevel: "warning",
};

mkdirSync("dist", { recursive: true });
await build({
  ...common,
  entryPoints: ["src/extension.ts"],
  outfile: "dist/extension.js",
  minify: options.has("--package"),
  sourcemap: options.has("--package") ? false : "linked",
});

if (options.has("--tests")) {
  const unit = readdirSync("test/unit").map((name) => join("test/unit", name));
  await build({ ...common, entryPoints: unit, outdir: "out/unit", sourcemap: "inline" });
  await build({
    ...common,
    entryPoints: ["test/editor/index.ts"],
    outfile: "out/editor/index.js",
    sourcemap: "inline",
  });
}

if (options.has("--package")) {
  bundleServer();
  const vsce = join("node_modules", ".bin", "vsce");
  execFileSync(
    vsce,
    [
      "package",
      "--no-dependencies",
      "--allow-missing-repository",
      "--allow-package-all-secrets",
      "--readme-path",
      bundleReadme(),
      "--out",
      "dist/singlepass.vsix",
    ],
    { stdio: "inherit" },
  );
}

/** The README without what leads nowhere once it is in the package: pictures and links into this repository. */
function bundleReadme() {
  const text = readFileSync("README.md", "utf8");
  const alone = text
    .replace(/^!\[.*\]\((?!https:).*\)\n\n?/gm, "")
    .replace(/^In these pictures .*\n(.+\n)*\n/m, "")
    .replace(/\[([^\]]*)\]\((?!https:|#)[^)]*\)/g, "$1");
  writeFileSync("dist/README.md", alone);
  return "dist/README.md";
}

/** The server as a wheel in `dist`, built by PYTHON, which needs hatchling. */
function bundleServer() {
  for (const name of readdirSync("dist").filter((name) => name.endsWith(".whl"))) {
    rmSync(join("dist", name));
  }
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const code = `from hatchling.build import build_wheel; build_wheel(${JSON.stringify(resolve("dist"))})`;
  execFileSync(process.env.PYTHON ?? "python3", ["-P", "-c", code], {
    cwd: root,
    stdio: ["ignore", "ignore", "inherit"],
  });
  copyFileSync(join(root, "LICENSE"), "LICENSE");
}
