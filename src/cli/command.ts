import { type ParseArgsConfig, parseArgs } from "node:util";

/** What a command may touch of the process, so that tests can stand in for it. */
export interface Terminal {
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface Command {
  readonly name: string;
  /** One line for `lacuna --help`. */
  readonly summary: string;
  readonly help: string;
  /** @returns the exit code. */
  run(args: readonly string[], terminal: Terminal): Promise<number>;
}

/** The command line is wrong. */
export class UsageError extends Error {
  constructor(
    message: string,
    /** What to type instead. */
    readonly hint = "lacuna --help lists commands and options",
  ) {
    super(message);
    this.name = "UsageError";
  }
}

type Options = NonNullable<ParseArgsConfig["options"]>;
type Values<O extends Options> = ReturnType<typeof parseArgs<{ options: O }>>["values"];

/** @throws UsageError for an option that does not exist, lacks its value, or stands alone as an argument. */
export function parseOptions<const O extends Options>(command: string, args: readonly string[], options: O): Values<O> {
  return parse(command, args, options, false).values;
}

/**
 * Options, and the arguments that stand alone.
 * @throws UsageError for an option that does not exist or lacks its value.
 */
export function parseArguments<const O extends Options>(
  command: string,
  args: readonly string[],
  options: O,
): { readonly values: Values<O>; readonly positionals: readonly string[] } {
  return parse(command, args, options, true);
}

function parse<const O extends Options>(
  command: string,
  args: readonly string[],
  options: O,
  allowPositionals: boolean,
): { values: Values<O>; positionals: string[] } {
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals });
  } catch (cause) {
    const text = cause instanceof Error ? cause.message.split(". ")[0]! : String(cause);
    throw new UsageError(text, `lacuna ${command} --help lists its options`);
  }
}

/** @throws UsageError where the option is not a whole number in the range. */
export function wholeNumber(option: string, text: string, min: number, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw new UsageError(`--${option} must be a whole number from ${min} to ${max}, not "${text}"`);
  }
  return value;
}

/** @throws UsageError where the option is missing. */
export function required(command: string, option: string, value: string | undefined): string {
  if (value === undefined || value === "") {
    throw new UsageError(`--${option} is missing`, `lacuna ${command} --help lists its options`);
  }
  return value;
}
