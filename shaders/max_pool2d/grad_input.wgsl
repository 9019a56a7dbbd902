// dx[n, iy, ix, c] = sum of dy[n, oy, ox, c] over the windows whose index is iy * w + ix: a gather, in fixed order.
// The windows that reach row iy are oy = ceil((iy + padH - (kernelH - 1) * dilationH) / strideH) up to
// floor((iy + padH) / strideH); those between whose taps miss iy have another index.
// One thread owns one channel of one input pixel.
alias T = f32;
struct Params {
  images: u32, h: u32, w: u32, channels: u32, outH: u32, outW: u32, kernelH: u32, kernelW: u32,
  strideH: u32, strideW: u32, padH: u32, padW: u32, dilationH: u32, dilationW: u32,
}
@group(0) @binding(0) var<storage, read> dy: array<T>; // [images, outH, outW, channels]
@group(0) @binding(1) var<storage, read> index: array<u32>; // [images, outH, outW, channels]
@group(0) @binding(2) var<storage, read_write> dx: array<T>; // [images, h, w, channels]
@group(0) @binding(3) var<uniform> params: Params;

// The first window that reaches position at, a coordinate with the padding counted.
fn first_window(at: u32, reach: u32, stride: u32) -> u32 {
  if (at <= reach) { return 0u; }
  return (at - reach + stride - 1u) / stride;
}

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let lanes = params.channels;
  let row = id.y + id.z * groups.y;
  if (id.x >= params.w * lanes || row >= params.images * params.h) { return; }
  let lane = id.x % lanes;
  let ix = id.x / lanes;
  let iy = row % params.h;
  let image = row / params.h * params.outH;
  let position = iy * params.w + ix;
  let top = first_window(iy + params.padH, (params.kernelH - 1u) * params.dilationH, params.strideH);
  let left = first_window(ix + params.padW, (params.kernelW - 1u) * params.dilationW, params.strideW);
  let bottom = min((iy + params.padH) / params.strideH + 1u, params.outH);
  let right = min((ix + params.padW) / params.strideW + 1u, params.outW);
  var sum = 0.0;
  for (var oy = top; oy < bottom; oy++) {
    for (var ox = left; ox < right; ox++) {
      let at = ((image + oy) * params.outW + ox) * lanes + lane;
      sum += select(0.0, f32(dy[at]), index[at] == position);
    }
  }
  dx[row * params.w * lanes + id.x] = T(sum);
}
