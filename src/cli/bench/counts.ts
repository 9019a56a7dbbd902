import type { Backend } from "../../backends/backend.js";
import { scope } from "../../tensor.js";

/** What one run asks of a device. */
export interface Counts {
  /** Of convolutions and matrix products, two for a multiply-add; products with padding do not count. */
  readonly flops: number;
  /** Of all buffers of all kernels, each counted once for each kernel. Elements are taken to have four bytes. */
  readonly bytes: number;
  readonly dispatches: number;
  readonly submits: number;
}

/** Runs `f` and counts. */
export async function countsOf(device: Backend, f: () => void): Promise<Counts> {
  await device.sync();
  const before = device.stats;
  let [flops, bytes] = [0, 0];
  const watched: Backend["run"] = (kernel, inputs, outputs, params) => {
    flops += flopsOf(params);
    for (const view of [...inputs, ...outputs]) bytes += 4 * view.size;
    run.call(device, kernel, inputs, outputs, params);
  };
  const { run } = device;
  device.run = watched; // an own property, which hides the class's method
  try {
    scope(() => void f());
    await device.sync();
  } finally {
    Reflect.deleteProperty(device, "run");
  }
  const { dispatches, submits } = device.stats;
  return { flops, bytes, dispatches: dispatches - before.dispatches, submits: submits - before.submits };
}

/** Operations of a kernel by its parameters: convolutions of any direction name their geometry alike. */
export function flopsOf(params: Readonly<Record<string, number>>): number {
  const { m, n, k } = params;
  if (m !== undefined && n !== undefined && k !== undefined) return 2 * m * n * k;
  if (params.kh === undefined || params.out_height === undefined || params.cout === undefined) return 0;
  const p = params as Readonly<Record<string, number>>;
  const rows = taps(p.height!, p.out_height!, p.kh!, p.stride_h!, p.pad_top!, p.dilation_h!);
  const columns = taps(p.width!, p.out_width!, p.kw!, p.stride_w!, p.pad_left!, p.dilation_w!);
  return 2 * p.n! * p.cout! * (p.cin! / p.groups!) * rows * columns;
}

/** Pairs of output place and tap, along one axis, that meet the map. */
function taps(size: number, out: number, kernel: number, stride: number, padding: number, dilation: number): number {
  let count = 0;
  for (let i = 0; i < out; i++) {
    for (let k = 0; k < kernel; k++) {
      const at = i * stride + k * dilation - padding;
      if (at >= 0 && at < size) count++;
    }
  }
  return count;
}
