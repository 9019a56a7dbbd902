import type { Backend, BackendName } from "./backends/backend.js";
import type { NativeOptions } from "./backends/native/index.js";
import type { WebGPUOptions } from "./backends/webgpu/index.js";
import { ArgumentError, DeviceError, LacunaError } from "./errors.js";

export type { KernelTime, WebGPUBackend } from "./backends/webgpu/index.js";

/** What `open` returns: a place where tensors live and kernels run. */
export type Device = Backend;

/** Backends in order of preference, on a machine with a GPU. The reference works everywhere, slowly. */
export const backendNames: readonly BackendName[] = ["cuda", "webgpu", "cpu", "reference"];

/** Of the backend that is opened; the others' are ignored. */
export type OpenOptions = WebGPUOptions & NativeOptions;

/**
 * Opens a device. Without a name: the environment variable `LACUNA_DEVICE`, else the first of these that opens: `cuda`,
 * `webgpu` on a GPU, `cpu`, `webgpu` on a software adapter, `reference`. Dispose of it, or let `using` do so, when its tensors are
 * no longer needed.
 * @throws DeviceError where the named backend cannot be opened; ArgumentError for a name that does not exist.
 */
export async function open(name?: BackendName, options: OpenOptions = {}): Promise<Device> {
  const asked = name ?? fromEnvironment();
  if (asked) return openNamed(asked, options);
  const order: [BackendName, OpenOptions][] = [
    ["cuda", options],
    ["webgpu", { ...options, hardware: true }],
    ["cpu", options],
    ["webgpu", options],
  ];
  for (const [candidate, choice] of order) {
    try {
      return await openNamed(candidate, choice);
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
    }
  }
  return openNamed("reference", options);
}

const fromEnvironment = (): BackendName | undefined =>
  typeof process === "undefined" ? undefined : (process.env.LACUNA_DEVICE as BackendName | undefined) || undefined;

async function openNamed(name: BackendName, options: OpenOptions): Promise<Device> {
  switch (name) {
    case "webgpu":
      return (await import("./backends/webgpu/index.js")).WebGPUBackend.open(options);
    case "cuda":
    case "cpu":
      return (await import("./backends/native/index.js")).NativeBackend.open(name, options);
    case "reference":
      return new (await import("./backends/reference/index.js")).ReferenceBackend();
    default:
      throw new ArgumentError("open", `there is no backend "${name}"; choose one of ${backendNames.join(", ")}`);
  }
}

/** What `lacuna devices` prints of one backend. */
export interface DeviceReport {
  readonly name: BackendName;
  readonly available: boolean;
  /** The adapter or library behind it; why there is none, where there is none. */
  readonly description: string;
  /** Why `open()` takes this one when it is not told which; absent on the others. */
  readonly chosen?: string;
  readonly software?: boolean;
  readonly features?: readonly string[];
  readonly limits?: Readonly<Record<string, number>>;
}

/** Looks at every backend without keeping any open. */
export async function devices(): Promise<DeviceReport[]> {
  const reports: DeviceReport[] = [];
  for (const name of backendNames) {
    try {
      using device = await openNamed(name, {});
      reports.push({ name, available: true, description: device.description, ...(await detailsOf(device)) });
    } catch (error) {
      if (!(error instanceof LacunaError)) throw error;
      reports.push({ name, available: false, description: error.message });
    }
  }
  const [name, chosen] = choiceOf(reports);
  return reports.map((report) => (report.name === name ? { ...report, chosen } : report));
}

/** What `open()` takes, and why. */
function choiceOf(reports: readonly DeviceReport[]): [name: BackendName, why: string] {
  const asked = fromEnvironment();
  if (asked) return [asked, "LACUNA_DEVICE names it"];
  const available = (name: BackendName) => reports.find((report) => report.name === name && report.available);
  if (available("cuda")) return ["cuda", "it is an NVIDIA GPU"];
  const gpu = available("webgpu");
  if (gpu && !gpu.software) return ["webgpu", "it is a GPU"];
  if (available("cpu")) return ["cpu", gpu ? "WebGPU is software here, and slower" : "there is no WebGPU adapter"];
  if (gpu) return ["webgpu", "there is no GPU, and the CPU device is not available"];
  return ["reference", "nothing else is available"];
}

async function detailsOf(device: Backend): Promise<Partial<DeviceReport>> {
  if (device.name !== "webgpu") return {};
  const { WebGPUBackend } = await import("./backends/webgpu/index.js");
  if (!(device instanceof WebGPUBackend)) return {};
  const { limits, features } = device.device;
  const shown = [
    "maxStorageBufferBindingSize",
    "maxBufferSize",
    "maxStorageBuffersPerShaderStage",
    "maxComputeWorkgroupStorageSize",
    "maxComputeInvocationsPerWorkgroup",
    "maxComputeWorkgroupsPerDimension",
  ] as const;
  return {
    software: device.software,
    features: [...features].sort(),
    limits: Object.fromEntries(shown.map((key) => [key, limits[key]])),
  };
}
