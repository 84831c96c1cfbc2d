/** `node build.mjs [--tests] [--package]`: bundles the extension, its tests, or a .vsix with the server in it. */

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
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
  const wheel = process.env.SINGLEPASS_WHEEL;
  for (const name of readdirSync("dist").filter((name) => name.endsWith(".whl"))) {
    rmSync(join("dist", name));
  }
  if (wheel) {
    copyFileSync(wheel, join("dist", wheel.split("/").at(-1)));
  } else {
    const root = join(import.meta.dirname, "..", "..");
    const python = process.env.PYTHON ?? "python3";
    execFileSync(python, ["-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", "dist", root], {
      stdio: "inherit",
    });
  }
  const vsce = join("node_modules", ".bin", "vsce");
  execFileSync(vsce, ["package", "--no-dependencies", "--skip-license", "--out", "dist/singlepass.vsix"], {
    stdio: "inherit",
  });
}
