// y[n, oy, ox, c] = max over taps (ky, kx) of x[n, iy, ix, c], iy = oy * strideH - padH + ky * dilationH and ix alike;
// taps outside the map are left out. index is where in its image the first maximum stands (y * w + x).
// One thread owns one channel of one output pixel.
alias T = f32;
struct Params {
  images: u32, h: u32, w: u32, channels: u32, outH: u32, outW: u32, kernelH: u32, kernelW: u32,
  strideH: u32, strideW: u32, padH: u32, padW: u32, dilationH: u32, dilationW: u32,
}
@group(0) @binding(0) var<storage, read> x: array<T>; // [images, h, w, channels]
@group(0) @binding(1) var<storage, read_write> y: array<T>; // [images, outH, outW, channels]
@group(0) @binding(2) var<storage, read_write> index: array<u32>; // [images, outH, outW, channels]
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let lanes = params.channels;
  let row = id.y + id.z * groups.y;
  if (id.x >= params.outW * lanes || row >= params.images * params.outH) { return; }
  let lane = id.x % lanes;
  let top = i32(row % params.outH * params.strideH) - i32(params.padH);
  let left = i32(id.x / lanes * params.strideW) - i32(params.padW);
  let image = row / params.outH * params.h;
  var best = f32(-3.4028234e38);
  var found = 0u;
  var seen = false;
  for (var ky = 0u; ky < params.kernelH; ky++) {
    let iy = top + i32(ky * params.dilationH);
    if (iy < 0 || iy >= i32(params.h)) { continue; }
    for (var kx = 0u; kx < params.kernelW; kx++) {
      let ix = left + i32(kx * params.dilationW);
      if (ix < 0 || ix >= i32(params.w)) { continue; }
      let value = f32(x[((image + u32(iy)) * params.w + u32(ix)) * lanes + lane]);
      let better = (value > best) || !seen;
      best = select(best, value, better);
      found = select(found, u32(iy) * params.w + u32(ix), better);
      seen = true;
    }
  }
  let to = row * params.outW * lanes + id.x;
  y[to] = T(best);
  index[to] = found;
}
