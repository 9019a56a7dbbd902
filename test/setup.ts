import { afterAll, beforeEach, expect } from "vitest";
import { closeDevices, openDevices } from "./harness.js";

// Every test leaves as many live buffers behind as it found: tensors made in a test are scoped, disposed or parameters
// that the test frees itself.
beforeEach(() => {
  const before = openDevices().map((device) => [device, device.stats.live] as const);
  return () => {
    for (const [device, live] of before) expect(device.stats.live, `live buffers on ${device.name}`).toBe(live);
  };
});
afterAll(closeDevices);
