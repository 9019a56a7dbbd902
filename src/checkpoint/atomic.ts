import { type FileHandle, open, realpath, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DataError } from "../errors.js";

/** One read or write call asks for no more: Node refuses 2 GiB and above. */
export const CHUNK_BYTES = 1 << 28;

export const NOT_A_FILE = "not a regular file";

/** Tells the scratch files of one process apart. */
let scratchFiles = 0;

/** Where a file goes that is made elsewhere first. */
export interface Place {
  /** Behind symbolic links: the file that is replaced. */
  readonly target: string;
  readonly folder: string;
  /** Of the file that is there already; null where there is none. */
  readonly mode: number | null;
}

/** @throws The system's error; DataError where the path is a folder, pipe or device. */
export async function placeOf(path: string): Promise<Place> {
  const target = await realpath(path).catch(ifMissing(path));
  const before = await stat(target).catch(ifMissing(null));
  if (before && !before.isFile()) throw new DataError(path, NOT_A_FILE);
  return { target, folder: dirname(target), mode: before && before.mode & 0o7777 };
}

/**
 * Makes a finished scratch file durable and gives it the target's place; closes it. The scratch file must lie in the
 * target's folder. Until the rename, and on an error before it, the old file is as it was.
 */
export async function takePlace(handle: FileHandle, scratch: string, { target, folder, mode }: Place): Promise<void> {
  try {
    if (mode !== null) await handle.chmod(mode);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(scratch, target);
  await syncFolder(folder);
}

/** @param position Default: where the last write ended. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number | null = null): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const length = Math.min(CHUNK_BYTES, bytes.length - at);
    at += (await handle.write(bytes, at, length, position === null ? null : position + at)).bytesWritten;
  }
}

/**
 * Writes a file so that a reader finds the old content or the new, whole, whenever the process or machine stops: a
 * scratch file beside the target, made durable, takes its place. The mode of an existing file is kept. A symbolic link
 * stays: the file it names is replaced. On an error the old file is as it was and the scratch file is gone (only where
 * the folder itself cannot be made durable, the last thing done, is the new file in place).
 * @param content Text, bytes, or bytes in pieces.
 * @throws The system's error (`code`, `path`); DataError where the target is a folder, pipe or device.
 */
export async function writeAtomic(path: string, content: string | Uint8Array | Iterable<Uint8Array>): Promise<void> {
  const place = await placeOf(path);
  const { handle, scratch } = await openScratch(place.folder);
  try {
    try {
      const pieces = typeof content === "string" ? [new TextEncoder().encode(content)] : content;
      for (const piece of pieces instanceof Uint8Array ? [pieces] : pieces) await writeAll(handle, piece);
    } catch (error) {
      await handle.close();
      throw error;
    }
    await takePlace(handle, scratch, place);
  } catch (error) {
    await rm(scratch, { force: true });
    throw error;
  }
}

/** Exclusive: a name left by a process that died, or used by a thread of this one, is passed over. */
async function openScratch(folder: string): Promise<{ handle: FileHandle; scratch: string }> {
  for (;;) {
    const scratch = join(folder, `.lacuna-${process.pid}-${scratchFiles++}.tmp`);
    try {
      return { handle: await open(scratch, "wx"), scratch };
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    }
  }
}

/** Makes names in a folder durable. Windows cannot open folders, and needs no such call. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** `ENOENT` and the like; undefined where the error is not the system's. */
export const codeOf = (error: unknown): unknown => (error instanceof Error && "code" in error ? error.code : undefined);

/** For `catch`: a value instead of the error that says a file is not there. */
export const ifMissing =
  <T>(value: T) =>
  (error: unknown): T => {
    if (codeOf(error) === "ENOENT") return value;
    throw error;
  };
