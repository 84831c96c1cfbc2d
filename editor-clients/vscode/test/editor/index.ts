/** Runs the suite with mocha inside the extension host, and writes what became of each test to a file. */

import { writeFileSync } from "node:fs";
import Mocha from "mocha";
import { define } from "./suite";

const TIMEOUT_MS = 120_000;

export async function run(): Promise<void> {
  const mocha = new Mocha({ ui: "bdd", timeout: TIMEOUT_MS, color: false, reporter: "dot" });
  mocha.suite.emit("pre-require", globalThis, "suite", mocha);
  if (process.env.SINGLEPASS_TEST_GREP) {
    mocha.grep(process.env.SINGLEPASS_TEST_GREP);
  }
  define();
  const results: Record<string, string> = {};
  await new Promise<void>((resolve, reject) => {
    const runner = mocha.run((n_failed) => {
      const n_passed = Object.values(results).filter((result) => result === "").length;
      console.log(`${n_passed} passed, ${n_failed} failed`);
      writeFileSync(process.env.SINGLEPASS_TEST_RESULTS ?? "results.json", JSON.stringify(results));
      if (n_failed === 0) {
        resolve();
      } else {
        reject(new Error(`${n_failed} failed`));
      }
    });
    runner.on("pass", (test) => {
      console.log(`ok   ${test.title} (${test.duration} ms)`);
      results[test.title] = "";
    });
    runner.on("fail", (test, error) => {
      console.log(`FAIL ${test.title}: ${error.stack ?? error}`);
      results[test.title] = String(error.stack ?? error);
    });
  });
}
