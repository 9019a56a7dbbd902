import type { BackendName } from "../backends/backend.js";
import { backendNames } from "../device.js";
import { UsageError } from "./command.js";

/** @throws UsageError for a name that is no backend. */
export function deviceName(option: string | undefined): BackendName | undefined {
  if (option === undefined) return undefined;
  const name = backendNames.find((known) => known === option);
  if (!name) throw new UsageError(`--device must be one of ${backendNames.join(", ")}, not "${option}"`);
  return name;
}
