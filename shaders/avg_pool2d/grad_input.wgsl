// dx[n, iy, ix, c] = sum of dy[n, oy, ox, c] / divisor(oy, ox) over the windows that hold the pixel: oy from
// ceil((iy + padH - kernelH + 1) / strideH) up to floor((iy + padH) / strideH), ox alike: a gather, in fixed order.
// One thread owns one channel of one input pixel.
alias T = f32;
struct Params {
  images: u32, h: u32, w: u32, channels: u32, outH: u32, outW: u32, kernelH: u32, kernelW: u32,
  strideH: u32, strideW: u32, padH: u32, padW: u32, countPad: u32,
}
@group(0) @binding(0) var<storage, read> dy: array<T>; // [images, outH, outW, channels]
@group(0) @binding(1) var<storage, read_write> dx: array<T>; // [images, h, w, channels]
@group(0) @binding(2) var<uniform> params: Params;

// The first window that reaches position at, a coordinate with the padding counted.
fn first_window(at: u32, reach: u32, stride: u32) -> u32 {
  if (at <= reach) { return 0u; }
  return (at - reach + stride - 1u) / stride;
}
// How many of a window's positions on one axis count.
fn extent(o: u32, kernel: u32, stride: u32, pad: u32, size: u32) -> u32 {
  if (params.countPad == 1u) { return kernel; }
  return min(o * stride + kernel, size + pad) - max(o * stride, pad);
}

@compute @workgroup_size(64)
fn grad_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let lanes = params.channels;
  let row = id.y + id.z * groups.y;
  if (id.x >= params.w * lanes || row >= params.images * params.h) { return; }
  let lane = id.x % lanes;
  let iy = row % params.h + params.padH;
  let ix = id.x / lanes + params.padW;
  let image = row / params.h * params.outH;
  let top = first_window(iy, params.kernelH - 1u, params.strideH);
  let left = first_window(ix, params.kernelW - 1u, params.strideW);
  let bottom = min(iy / params.strideH + 1u, params.outH);
  let right = min(ix / params.strideW + 1u, params.outW);
  var sum = 0.0;
  for (var oy = top; oy < bottom; oy++) {
    let tall = extent(oy, params.kernelH, params.strideH, params.padH, params.h);
    for (var ox = left; ox < right; ox++) {
      let wide = extent(ox, params.kernelW, params.strideW, params.padW, params.w);
      sum += f32(dy[((image + oy) * params.outW + ox) * lanes + lane]) / f32(tall * wide);
    }
  }
  dx[row * params.w * lanes + id.x] = T(sum);
}
