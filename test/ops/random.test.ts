import { expect, test } from "vitest";
import { bits, uniform } from "../../src/ops/random.js";
import { Generator } from "../../src/random.js";
import type { Shape, TensorData } from "../../src/shape.js";
import { allDevices } from "../harness.js";

test.each<[Shape, number]>([
  [[1], 0],
  [[4], 0],
  [[3, 7, 5], 12],
  [[100_003], 0],
  [[64], 2 ** 32 - 5], // the counter carries
  [[64], 2 ** 45 + 3],
])("%j from block %d: the bits of the host", async (shape, counter) => {
  const state = { seed: 2 ** 40 + 12345, counter };
  for (const device of await allDevices()) {
    const [host, generator] = [Generator.from(state), Generator.from(state)];
    const words = bits(device, shape, generator);
    const numbers = uniform(device, shape, generator);
    expect(words.shape).toEqual(shape);
    expect([words.dtype, numbers.dtype]).toEqual(["u32", "f32"]);
    // deep equality of large arrays is slow
    expect(differing(await words.data(), host.u32(words.size))).toBe(0);
    expect(differing(await numbers.data(), host.uniform(words.size))).toBe(0);
    expect(generator.state()).toEqual(host.state());
    words.dispose();
    numbers.dispose();
  }
});

test("the known answers of Random123 for counter and key 0, on every device", async () => {
  for (const device of await allDevices()) {
    const words = bits(device, [4], new Generator(0));
    expect([...(await words.data())]).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    words.dispose();
  }
});

test("nothing, from nothing", async () => {
  for (const device of await allDevices()) {
    const generator = new Generator(1);
    const none = uniform(device, [0, 3], generator);
    expect((await none.data()).length).toBe(0);
    expect(generator.state().counter).toBe(0);
    none.dispose();
  }
});

function differing(a: TensorData, b: TensorData): number {
  expect(a.length).toBe(b.length);
  let count = 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) count++;
  return count;
}
