import type { Backend, BackendName } from "./backends/backend.js";
import type { WebGPUOptions } from "./backends/webgpu/index.js";
import { ArgumentError, DeviceError, LacunaError } from "./errors.js";

/** What `open` returns: a place where tensors live and kernels run. */
export type Device = Backend;

/** Backends in order of preference. The reference works everywhere, slowly. */
export const backendNames: readonly BackendName[] = ["webgpu", "reference"];

/**
 * Opens a device. Without a name: the environment variable `LACUNA_DEVICE`, else the first of `webgpu` (hardware or
 * software) and `reference` that opens. Dispose of it, or let `using` do so, when its tensors are no longer needed.
 * @throws DeviceError where the named backend cannot be opened; ArgumentError for a name that does not exist.
 */
export async function open(name?: BackendName, options: WebGPUOptions = {}): Promise<Device> {
  const asked = name ?? (typeof process === "undefined" ? undefined : process.env.LACUNA_DEVICE);
  if (asked) return openNamed(asked as BackendName, options);
  try {
    return await openNamed("webgpu", options);
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    return openNamed("reference", options);
  }
}

async function openNamed(name: BackendName, options: WebGPUOptions): Promise<Device> {
  switch (name) {
    case "webgpu":
      return (await import("./backends/webgpu/index.js")).WebGPUBackend.open(options);
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
  return reports;
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
