import { expect, test } from "vitest";
import {
  adaptSegNetDiscriminator,
  type Backbone,
  DeepLabV3Plus,
  type DeepLabVariant,
  DomainDiscriminator,
} from "../../src/models/index.js";
import { referenceDevice } from "../harness.js";

// Parameter counts of the published networks at 1 and at 6 classes, measured on their PyTorch modules
// (guides/domain.md, table 1.2; the paper's by arithmetic).
const published: readonly [DeepLabVariant, Backbone, number, number][] = [
  ["smp", "resnet18", 12_329_297, 12_330_582],
  ["smp", "resnet34", 22_437_457, 22_438_742],
  ["smp", "resnet50", 26_677_585, 26_678_870],
  ["smp", "resnet101", 45_669_713, 45_670_998],
  ["smp", "mobilenet_v2", 4_378_513, 4_379_798],
  ["smp", "xception65", 41_036_865, 41_038_150],
  ["vainf", "resnet50", 39_756_705, 39_757_990],
  ["vainf", "resnet101", 58_748_833, 58_750_118],
  ["vainf", "mobilenet_v2", 5_220_577, 5_221_862],
  ["paper", "resnet50", 26_692_278 - 5 * 257, 26_692_278],
  ["paper", "resnet101", 45_684_406 - 5 * 257, 45_684_406],
  ["paper", "xception65", 41_051_558 - 5 * 257, 41_051_558],
];

test.each(published)("%s %s has the published number of parameters", (variant, backbone, one, six) => {
  for (const outputStride of [8, 16] as const) {
    for (const [classes, count] of [
      [1, one],
      [6, six],
    ] as const) {
      using model = new DeepLabV3Plus(referenceDevice(), { backbone, variant, classes, outputStride });
      expect(model.parameterCount).toBe(count);
    }
  }
});

test("more classes cost 257 parameters each", () => {
  const count = (variant: DeepLabVariant, backbone: Backbone, classes: number) =>
    new DeepLabV3Plus(referenceDevice(), { backbone, variant, classes }).parameterCount;
  expect(count("smp", "resnet50", 7)).toBe(26_679_127);
  expect(count("smp", "resnet50", 19)).toBe(26_682_211);
  expect(count("smp", "resnet50", 21)).toBe(26_682_725);
  expect(count("vainf", "resnet50", 19)).toBe(39_761_331);
  expect(count("vainf", "resnet50", 21)).toBe(39_761_845);
  expect(count("vainf", "resnet101", 21)).toBe(58_753_973);
  expect(count("vainf", "mobilenet_v2", 19)).toBe(5_225_203);
  expect(count("paper", "xception65", 21)).toBe(41_055_413);
});

test("encoders have the published number of parameters", () => {
  const count = (variant: DeepLabVariant, backbone: Backbone) =>
    new DeepLabV3Plus(referenceDevice(), { backbone, variant, classes: 1 }).encoder.parameterCount;
  expect(count("smp", "resnet18")).toBe(11_176_512);
  expect(count("smp", "resnet34")).toBe(21_284_672);
  expect(count("paper", "resnet50")).toBe(23_508_032);
  expect(count("paper", "resnet101")).toBe(42_500_160);
  expect(count("smp", "mobilenet_v2")).toBe(2_223_872);
  expect(count("vainf", "mobilenet_v2")).toBe(1_811_712);
  expect(count("paper", "xception65")).toBe(37_867_312);
});

test("discriminators have the published number of parameters", () => {
  const adaptSegNet = (inChannels: number) =>
    new DomainDiscriminator(referenceDevice(), { ...adaptSegNetDiscriminator, inChannels }).parameterCount;
  expect(adaptSegNet(6)).toBe(2_767_809);
  expect(adaptSegNet(7)).toBe(2_768_833);
  expect(adaptSegNet(19)).toBe(2_781_121);
  expect(adaptSegNet(256)).toBe(3_023_809);
  expect(adaptSegNet(2048)).toBe(4_858_817);
  const global = { kind: "global", inChannels: 2048, width: 1024, norm: true } as const;
  expect(new DomainDiscriminator(referenceDevice(), global).parameterCount).toBe(3_152_897);
});
