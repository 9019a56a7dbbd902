// What the parts of `npm run gpu` share: each is a process of its own, as one that breaks the card's context or crashes
// must leave the next its chance; each prints a table last and writes its figures where main.mjs looks for them.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { open } from "../../dist/index.js";

/** @typedef {{ small: boolean, python: string, seconds: number, report: string | undefined, rest: string[] }} Options */
/** @typedef {{ table: string[], failures: string[], figures?: unknown }} Outcome */

/** @returns {Options} */
function optionsOf() {
  const { values, positionals } = parseArgs({
    options: {
      small: { type: "boolean", default: false }, // tiny sizes: shows that the script works, not how fast the card is
      python: { type: "string", default: process.env.LACUNA_PYTHON || "python3" },
      seconds: { type: "string", default: "600" }, // what there is time for
      report: { type: "string" },
    },
    allowPositionals: true,
  });
  const { small, python, report } = values;
  return { small, python, seconds: Number(values.seconds), report, rest: positionals };
}

/** Runs a part; the process ends with 1 where something failed. @param {(options: Options) => Promise<Outcome>} body */
export async function part(body) {
  const options = optionsOf();
  const outcome = await body(options).catch((error) => ({ table: [], failures: [String(error?.stack ?? error)] }));
  console.log(`\n${outcome.table.join("\n")}`);
  for (const failure of outcome.failures.slice(0, 20)) console.log(`FAILED ${failure}`);
  if (options.report) writeFileSync(options.report, JSON.stringify(outcome));
  process.exit(outcome.failures.length > 0 ? 1 : 0);
}

/** The card, for one precision at a time: tf32, once allowed, is allowed until the device goes. */
export const card = () => open("cuda");

/** The last line of an error's message is for people who look it up; the first says what it is. */
export const firstLine = (/** @type {unknown} */ error) => String(error).split("\n")[0];
