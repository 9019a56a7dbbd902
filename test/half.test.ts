import { expect, test } from "vitest";
import { fromBfloatBits, fromHalfBits, toBfloatBits, toHalfBits } from "../src/half.js";
import golden from "./golden/half.json" with { type: "json" };

test("all 65,536 patterns survive the way to a number and back", () => {
  const wrong: number[] = [];
  for (let bits = 0; bits < 65536; bits++) {
    const notANumber = (bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0;
    const value = fromHalfBits(bits);
    // NaN keeps neither sign nor payload: it must only stay NaN
    const good = notANumber
      ? Number.isNaN(value) && Number.isNaN(fromHalfBits(toHalfBits(value)))
      : toHalfBits(value) === bits;
    if (!good) wrong.push(bits);
  }
  expect(wrong).toEqual([]);
});

test("finite patterns are ordered like the numbers they stand for", () => {
  const wrong: number[] = [];
  for (let bits = 0; bits < 0x7c00; bits++) {
    const [value, next, negative] = [fromHalfBits(bits), fromHalfBits(bits + 1), fromHalfBits(bits | 0x8000)];
    if (!(next > value && Object.is(negative, -value))) wrong.push(bits);
  }
  expect(wrong).toEqual([]);
});

test("rounds like NumPy: ties to even, subnormals, overflow", () => {
  for (const [value, bits] of golden as [number, number][]) expect([value, toHalfBits(value)]).toEqual([value, bits]);
});

test("infinities and NaN", () => {
  expect(toHalfBits(Number.POSITIVE_INFINITY)).toBe(0x7c00);
  expect(toHalfBits(Number.NEGATIVE_INFINITY)).toBe(0xfc00);
  expect(Number.isNaN(fromHalfBits(toHalfBits(Number.NaN)))).toBe(true);
});

test("bfloat16 is the upper half of an f32, rounded to nearest, ties to even", () => {
  const wrong: number[] = [];
  for (let bits = 0; bits < 65536; bits++) {
    const value = fromBfloatBits(bits);
    if (Number.isNaN(value) ? !Number.isNaN(fromBfloatBits(toBfloatBits(value))) : toBfloatBits(value) !== bits)
      wrong.push(bits);
  }
  expect(wrong).toEqual([]);
  const one = 0x3f80;
  expect(toBfloatBits(1 + 2 ** -8)).toBe(one); // a tie, to the even side
  expect(toBfloatBits(1 + 3 * 2 ** -8)).toBe(one + 2);
  expect(toBfloatBits(1 + 2 ** -8 + 2 ** -20)).toBe(one + 1);
  expect(fromBfloatBits(toBfloatBits(3.4e38))).toBe(Number.POSITIVE_INFINITY);
  expect(fromBfloatBits(toBfloatBits(1e-40))).toBe(2 ** -133); // subnormals stay
});
