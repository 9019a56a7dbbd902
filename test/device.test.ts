import { expect, test } from "vitest";
import { devices, open } from "../src/device.js";
import { ArgumentError } from "../src/errors.js";

test("devices() says of one that it is chosen: the one that open() takes", async () => {
  const chosen = (await devices()).filter((report) => report.chosen);
  using device = await open();
  expect(chosen.map((report) => report.name)).toEqual([device.name]);
});

test("a name that is no backend", async () => {
  await expect(open("tpu" as never)).rejects.toThrow(ArgumentError);
});
