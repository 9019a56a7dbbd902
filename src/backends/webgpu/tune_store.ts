/** Choices of the tuner that outlive the process: by adapter, by problem. */
export interface ChoiceStore {
  /** The name of the variant that was chosen, where it was chosen among shaders of this fingerprint. */
  get(adapter: string, problem: string, fingerprint: string): string | undefined;
  set(adapter: string, problem: string, fingerprint: string, variant: string): void;
  /** Writes down what was set. Fails silently: what is not kept is measured again. */
  save(): void;
}

/** What a browser's local storage has of interest. */
interface TextStorage {
  getItem(key: string): string | null;
  setItem(key: string, text: string): void;
}

type Choices = Record<string, Record<string, readonly [fingerprint: string, variant: string]>>;

/** Text that is kept somewhere. */
interface Place {
  read(): string | null;
  write(text: string): void;
}

class TextStore implements ChoiceStore {
  readonly #choices: Choices;
  readonly #unsaved: [adapter: string, problem: string, choice: readonly [string, string]][] = [];

  constructor(readonly place: Place) {
    this.#choices = this.#load();
  }

  get(adapter: string, problem: string, fingerprint: string): string | undefined {
    const [of, variant] = this.#choices[adapter]?.[problem] ?? [];
    return of === fingerprint ? variant : undefined;
  }

  set(adapter: string, problem: string, fingerprint: string, variant: string): void {
    put(this.#choices, adapter, problem, [fingerprint, variant]);
    this.#unsaved.push([adapter, problem, [fingerprint, variant]]);
  }

  save(): void {
    const kept = this.#load(); // another process may have added its own
    for (const [adapter, problem, choice] of this.#unsaved.splice(0)) put(kept, adapter, problem, choice);
    try {
      this.place.write(`${JSON.stringify({ version: 1, choices: kept }, null, 1)}\n`);
    } catch {} // a full disk, a home that is read-only
  }

  #load(): Choices {
    try {
      const kept = JSON.parse(this.place.read() ?? "{}");
      return kept.version === 1 && isChoices(kept.choices) ? kept.choices : {};
    } catch {
      return {}; // not there, or cut off
    }
  }
}

function put(choices: Choices, adapter: string, problem: string, choice: readonly [string, string]): void {
  choices[adapter] ??= {};
  choices[adapter][problem] = choice;
}

function isChoices(value: unknown): value is Choices {
  const isRecord = (v: unknown): v is Record<string, unknown> => typeof v === "object" && v !== null;
  const isChoice = (v: unknown) => Array.isArray(v) && v.length === 2 && v.every((part) => typeof part === "string");
  return isRecord(value) && Object.values(value).every((of) => isRecord(of) && Object.values(of).every(isChoice));
}

/**
 * Where choices are kept: in Node the file `webgpu_tune.json` in `$LACUNA_CACHE`, else in `lacuna` in the user's cache
 * folder; in a browser its local storage; elsewhere nowhere.
 */
export function findStore(): ChoiceStore {
  if (typeof process !== "undefined" && typeof process.getBuiltinModule === "function") return new TextStore(inFile());
  const { localStorage } = globalThis as { localStorage?: TextStorage };
  return localStorage ? storeIn(localStorage) : new TextStore({ read: () => null, write: () => {} });
}

/** In a browser's local storage. */
export const storeIn = (storage: TextStorage): ChoiceStore =>
  new TextStore({
    read: () => storage.getItem("lacuna.webgpu_tune"),
    write: (text) => storage.setItem("lacuna.webgpu_tune", text),
  });

/** Written to a file beside it and then renamed: whoever reads finds all of it or none. */
function inFile(): Place {
  const fs = process.getBuiltinModule("node:fs");
  const { join } = process.getBuiltinModule("node:path");
  const { homedir } = process.getBuiltinModule("node:os");
  const { LACUNA_CACHE, XDG_CACHE_HOME } = process.env;
  const folder = LACUNA_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "lacuna");
  const file = join(folder, "webgpu_tune.json");
  return {
    read: () => fs.readFileSync(file, "utf8"),
    write(text) {
      fs.mkdirSync(folder, { recursive: true });
      const partial = `${file}.${process.pid}`;
      fs.writeFileSync(partial, text);
      fs.renameSync(partial, file);
    },
  };
}

/** 64 bits of FNV-1a, as two 32-bit halves from different seeds: enough to notice that a text changed. */
export function fingerprint(texts: readonly string[]): string {
  const hash = (seed: number): string => {
    let h = seed;
    for (const text of texts) {
      for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
      h = Math.imul(h ^ 0x100, 0x01000193); // where one text ends
    }
    return (h >>> 0).toString(16).padStart(8, "0");
  };
  return hash(0x811c9dc5) + hash(0x9747b28c);
}
