import { describe, expect, it } from "vitest";
import { differentiate } from "../../src/autograd.js";
import { binaryCrossEntropy, tversky } from "../../src/losses.js";
import { DomainDiscriminator } from "../../src/models/index.js";
import { MultiLoss } from "../../src/multi_loss.js";
import { BatchNorm, Conv2d, ReLU, Sequential } from "../../src/nn/index.js";
import { reverseGradient } from "../../src/ops/index.js";
import { AdamW, EMA } from "../../src/optim/index.js";
import { scope, Tensor } from "../../src/tensor.js";
import { allDevices, values } from "../harness.js";

/** The smallest network that is trained as a DeepLabV3+ is. */
class Small extends Sequential {
  constructor(device: ConstructorParameters<typeof DomainDiscriminator>[0]) {
    super(new Conv2d(3, 4, 3, { padding: 1 }), new BatchNorm(4), new ReLU());
    this.place(device, 1);
  }
}

describe("200 adversarial steps", () => {
  it("leave as many buffers and bytes as the first one", async () => {
    for (const device of await allDevices()) {
      using features = new Small(device);
      using head = new DomainDiscriminator(device, { kind: "convolutional", inChannels: 4, width: 4, strides: [1] });
      using critic = new DomainDiscriminator(device, {
        kind: "convolutional",
        inChannels: 4,
        width: 4,
        strides: [1, 2],
        seed: 2,
      });
      using multi = new MultiLoss(device, { names: ["segmentation", "domain"], weighting: "liebel" });
      using optimiser = new AdamW([
        { name: "features", parameters: features.parameters(), lr: 1e-3 },
        { name: "head", parameters: head.parameters(), lr: 1e-3 },
        { name: "critic", parameters: critic.parameters(), lr: 1e-3 },
        { name: "c", parameters: multi.parameters(), lr: 1e-3 },
      ]);
      using ema = new EMA(optimiser, 0.9);
      const after = new Set<string>();
      for (let step = 0; step < 200; step++) {
        const total = scope(() => {
          const x = Tensor.from(device, values(2 * 6 * 6 * 3, step), [2, 6, 6, 3]);
          const y = Tensor.full(device, [2, 6, 6], step % 2, "u32");
          const { values: result, gradients } = differentiate(optimiser.parameters, () => {
            const z = features.forward(x);
            const logits = head.forward(z); // [2, 6, 6, 1]
            const segmentation = tversky(logits, y, { mode: "binary" });
            const domain = binaryCrossEntropy(critic.forward(reverseGradient(z, 0.5)), step % 2 === 0 ? 0 : 1);
            return { loss: multi.combine({ segmentation, domain }).total };
          });
          optimiser.step(gradients, { clipNorm: 1 });
          ema.update(step);
          return result.loss;
        });
        expect(Number.isFinite(await total.item())).toBe(true);
        total.dispose();
        after.add(`${device.stats.live} buffers, ${device.stats.bytes} bytes`);
      }
      expect(after.size, device.name).toBe(1);
    }
  });
});
