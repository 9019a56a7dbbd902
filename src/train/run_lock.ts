import { type FileHandle, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { CheckpointError } from "../errors.js";

const LOCK = "run.lock";
/** A lock without its text is being written; older than this, its process died over it. */
const WRITING_MILLISECONDS = 2000;

/** Who holds a folder. Plain JSON. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When the process began, in the kernel's ticks since boot: tells it from a later one with the same number. */
  readonly began: string | null;
  /** Two locks of one process differ by it. */
  readonly nonce: string;
}

/**
 * Lets one process at a time train in a folder. What a process that died left behind is taken over; on another machine
 * nobody can know whether a process lives, so its lock stands until it is removed by hand.
 */
export class RunLock {
  private constructor(
    readonly file: string,
    private readonly text: string,
  ) {}

  /** @throws CheckpointError where another process holds the folder; the system's errors. */
  static async take(folder: string): Promise<RunLock> {
    const file = join(folder, LOCK);
    const nonce = `${performance.timeOrigin + performance.now()}`;
    const own: Holder = { pid: process.pid, host: hostname(), began: await beginning(process.pid), nonce };
    const text = JSON.stringify(own);
    for (;;) {
      const handle = await openNew(file);
      if (handle) {
        try {
          await handle.writeFile(text);
        } finally {
          await handle.close();
        }
        return new RunLock(file, text);
      }
      const found = await readFile(file, "utf8").catch(missing);
      if (found === null) continue; // released meanwhile
      const holder = parse(found);
      if (!holder && (await ageOf(file)) < WRITING_MILLISECONDS) {
        await setTimeout(WRITING_MILLISECONDS / 20);
        continue;
      }
      if (holder && (await lives(holder, own.host))) {
        const where = holder.host === own.host ? "" : ` on ${holder.host}`;
        const way = holder.host === own.host ? "wait for it or stop it" : `remove ${LOCK} if it no longer runs`;
        throw new CheckpointError(file, `process ${holder.pid}${where} trains in this folder: ${way}`);
      }
      await discard(file, found);
    }
  }

  /** Removes what processes left that died while they took a dead lock away. */
  async tidy(): Promise<void> {
    const folder = dirname(this.file);
    for (const name of await readdir(folder)) {
      const pid = /^run\.lock\.(\d+)$/.exec(name)?.[1];
      if (pid !== undefined && !isRunning(Number(pid))) await rm(join(folder, name), { force: true });
    }
  }

  /** Gives the folder back, unless the lock is no longer ours. */
  async release(): Promise<void> {
    if ((await readFile(this.file, "utf8").catch(missing)) === this.text) await rm(this.file, { force: true });
  }
}

/** Null where the file exists. */
const openNew = (file: string): Promise<FileHandle | null> =>
  open(file, "wx").catch((error: unknown) => {
    if (isCode(error, "EEXIST")) return null;
    throw error;
  });

/** Takes a dead lock away; one that somebody else put in its place meanwhile is put back. */
async function discard(file: string, dead: string): Promise<void> {
  const aside = `${file}.${process.pid}`;
  try {
    await rename(file, aside);
  } catch (error) {
    if (isCode(error, "ENOENT")) return;
    throw error;
  }
  if ((await readFile(aside, "utf8")) === dead) await rm(aside, { force: true });
  else await rename(aside, file);
}

const ageOf = (file: string): Promise<number> =>
  stat(file).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0,
  );

/** Null for a lock that was cut short while it was written. */
function parse(text: string): Holder | null {
  try {
    const { pid, host, began, nonce } = JSON.parse(text) as Partial<Record<keyof Holder, unknown>>;
    const fits = Number.isSafeInteger(pid) && Number(pid) > 0 && typeof host === "string";
    return fits ? { pid: Number(pid), host, began: typeof began === "string" ? began : null, nonce: `${nonce}` } : null;
  } catch {
    return null;
  }
}

async function lives({ pid, host, began }: Holder, here: string): Promise<boolean> {
  if (host !== here) return true;
  if (!isRunning(pid)) return false;
  const now = await beginning(pid);
  return began === null || now === null || began === now;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0); // asks, and sends nothing
    return true;
  } catch (error) {
    return isCode(error, "EPERM"); // it lives and is another user's
  }
}

/** When a process began; null where the system does not tell. */
async function beginning(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null; // field 22: the name before may hold blanks
  } catch {
    return null;
  }
}

const isCode = (error: unknown, code: string): boolean =>
  error instanceof Error && "code" in error && error.code === code;

function missing(error: unknown): null {
  if (isCode(error, "ENOENT")) return null;
  throw error;
}
