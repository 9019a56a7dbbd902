import type { NumberArray, ReferenceKernel, ReferenceOp } from "./kernel.js";

type Params = Parameters<ReferenceKernel>[0];
/**
 * Called with flat indices: x at an input pixel and the first channel of a group, w at [o, kh, kw, 0], y at an output
 * pixel and channel. The `channels` of the group follow x and w.
 */
type Visit = (x: number, w: number, y: number, channels: number) => void;

/** Every run of products that a convolution adds up: y[…, o] += Σ over c of x[…, group's first + c] · w[o, kh, kw, c]. */
function visit(p: Params, rows: { begin: number; end: number }, each: Visit): void {
  const [cin, cout] = [p.cin! / p.groups!, p.cout! / p.groups!]; // of one group
  for (let row = rows.begin; row < rows.end; row++) {
    const [n, oh] = [Math.floor(row / p.out_height!), row % p.out_height!];
    for (let ow = 0; ow < p.out_width!; ow++) {
      for (let kh = 0; kh < p.kh!; kh++) {
        const ih = oh * p.stride_h! + kh * p.dilation_h! - p.pad_top!;
        if (ih < 0 || ih >= p.height!) continue;
        for (let kw = 0; kw < p.kw!; kw++) {
          const iw = ow * p.stride_w! + kw * p.dilation_w! - p.pad_left!;
          if (iw < 0 || iw >= p.width!) continue;
          for (let o = 0; o < p.cout!; o++) {
            const x = ((n * p.height! + ih) * p.width! + iw) * p.cin! + Math.floor(o / cout) * cin;
            const w = ((o * p.kh! + kh) * p.kw! + kw) * cin;
            const y = (row * p.out_width! + ow) * p.cout! + o;
            each(x, w, y, cin);
          }
        }
      }
    }
  }
}

const everyRow = (p: Params) => ({ begin: 0, end: p.n! * p.out_height! });

function addBias(p: Params, bias: NumberArray, y: NumberArray): void {
  for (let i = 0; i < y.length; i++) y[i] = p.has_bias ? bias[i % p.cout!]! : 0;
}

/** The rest of y = relu(sum + bias + residual). */
function finish(p: Params, residual: NumberArray, y: NumberArray): void {
  if (p.has_residual) for (let i = 0; i < y.length; i++) y[i]! += residual[i]!;
  if (p.relu) for (let i = 0; i < y.length; i++) y[i] = Math.max(y[i]!, 0);
}

/** Takes the weights as transpose_weight leaves them: [kh, kw, c, o]. */
const forward: ReferenceKernel = (p, [x, wt, bias, residual], [y]) => {
  addBias(p, bias!, y!);
  const taps = (p.kh! * p.kw! * p.cin!) / p.groups!;
  const cout = p.cout!;
  visit(p, everyRow(p), (ix, iw, iy, channels) => {
    const first = (iw % taps) * cout + Math.floor(iw / taps);
    let sum = y![iy]!;
    for (let c = 0; c < channels; c++) sum += x![ix + c]! * wt![first + c * cout]!;
    y![iy] = sum;
  });
  finish(p, residual!, y!);
};

const forwardDepthwise: ReferenceKernel = (p, [x, w, bias, residual], [y]) => {
  addBias(p, bias!, y!);
  visit(p, everyRow(p), (ix, iw, iy) => {
    y![iy]! += x![ix]! * w![iw]!; // groups of one channel
  });
  finish(p, residual!, y!);
};

const gradInput: ReferenceKernel = (p, [dy, w], [dx]) => {
  dx!.fill(0);
  visit(p, everyRow(p), (ix, iw, iy, channels) => {
    const slope = dy![iy]!;
    for (let c = 0; c < channels; c++) dx![ix + c]! += slope * w![iw + c]!;
  });
};

const gradWeight: ReferenceKernel = (p, [x, dy], [partials]) => {
  const count = (p.cout! * p.kh! * p.kw! * p.cin!) / p.groups!;
  partials!.fill(0);
  for (let split = 0; split < p.splits!; split++) {
    const begin = split * p.rows_per_split!;
    const rows = { begin, end: Math.min(begin + p.rows_per_split!, p.n! * p.out_height!) };
    visit(p, rows, (ix, iw, iy, channels) => {
      const [slope, at] = [dy![iy]!, split * count + iw];
      for (let c = 0; c < channels; c++) partials![at + c]! += slope * x![ix + c]!;
    });
  }
};

export const conv2d: ReferenceOp = {
  transpose_weight({ cout, taps }, [w], [wt]) {
    for (let o = 0; o < cout!; o++) for (let k = 0; k < taps!; k++) wt![k * cout! + o] = w![o * taps! + k]!;
  },
  forward,
  forward_vec4: forward,
  forward_depthwise: forwardDepthwise,
  grad_input: gradInput,
  grad_input_vec4: gradInput,
  grad_input_depthwise: gradInput,
  grad_weight: gradWeight,
  grad_weight_vec4: gradWeight,
  grad_weight_depthwise: gradWeight,
  grad_bias({ pixels, cout, pixels_per_split, splits }, [dy], [partials]) {
    partials!.fill(0, 0, splits! * cout!);
    for (let pixel = 0; pixel < pixels!; pixel++) {
      const split = Math.floor(pixel / pixels_per_split!);
      for (let o = 0; o < cout!; o++) partials![split * cout! + o]! += dy![pixel * cout! + o]!;
    }
  },
  reduce_partials({ count, splits }, [partials], [y]) {
    for (let i = 0; i < count!; i++) {
      y![i] = 0;
      for (let split = 0; split < splits!; split++) y![i]! += partials![split * count! + i]!;
    }
  },
};
