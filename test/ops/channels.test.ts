import { expect, test } from "vitest";
import { MAX_GROUPS } from "../../src/kernel.js";
import { rowGroups } from "../../src/ops/channels.js";
import { maxPool2d } from "../../src/ops/max_pool2d.js";
import { scope, Tensor } from "../../src/tensor.js";
import { relativeError, values, webgpuDevice } from "../harness.js";

test.each([
  [1, 1],
  [64, 65_535],
  [65, 65_536],
  [3, 1_000_003],
])("a grid for rows of %i, %i of them", (length, rows) => {
  const [x, y, z] = rowGroups(length, rows);
  expect(x).toBe(Math.ceil(length / 64));
  expect(y * z).toBeGreaterThanOrEqual(rows);
  expect(y * z - rows).toBeLessThan(z * 2); // hardly a workgroup without work
  expect(Math.max(x, y, z)).toBeLessThanOrEqual(MAX_GROUPS);
});

test("rows beyond 65,535, both forms of a kernel", async () => {
  const gpu = await webgpuDevice();
  if (!gpu) return;
  for (const channels of [1, 4]) {
    const data = Float32Array.from(values(70_001 * channels));
    const y = scope(() => maxPool2d(Tensor.from(gpu, data, [1, 70_001, 1, channels]), { kernel: 1 }));
    expect(relativeError(await y.data(), data)).toBe(0);
    y.dispose();
  }
});
