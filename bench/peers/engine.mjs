// An engine in a process of its own, which stays alive and answers one line of JSON with another: what one does to its
// device, or to its memory, no other notices. None works while another is asked.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Longer than any answer should take; a peer that hangs must not hold up the rest. */
const LIMIT_MS = 15 * 60e3;

export class Engine {
  #process;
  #lines;
  #ended;

  /** @param {string} command @param {readonly string[]} args @param {Record<string, string>} [environment] added to ours */
  constructor(command, args, environment = {}) {
    const env = { ...process.env, ...environment };
    this.#process = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env });
    /** @type {string} The end of what it complained about: what to say where it dies. */
    this.complaint = "";
    this.#process.stderr.on("data", (data) => (this.complaint = (this.complaint + data).slice(-4000)));
    this.#process.on("error", (error) => (this.complaint = error.message));
    this.#process.stdin.on("error", () => {}); // a dead process is noticed at its silence
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
    this.#ended = new Promise((resolve) => {
      this.#process.once("close", resolve);
      this.#process.once("error", resolve);
    });
  }

  /**
   * @param {Record<string, unknown>} request
   * @returns {Promise<any>}
   * @throws Error where the process is gone, or could not do it: its own words.
   */
  async ask(request) {
    const limit = setTimeout(() => {
      this.complaint = `no answer within ${LIMIT_MS / 60e3} minutes`;
      this.#process.kill("SIGKILL");
    }, LIMIT_MS);
    try {
      this.#process.stdin.write(`${JSON.stringify(request)}\n`);
      const reply = await this.#reply();
      if (reply.error) throw new Error(reply.error);
      return reply;
    } finally {
      clearTimeout(limit);
    }
  }

  /** The next line that is ours: libraries print, too. */
  async #reply() {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) {
        await this.#ended; // what it complained about comes by another pipe
        throw new Error(`the process ended: ${lastLine(this.complaint) || "no word of why"}`);
      }
      if (value.startsWith("{")) return JSON.parse(value);
    }
  }

  /** Resolves when the process is gone. */
  async close() {
    this.#process.stdin.end();
    const limit = setTimeout(() => this.#process.kill("SIGKILL"), 5000);
    await this.#ended;
    clearTimeout(limit);
  }
}

const lastLine = (/** @type {string} */ text) =>
  text
    .trim()
    .split("\n")
    .filter((line) => !line.startsWith("Warning: "))
    .at(-1);

export class PyTorch extends Engine {
  /**
   * @param {string} python @param {number} threads @param {boolean} channelsLast
   * @param {string} [script] as seen from this folder @param {readonly string[]} [more] arguments of it
   */
  constructor(python, threads, channelsLast, script = "pytorch.py", more = []) {
    const file = fileURLToPath(new URL(script, import.meta.url));
    super(python, [file, `${threads}`, ...(channelsLast ? ["--channels-last"] : []), ...more]);
  }
}

/** A script of this folder that ends in `serve(…)`. */
export class NodeEngine extends Engine {
  /** @param {string} script @param {readonly string[]} [args] @param {Record<string, string>} [environment] */
  constructor(script, args = [], environment = {}) {
    super(process.execPath, [fileURLToPath(new URL(script, import.meta.url)), ...args], environment);
  }
}
