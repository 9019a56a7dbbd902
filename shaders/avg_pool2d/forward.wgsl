// y[n, oy, ox, c] = sum of x[n, iy, ix, c] over the window's pixels within the map / divisor, where iy runs from
// oy * strideH - padH over kernelH rows, ix alike, and the divisor is kernelH * kernelW (countPad = 1) or the number of
// these pixels. One thread owns one channel of one output pixel.
alias T = f32;
struct Params {
  images: u32, h: u32, w: u32, channels: u32, outH: u32, outW: u32, kernelH: u32, kernelW: u32,
  strideH: u32, strideW: u32, padH: u32, padW: u32, countPad: u32,
}
@group(0) @binding(0) var<storage, read> x: array<T>; // [images, h, w, channels]
@group(0) @binding(1) var<storage, read_write> y: array<T>; // [images, outH, outW, channels]
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let lanes = params.channels;
  let row = id.y + id.z * groups.y;
  if (id.x >= params.outW * lanes || row >= params.images * params.outH) { return; }
  let lane = id.x % lanes;
  let top = i32(row % params.outH * params.strideH) - i32(params.padH);
  let left = i32(id.x / lanes * params.strideW) - i32(params.padW);
  let image = row / params.outH * params.h;
  let y0 = u32(max(top, 0));
  let y1 = u32(min(top + i32(params.kernelH), i32(params.h)));
  let x0 = u32(max(left, 0));
  let x1 = u32(min(left + i32(params.kernelW), i32(params.w)));
  var sum = 0.0;
  for (var iy = y0; iy < y1; iy++) {
    for (var ix = x0; ix < x1; ix++) { sum += f32(x[((image + iy) * params.w + ix) * lanes + lane]); }
  }
  var divisor = params.kernelH * params.kernelW;
  if (params.countPad == 0u) { divisor = (y1 - y0) * (x1 - x0); }
  y[row * params.outW * lanes + id.x] = T(sum / f32(divisor));
}
