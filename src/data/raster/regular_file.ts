import { constants } from "node:fs";
import { type FileHandle, lstat, open } from "node:fs/promises";
import { DataError } from "../../errors.js";

/** An open file of known size, read piece by piece. Everything it throws names the file. */
export class RegularFile {
  private constructor(
    readonly path: string,
    readonly size: number,
    private readonly handle: FileHandle,
  ) {}

  /**
   * A FIFO or device would block for ever, and a link could lead out of the folder: all are refused.
   * @throws DataError where the path is no regular file, is empty or cannot be read.
   */
  static async open(path: string): Promise<RegularFile> {
    let handle: FileHandle | undefined;
    try {
      if (!(await lstat(path)).isFile()) throw new DataError(path, "not a regular file");
      handle = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
      const stat = await handle.stat(); // of what was opened: the name may mean another file by now
      if (!stat.isFile()) throw new DataError(path, "not a regular file");
      if (stat.size === 0) throw new DataError(path, "the file is empty");
      return new RegularFile(path, stat.size, handle);
    } catch (cause) {
      await handle?.close();
      throw unreadable(path, cause);
    }
  }

  /** @throws DataError where the file ends before `length` bytes from `offset`. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.size)) {
      throw new DataError(this.path, `cut off: bytes ${offset} to ${offset + length} of ${this.size} are wanted`);
    }
    const bytes = new Uint8Array(length);
    try {
      for (let at = 0; at < length; ) {
        const { bytesRead } = await this.handle.read(bytes, at, length - at, offset + at);
        if (bytesRead === 0) throw new DataError(this.path, "the file became shorter while it was read");
        at += bytesRead;
      }
    } catch (cause) {
      throw unreadable(this.path, cause);
    }
    return bytes;
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}

function unreadable(path: string, cause: unknown): DataError {
  if (cause instanceof DataError) return cause;
  return new DataError(path, `cannot be read (${cause instanceof Error ? cause.message : String(cause)})`, { cause });
}
