import type { Device, WebGPUBackend } from "../../device.js";
import { matmul, scale } from "../../ops/index.js";
import { Tensor } from "../../tensor.js";
import { COPY_SHADER, FMA_SHADER, flopsOfThread, WORKGROUP } from "./peak_shaders.js";
import { quantile, time } from "./timing.js";
import { values } from "./values.js";

/** What the adapter gives at most, measured: what shares are of. */
export interface Peaks {
  /** Gigabytes per second, read and written together, of a copy larger than caches. */
  readonly copyGBs: number;
  readonly gflops: number;
  /** What `gflops` was measured with. */
  readonly gflopsOf: string;
}

const REPETITIONS = 5;

/** @param slow a software adapter, or the reference: with less work. */
export async function measurePeaks(device: Device, slow: boolean): Promise<Peaks> {
  const bytes = slow ? 2 ** 24 : 2 ** 27;
  // The cast: the only backend of this name.
  return device.name === "webgpu" ? onWebGPU(device as WebGPUBackend, bytes) : byOps(device, bytes, slow);
}

/** Where there is no way around the ops: the faster of a copy and of `scale`, which threads share, and the best product. */
async function byOps(device: Device, bytes: number, slow: boolean): Promise<Peaks> {
  const fastest = async (f: () => void) => {
    const { both } = await time(device, { both: f }, { seconds: 0, repetitions: REPETITIONS });
    return quantile(both!, 0);
  };
  const [source, target] = [Tensor.zeros(device, [bytes / 4]), Tensor.zeros(device, [bytes / 4])];
  const copyMs = Math.min(
    await fastest(() => device.copy(source.view, target.view)),
    await fastest(() => void scale(source, 1)),
  );
  source.dispose();
  target.dispose();
  let [gflops, best] = [0, 0];
  for (const side of slow ? [128] : [512, 1024, 2048]) {
    const [a, b] = [Tensor.from(device, values(side ** 2, 1), [side, side]), Tensor.ones(device, [side, side])];
    const reached = (2 * side ** 3) / (await fastest(() => void matmul(a, b))) / 1e6;
    if (reached > gflops) [gflops, best] = [reached, side];
    a.dispose();
    b.dispose();
  }
  return { copyGBs: (2 * bytes) / copyMs / 1e6, gflops, gflopsOf: `matmul ${best}x${best}x${best}` };
}

/** Past the tensors: a kernel that stores next to nothing is no op. */
async function onWebGPU({ device, maxBindingBytes }: WebGPUBackend, most: number): Promise<Peaks> {
  const bytes = Math.min(most, maxBindingBytes);
  // GPUBufferUsage is a global in browsers only: STORAGE | COPY_DST.
  const [x, y] = [0, 1].map(() => device.createBuffer({ size: bytes, usage: 0x80 | 0x08 })) as [GPUBuffer, GPUBuffer];
  const prepared = (code: string, threads: number) => {
    const module = device.createShaderModule({ code });
    const pipeline = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
    const entries = [x, y].map((buffer, binding) => ({ binding, resource: { buffer } }));
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    return async () => {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(threads / WORKGROUP);
      pass.end();
      const before = performance.now();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      return performance.now() - before;
    };
  };
  const fastest = async (once: () => Promise<number>) => {
    const times = [];
    for (let i = 0; i <= REPETITIONS; i++) times.push(await once()); // the first compiles, and is not the fastest
    return Math.min(...times);
  };

  // 65,535 workgroups are the most there can be.
  const copyThreads = Math.min(bytes / 16, 65535 * WORKGROUP);
  const copyMs = await fastest(prepared(COPY_SHADER, copyThreads));

  const threads = 2 ** 15;
  const fma = prepared(FMA_SHADER, threads);
  const withRounds = (rounds: number) => device.queue.writeBuffer(x, 0, new Uint32Array([rounds, 0]));
  // Long enough that submitting is nothing beside it.
  let rounds = 1;
  withRounds(rounds);
  await fma();
  while ((await fma()) < 20 && rounds < 2 ** 16) withRounds((rounds *= 2));
  const fmaMs = await fastest(fma);
  x.destroy();
  y.destroy();
  return {
    copyGBs: (2 * 16 * copyThreads) / copyMs / 1e6,
    gflops: (threads * flopsOfThread(rounds)) / fmaMs / 1e6,
    gflopsOf: "fused multiply-adds in registers",
  };
}
