import { expect, test } from "vitest";
import { ArgumentError } from "../../src/errors.js";
import { pad } from "../../src/ops/pad.js";
import type { Shape } from "../../src/shape.js";
import { scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/layout.json" with { type: "json" };
import { allDevices, checkOp, random, referenceDevice } from "../harness.js";

type Widths = [number, number][];
test.each<[Shape, Widths]>([
  [
    [2, 3, 4, 3],
    [
      [0, 0],
      [1, 2],
      [3, 0],
      [0, 0],
    ],
  ],
  [
    [2, 3, 4, 8],
    [
      [0, 0],
      [1, 1],
      [2, 2],
      [0, 0],
    ],
  ], // in vectors of four
  [
    [2, 3, 4, 4],
    [
      [0, 0],
      [0, 0],
      [0, 0],
      [4, 8],
    ],
  ],
  [
    [2, 3, 4, 4],
    [
      [0, 0],
      [0, 0],
      [0, 0],
      [1, 3],
    ],
  ], // starts between vectors
  [
    [1, 2, 3, 2],
    [
      [1, 0],
      [0, 1],
      [2, 1],
      [1, 1],
    ],
  ], // four axes: in two steps
  [
    [1, 2, 1, 2, 1],
    [
      [1, 0],
      [0, 1],
      [2, 1],
      [1, 1],
      [0, 2],
    ],
  ],
  [[3], [[2, 4]]],
  [
    [3, 2],
    [
      [0, 0],
      [0, 0],
    ],
  ],
])("%j by %j", async (shape, widths) => {
  await checkOp((x) => pad(x, widths, -1.5), [random(shape)], { half: true });
});

test("agrees with PyTorch", async () => {
  const widths: Widths = [
    [1, 0],
    [0, 2],
    [1, 1],
    [2, 0],
  ];
  await checkOp((x) => pad(x, widths, 0.5), [random([2, 3, 2, 3])], { golden: golden.pad });
});

test("integers, and an empty tensor", async () => {
  for (const device of await allDevices()) {
    for (const [dtype, value] of [
      ["i32", -7],
      ["u32", 4294967295],
    ] as const) {
      const y = scope(() =>
        pad(
          Tensor.from(device, [1, 2], [1, 2], dtype),
          [
            [0, 1],
            [1, 0],
          ],
          value,
        ),
      );
      expect([...(await y.data())]).toEqual([value, 1, 2, value, value, value]);
      y.dispose();
    }
    const y = scope(() =>
      pad(
        Tensor.zeros(device, [2, 0]),
        [
          [0, 0],
          [1, 1],
        ],
        3,
      ),
    );
    expect([...(await y.data())]).toEqual([3, 3, 3, 3]);
    y.dispose();
  }
});

test.each<[Widths]>([
  [[[0, 0]]],
  [
    [
      [0, 0],
      [0, -1],
    ],
  ],
  [
    [
      [0, 0],
      [0, 0.5],
    ],
  ],
  [
    [
      [0, 0],
      [0, 0],
      [0, 0],
    ],
  ],
])("refuses widths %j of [2, 3]", (widths) => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [2, 3]);
    expect(() => pad(x, widths)).toThrow(ArgumentError);
  });
});

test("refuses values that the type does not hold", () => {
  scope(() => {
    const widths: Widths = [[0, 1]];
    expect(() => pad(Tensor.zeros(referenceDevice(), [2], "u32"), widths, 0.5)).toThrow(ArgumentError);
    expect(() => pad(Tensor.zeros(referenceDevice(), [2]), widths, Number.NaN)).toThrow(ArgumentError);
  });
});
