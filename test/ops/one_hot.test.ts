import { expect, test } from "vitest";
import { ArgumentError, DTypeError } from "../../src/errors.js";
import { oneHot } from "../../src/ops/one_hot.js";
import { scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/layout.json" with { type: "json" };
import { allDevices, checkOp, labels, referenceDevice } from "../harness.js";

test.each([
  [[1], 1],
  [[2, 3, 5], 7],
  [[300], 3],
  [[], 4],
])("indices %j of %d classes", async (shape, classes) => {
  await checkOp((x) => oneHot(x, classes), [labels(shape, classes)]);
});

test("agrees with PyTorch", async () => {
  await checkOp((x) => oneHot(x, 4), [{ data: [3, 0, 2, 2, 1], shape: [5], dtype: "u32" }], {
    golden: { output: golden.oneHot },
  });
});

test("an index that is no class gives a row of zeros", async () => {
  for (const device of await allDevices()) {
    const [signed, unsigned] = scope(() => [
      oneHot(Tensor.from(device, [-1, 1, 2, -2147483648], [4], "i32"), 2),
      oneHot(Tensor.from(device, [255, 1, 2, 4294967295], [2, 2], "u32"), 2),
    ]);
    expect(signed!.shape).toEqual([4, 2]);
    expect(unsigned!.shape).toEqual([2, 2, 2]);
    for (const y of [signed!, unsigned!]) {
      expect(y.dtype).toBe("f32");
      expect([...(await y.data())]).toEqual([0, 0, 0, 1, 0, 0, 0, 0]);
      y.dispose();
    }
  }
});

test("refuses floats, and numbers of classes that are none", () => {
  scope(() => {
    expect(() => oneHot(Tensor.zeros(referenceDevice(), [2]), 3)).toThrow(DTypeError);
    const indices = Tensor.zeros(referenceDevice(), [2], "u32");
    for (const classes of [0, -1, 2.5, Number.NaN, 2 ** 31]) {
      expect(() => oneHot(indices, classes)).toThrow(ArgumentError);
    }
  });
});
