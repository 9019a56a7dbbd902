// The peer: a Python process with PyTorch that stays alive and answers one line of JSON with another.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export class PyTorch {
  #process;
  #lines;

  /**
   * @param {string} python @param {number} threads @param {boolean} channelsLast
   * @param {string} [script] of this folder @param {readonly string[]} [more] arguments of it
   */
  constructor(python, threads, channelsLast, script = "pytorch.py", more = []) {
    const file = fileURLToPath(new URL(script, import.meta.url));
    const args = [file, `${threads}`, ...(channelsLast ? ["--channels-last"] : []), ...more];
    this.#process = spawn(python, args, { stdio: ["pipe", "pipe", "pipe"] });
    /** @type {string} The end of what Python complained about: what to say where it dies. */
    this.complaint = "";
    this.#process.stderr.on("data", (data) => (this.complaint = (this.complaint + data).slice(-2000)));
    this.#process.on("error", (error) => (this.complaint = error.message));
    this.#process.stdin.on("error", () => {}); // a dead process is noticed at its silence
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  /**
   * @param {Record<string, unknown>} request
   * @returns {Promise<any>}
   * @throws Error where the process is gone, or could not do it: its own words.
   */
  async ask(request) {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#lines.next();
    if (done) {
      await new Promise((resolve) => setTimeout(resolve, 50)); // the complaint comes by another pipe
      throw new Error(`PyTorch's process ended: ${this.complaint.trim().split("\n").at(-1) || "no word of why"}`);
    }
    const reply = JSON.parse(value);
    if (reply.error) throw new Error(reply.error);
    return reply;
  }

  close() {
    this.#process.stdin.end();
  }
}
