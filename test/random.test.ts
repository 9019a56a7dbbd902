import { describe, expect, test } from "vitest";
import { ArgumentError } from "../src/errors.js";
import { philox, type Words2, type Words4 } from "../src/philox.js";
import { Generator } from "../src/random.js";

const hex = (words: readonly number[]): string => words.map((word) => word.toString(16).padStart(8, "0")).join(" ");

// Known answers of Random123, philox4x32 with 10 rounds.
test.each<[Words4, Words2, string]>([
  [[0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
  [[0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff], "408f276d 41c83b0e a20bc7c6 6d5451fd"],
  [[0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0], "d16cfe09 94fdcceb 5001e420 24126ea1"],
])("philox(%j, %j)", (counter, key, expected) => {
  expect(hex(philox(counter, key))).toBe(expected);
});

test("the stream is the blocks 0, 1, … of the key", () => {
  const seed = 0x1b_9e3779b9;
  const key: Words2 = [0x9e3779b9, 0x1b];
  expect([...new Generator(seed).u32(6)]).toEqual([
    ...philox([0, 0, 0, 0], key),
    ...philox([1, 0, 0, 0], key).slice(0, 2),
  ]);
});

test("counters beyond 32 bits carry into the second word", () => {
  const generator = Generator.from({ seed: 7, counter: 2 ** 32 - 1 });
  expect([...generator.u32(8)]).toEqual([...philox([0xffffffff, 0, 0, 0], [7, 0]), ...philox([0, 1, 0, 0], [7, 0])]);
  expect(generator.state()).toEqual({ seed: 7, counter: 2 ** 32 + 1 });
});

test.each<[string, (g: Generator) => unknown, number]>([
  ["u32(1)", (g) => g.u32(1), 1],
  ["u32(9)", (g) => g.u32(9), 3],
  ["uniform()", (g) => g.uniform(), 1],
  ["uniform(8)", (g) => g.uniform(8), 2],
  ["normal(3)", (g) => g.normal(3), 1],
  ["normal(5)", (g) => g.normal(5), 2],
  ["integer(10)", (g) => g.integer(10), 1],
  ["shuffle of 5", (g) => g.shuffle([1, 2, 3, 4, 5]), 4],
  ["shuffle of none", (g) => g.shuffle([]), 0],
  ["fork", (g) => g.fork("a"), 0],
])("%s draws what it says", (_name, draw, blocks) => {
  const generator = new Generator(3);
  draw(generator);
  expect(generator.state()).toEqual({ seed: 3, counter: blocks });
});

test("a state that went through JSON goes on with the same numbers", () => {
  const generator = new Generator(2 ** 53 - 1);
  generator.normal(11);
  const copy = Generator.from(JSON.parse(JSON.stringify(generator.state())) as { seed: number; counter: number });
  expect(copy.u32(7)).toEqual(generator.u32(7));
  expect(copy.fork("x").u32(4)).toEqual(generator.fork("x").u32(4));
});

test("forks depend on seed and label only, and differ from each other and from their parent", () => {
  const generator = new Generator(5);
  const early = generator.fork("augment").u32(4);
  generator.u32(100);
  expect(generator.fork("augment").u32(4)).toEqual(early);
  const first = ["", "a", "b", "ab", "ba", "aa", "augment", "epoch 1", "epoch 2"].map(
    (label) => generator.fork(label).u32(1)[0],
  );
  first.push(new Generator(5).u32(1)[0], new Generator(6).fork("a").u32(1)[0], generator.fork("a").fork("a").u32(1)[0]);
  expect(new Set(first).size).toBe(first.length);
});

describe("distributions", () => {
  const count = 40_000;
  test("uniform: multiples of 2^-24 in [0, 1), mean 1/2, variance 1/12", () => {
    const u = new Generator(1).uniform(count);
    expect(u.every((v) => v >= 0 && v < 1 && Number.isInteger(v * 2 ** 24))).toBe(true);
    expect(Math.abs(moment(u, 0, 1) - 0.5)).toBeLessThan(0.006); // four standard errors
    expect(Math.abs(moment(u, 0.5, 2) - 1 / 12)).toBeLessThan(0.0016);
    const words = new Generator(1).u32(count);
    expect(u).toEqual(Float32Array.from(words, (word) => Math.floor(word / 256) / 2 ** 24));
  });
  test("normal: moments 0, 1, 0, 3", () => {
    const z = new Generator(2).normal(count);
    expect(Math.abs(moment(z, 0, 1))).toBeLessThan(0.02);
    expect(Math.abs(moment(z, 0, 2) - 1)).toBeLessThan(0.03);
    expect(Math.abs(moment(z, 0, 3))).toBeLessThan(0.08);
    expect(Math.abs(moment(z, 0, 4) - 3)).toBeLessThan(0.2);
    let lag = 0;
    for (let i = 1; i < count; i++) lag += z[i]! * z[i - 1]!;
    expect(Math.abs(lag / count)).toBeLessThan(0.02);
  });
  test("integer: every value, equally often", () => {
    const generator = new Generator(3);
    const seen = new Array<number>(7).fill(0);
    for (let i = 0; i < 7000; i++) seen[generator.integer(7)]!++;
    const chi = seen.reduce((sum, n) => sum + (n - 1000) ** 2 / 1000, 0);
    expect(chi).toBeLessThan(22.5); // 99.9 % of a chi-squared distribution with 6 degrees of freedom
    expect(generator.integer(1)).toBe(0);
    expect(generator.integer(2 ** 32)).toBeLessThan(2 ** 32);
  });
  test("shuffle: a permutation in place, every order equally often", () => {
    const generator = new Generator(4);
    const seen = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const array = [0, 1, 2];
      expect(generator.shuffle(array)).toBe(array);
      seen.set(array.join(""), (seen.get(array.join("")) ?? 0) + 1);
    }
    expect([...seen.keys()].sort()).toEqual(["012", "021", "102", "120", "201", "210"]);
    const chi = [...seen.values()].reduce((sum, n) => sum + (n - 1000) ** 2 / 1000, 0);
    expect(chi).toBeLessThan(20.5); // 99.9 %, 5 degrees of freedom
  });
});

test("refuses seeds and ranges that it cannot take", () => {
  for (const seed of [-1, 0.5, 2 ** 53, Number.NaN]) expect(() => new Generator(seed)).toThrow(ArgumentError);
  expect(() => Generator.from({ seed: 1, counter: -1 })).toThrow(ArgumentError);
  for (const n of [0, -3, 1.5, 2 ** 32 + 1]) expect(() => new Generator(1).integer(n)).toThrow(ArgumentError);
});

function moment(data: Float32Array, centre: number, power: number): number {
  return data.reduce((sum, v) => sum + (v - centre) ** power, 0) / data.length;
}
