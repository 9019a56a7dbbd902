import type { Device } from "../../device.js";
import { BatchNorm, Conv2d, constant, Layer, ReLU, Sequential } from "../../nn/index.js";
import { resizeBilinear } from "../../ops/index.js";
import type { Tensor } from "../../tensor.js";
import { DILATED_LAYERS } from "./cases.js";

/** The net of `DilatedStep` (cases.ts). Parameters: `body.0.weight` (convolution), `body.1.weight` (norm) … `head.bias`. */
export class DilatedNet extends Layer {
  readonly body: Sequential;
  readonly head: Conv2d;

  constructor(device: Device, classes: number) {
    super();
    const layers = DILATED_LAYERS.flatMap(({ cin, cout, stride, dilation }) => {
      return [new Conv2d(cin, cout, 3, { stride, dilation }), new BatchNorm(cout), new ReLU()];
    });
    this.body = new Sequential(...layers);
    this.head = new Conv2d(DILATED_LAYERS.at(-1)!.cout, classes, 1, { bias: constant(0) });
    this.place(device, 0);
  }

  /** @param x `[n, h, w, 3]` @returns logits `[n, h, w, classes]` */
  override forward(x: Tensor): Tensor {
    const [, h, w] = x.shape as [number, number, number, number];
    return resizeBilinear(this.head.forward(this.body.forward(x)), [h, w], { alignCorners: true });
  }
}
