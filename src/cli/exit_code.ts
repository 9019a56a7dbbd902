import {
  ArgumentError,
  CheckpointError,
  ConfigError,
  DataError,
  DeviceError,
  LacunaError,
  MissingKernelError,
} from "../errors.js";
import { DivergedError } from "../train/train.js";
import { UsageError } from "./command.js";

/** Exit codes of every command; 130 and 143 follow SIGINT and SIGTERM. */
export const EXIT = {
  ok: 0,
  bug: 1,
  usage: 2,
  input: 3,
  checkpoint: 4,
  device: 5,
  memory: 6,
  numeric: 7,
  disk: 8,
  slower: 9,
} as const;

/** The system's codes for a disk that takes no more. */
const FULL = new Set(["ENOSPC", "EDQUOT", "EROFS", "EIO"]);
/** And for a place where nothing can be written. */
const REFUSED = new Set(["EACCES", "EPERM", "ENOTDIR", "EISDIR", "ENOENT", "EEXIST"]);

/** Exit code, and what to try next, of an error that ended a command. */
export function explain(error: unknown): { code: number; message: string; hint: string | null } {
  const message = error instanceof Error ? error.message : String(error);
  const answer = (code: number, hint: string | null) => ({ code, message, hint });
  if (error instanceof UsageError) return answer(EXIT.usage, error.hint);
  if (error instanceof ConfigError)
    return answer(EXIT.usage, "lacuna train --help names the entries of a configuration");
  if (error instanceof DataError) return answer(EXIT.input, "remove or repair the file named above");
  if (error instanceof CheckpointError) {
    if (FULL.has(codeOf(error.cause))) return answer(EXIT.disk, "free space or choose another --out");
    return answer(EXIT.checkpoint, error.hint ?? "name another run, or start afresh with another --out");
  }
  if (error instanceof DeviceError && error.failure === "out-of-memory") {
    return answer(EXIT.memory, "try a smaller --batch, --crop or --width");
  }
  if (error instanceof DeviceError || error instanceof MissingKernelError) {
    return answer(EXIT.device, "lacuna devices says what is available and why the rest is not");
  }
  if (error instanceof DivergedError) return answer(EXIT.numeric, "try a smaller optim.lr");
  if (error instanceof RangeError && /allocation failed|Invalid array length|Array buffer/i.test(message)) {
    return answer(EXIT.memory, "try a smaller --batch or --crop");
  }
  if (error instanceof ArgumentError || error instanceof LacunaError) return answer(EXIT.usage, null);
  if (FULL.has(codeOf(error)) || REFUSED.has(codeOf(error))) return answer(EXIT.disk, "choose another --out");
  return answer(EXIT.bug, "this is a fault of lacuna: LACUNA_DEBUG=1 shows where it happened");
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
