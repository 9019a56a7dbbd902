import { formatSpec, type Spec } from "./shape.js";

/** Base class of every error this library throws on purpose. Catch by class, read the fields; the text may change. */
export class LacunaError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** An operation was called with operands it cannot take; `operands` holds what each one was. */
export class OperandError extends LacunaError {
  constructor(
    readonly op: string,
    readonly reason: string,
    readonly operands: Readonly<Record<string, Spec>> = {},
  ) {
    const width = Math.max(0, ...Object.keys(operands).map((name) => name.length));
    const lines = Object.entries(operands).map(([name, spec]) => `\n  ${name.padEnd(width)}  ${formatSpec(spec)}`);
    super(`${op}: ${reason}${lines.join("")}`);
  }
}
/** Shapes that do not fit each other or the operation. */
export class ShapeError extends OperandError {}
/** An element type the operation does not take, or operands whose types differ. */
export class DTypeError extends OperandError {}
/** A tensor used after its scope closed or `dispose()` was called. */
export class DisposedError extends OperandError {}
/** An option outside its range: stride 0, dropout rate 2, an unknown backbone. */
export class ArgumentError extends OperandError {}
/** `scope` or `differentiate` misused: a promise returned from a scope, nested differentiation. */
export class ScopeError extends LacunaError {}

export type DeviceFailure = "unavailable" | "lost" | "out-of-memory" | "shader" | "limit" | "disposed";

/** The device could not be opened, went away, ran out of memory or refused a shader. */
export class DeviceError extends LacunaError {
  constructor(
    readonly backend: string,
    readonly failure: DeviceFailure,
    readonly reason: string,
    /** For "out-of-memory" and "limit": bytes asked for and bytes live. For "shader": kernel and line. */
    readonly details: Readonly<Record<string, number | string>> = {},
    options?: ErrorOptions,
  ) {
    const extra = Object.entries(details).map(([name, value]) => `\n  ${name}: ${value}`);
    super(`${backend}: ${reason}${extra.join("")}`, options);
  }
}

/** A kernel of the contract that a backend does not implement. */
export class MissingKernelError extends LacunaError {
  constructor(
    readonly kernel: string,
    readonly backend: string,
  ) {
    super(`${kernel} is not implemented on ${backend}`);
  }
}

/** An image, label or folder that cannot be used; `file` names it. */
export class DataError extends LacunaError {
  constructor(
    readonly file: string,
    readonly reason: string,
    options?: ErrorOptions,
  ) {
    super(`${file}: ${reason}`, options);
  }
}

/** A checkpoint that cannot be read, written or applied; `file` names it, `keys` the entries concerned. */
export class CheckpointError extends LacunaError {
  /** What to do about it, where that is known: a command that converts a file of another format. */
  readonly hint: string | null;

  constructor(
    readonly file: string,
    readonly reason: string,
    readonly keys: readonly string[] = [],
    options: ErrorOptions & { readonly hint?: string | null } = {},
  ) {
    const shown = keys.slice(0, 8).map((key) => `\n  ${key}`);
    if (keys.length > 8) shown.push(`\n  … and ${keys.length - 8} more`);
    super(`${file}: ${reason}${shown.join("")}`, options);
    this.hint = options.hint ?? null;
  }
}

/** A configuration entry that is missing, unknown or out of range; `path` names it (`optim.lr`). */
export class ConfigError extends LacunaError {
  constructor(
    readonly path: string,
    readonly reason: string,
  ) {
    super(path ? `${path}: ${reason}` : reason);
  }
}
