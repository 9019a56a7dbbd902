import { expect, test } from "vitest";
import { fromBfloatBits, toBfloatBits } from "../../src/half.js";
import { cast } from "../../src/ops/cast.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import { allDevices, checkOp, hostDevice, random, webgpuDevice } from "../harness.js";

test("to the same type is the identity, with its gradient", async () => {
  await checkOp((x) => cast(x, "f32"), [random([3, 5])]);
});

test("floats to integers drop the fraction and saturate", async () => {
  for (const device of await allDevices()) {
    const [i, u] = scope(() => {
      const x = Tensor.from(device, [-3.7, -0.5, 0, 0.9, 2.5, 3e9, -3e9]);
      return [cast(x, "i32"), cast(x, "u32")];
    });
    const [signed, unsigned] = [await i!.data(), await u!.data()];
    expect([...signed.slice(0, 5)]).toEqual([-3, 0, 0, 0, 2]);
    expect(signed[5]).toBeGreaterThan(2.147e9);
    expect(signed[6]).toBe(-(2 ** 31));
    expect([...unsigned.slice(0, 6)]).toEqual([0, 0, 0, 0, 2, 3e9]);
    dispose(i, u);
  }
});

test("between the integers and floats", async () => {
  for (const device of await allDevices()) {
    const made = scope(() => {
      const i = Tensor.from(device, [-1, 0, 7], [3], "i32");
      const u = cast(i, "u32");
      return { i: cast(i, "f32"), u, back: cast(u, "i32"), f: cast(Tensor.from(device, [9, 200], [2], "u32"), "f32") };
    });
    expect([...(await made.i.data())]).toEqual([-1, 0, 7]);
    expect([...(await made.u.data())]).toEqual([2 ** 32 - 1, 0, 7]);
    expect([...(await made.back.data())]).toEqual([-1, 0, 7]);
    expect([...(await made.f.data())]).toEqual([9, 200]);
    dispose(made);
  }
});

test("through half precision, where the device has it", async () => {
  const device = await webgpuDevice();
  if (!device?.supports("f16")) return;
  const made = scope(() => {
    const half = cast(Tensor.from(device, [1 / 3, -2048.5, 1e6, 3]), "f16");
    return { half, back: cast(half, "f32"), whole: cast(half, "u32") };
  });
  expect([...(await made.half.data())]).toEqual([0.333251953125, -2048, Number.POSITIVE_INFINITY, 3]);
  expect([...(await made.back.data())]).toEqual([0.333251953125, -2048, Number.POSITIVE_INFINITY, 3]);
  expect((await made.whole.data())[3]).toBe(3);
  dispose(made);
});

test("through bf16, where the device has it: ties to even, several blocks and a tail", async () => {
  const device = hostDevice();
  if (!device) return;
  const data = Array.from({ length: 5003 }, (_, i) => i - 2500);
  data.splice(0, 5, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 / 3, 4e38, -0);
  const made = scope(() => {
    const half = cast(Tensor.from(device, data), "bf16");
    return { half, back: cast(half, "f32"), whole: cast(half, "i32") };
  });
  const back = await made.back.data();
  expect([...back]).toEqual(data.map((v) => fromBfloatBits(toBfloatBits(v))));
  expect([...back.slice(0, 5)]).toEqual([1, 1 + 2 ** -6, 0.333984375, Number.POSITIVE_INFINITY, -0]);
  expect([...(await made.half.data())]).toEqual([...back]);
  expect([...(await made.whole.data()).slice(5, 5003)]).toEqual([...back.slice(5)]);
  dispose(made);
});
