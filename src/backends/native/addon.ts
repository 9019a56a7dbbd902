import { DeviceError } from "../../errors.js";

/** What native/addon.cc exports. Views are in bytes; what it throws is an Error with a `code`. */
export interface NativeDevice {
  description(): string;
  /** `type`: its number in `TYPES`, f32 where it is absent. */
  alloc(bytes: number, type?: number): number;
  free(handle: number): void;
  write(handle: number, offset: number, data: NodeJS.TypedArray): void;
  copy(source: number, sourceOffset: number, target: number, targetOffset: number, bytes: number): void;
  read(handle: number, offset: number, bytes: number): Promise<ArrayBuffer>;
  /** The number `run` takes for a kernel; -1 where there is none of that name. */
  kernel(name: string): number;
  kernels(): NativeKernel[];
  /** `views` holds handle, offset and bytes of each buffer, inputs first. */
  run(kernel: number, views: Float64Array, buffers: number, params: Uint8Array, paramsBytes: number): void;
  /** Lets products of f32 be rounded to tf32 on the way in, where the device has that. */
  allowTf32(allowed: boolean): void;
  beginCapture(): void;
  /** The number of the graph of all commands since `beginCapture`; none is made where `keep` is false. */
  endCapture(keep: boolean): number;
  /** `patches`: the number of a `run` in the graph, and the bytes of its new parameters, for each; `params` holds those. */
  replay(graph: number, patches: Float64Array, params: Uint8Array): void;
  freeGraph(graph: number): void;
  sync(): Promise<void>;
  stats(): { live: number; bytes: number; peakBytes: number; reserved: number; dispatches: number };
  dispose(): void;
}

/** What a kernel that was compiled in takes. */
export interface NativeKernel {
  readonly name: string;
  readonly inputs: number;
  readonly outputs: number;
  readonly paramsBytes: number;
}

export interface NativeOptions {
  /** Threads that work on one kernel. Default: as many as the machine runs at once, or `LACUNA_THREADS`. */
  readonly threads?: number;
  /** Checks zones around every allocation and poisons fresh memory: for tests. */
  readonly guard?: boolean;
  /** The widest instruction set to use ("portable", "avx2", "avx512"): for tests. Default: the best there is. */
  readonly isa?: string;
  /** The addon to load. Default: what `LACUNA_ADDON` names, or what `npm ci` built. */
  readonly addon?: string;
  /** On the host device of the CUDA kernels: threads take their turns backwards, so that races show. For tests. */
  readonly reverse?: boolean;
  /** On the host device of the CUDA kernels: bytes that it has. For tests. */
  readonly memory?: number;
  /** On the host device of the CUDA kernels: the compute capability of an older card, 80 for 8.0. For tests. */
  readonly capability?: number;
}

interface Addon {
  readonly NativeDevice: new (name: string, options: NativeOptions) => NativeDevice;
}

/**
 * Loads the addon: the file that `LACUNA_ADDON` names, or what `npm ci` built. Node's modules are asked for at run time,
 * so that a bundle for the browser can hold this file.
 * @throws DeviceError "unavailable", with the reason and what to do.
 */
export function loadAddon(backend: string, file: string | undefined): Addon {
  if (typeof process === "undefined" || !process.versions?.node) {
    throw new DeviceError(backend, "unavailable", "native devices need Node");
  }
  const require = process.getBuiltinModule("node:module").createRequire(import.meta.url);
  try {
    return require(file ?? process.env.LACUNA_ADDON ?? "../../../build/Release/lacuna.node") as Addon;
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "MODULE_NOT_FOUND";
    const reason = missing
      ? "the native addon is not built: `npm run native` builds it, given a C++20 compiler and CMake 3.20"
      : `the native addon does not load: ${String((error as Error).message).split("\n")[0]}`;
    throw new DeviceError(backend, "unavailable", reason, {}, { cause: error });
  }
}
