// y[n, oy, ox, c] = bilinear interpolation of x, as in forward, for a result that is as wide as x or wider.
// One thread owns one channel of 64 output pixels of a row, one after the other: it blends the two rows of x at a column
// once, and holds two such columns until it passes the second. At four times the width an output costs half a load.
alias T = f32;
struct Params {
  images: u32, h: u32, w: u32, channels: u32, outH: u32, outW: u32,
  stepH: u32, offsetH: i32, scaleH: u32, stepW: u32, offsetW: i32, scaleW: u32,
}
@group(0) @binding(0) var<storage, read> x: array<T>; // [images, h, w, channels]
@group(0) @binding(1) var<storage, read_write> y: array<T>; // [images, outH, outW, channels]
@group(0) @binding(2) var<uniform> params: Params;

const COLUMNS = 64u;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  let lanes = params.channels;
  let walks = (params.outW + COLUMNS - 1u) / COLUMNS;
  let item = i / lanes;
  let lane = i - item * lanes;
  let row = item / walks;
  if (row >= params.images * params.outH) { return; }
  let first = (item - row * walks) * COLUMNS;
  let image = row / params.outH;
  let vertical = min(u32(max(i32(params.stepH * (row - image * params.outH)) + params.offsetH, 0)),
                     (params.h - 1u) * params.scaleH);
  let upper = vertical / params.scaleH;
  let v = f32(vertical - upper * params.scaleH) / f32(params.scaleH);
  let top = (image * params.h + upper) * params.w;
  let bottom = (image * params.h + min(upper + 1u, params.h - 1u)) * params.w;

  let last_at = (params.w - 1u) * params.scaleW;
  var low = min(u32(max(i32(params.stepW * first) + params.offsetW, 0)), last_at) / params.scaleW;
  var left = mix(f32(x[(top + low) * lanes + lane]), f32(x[(bottom + low) * lanes + lane]), v);
  var high = min(low + 1u, params.w - 1u);
  var right = mix(f32(x[(top + high) * lanes + lane]), f32(x[(bottom + high) * lanes + lane]), v);
  var to = (row * params.outW + first) * lanes + lane;
  for (var ox = first; ox < min(first + COLUMNS, params.outW); ox++) {
    let at = min(u32(max(i32(params.stepW * ox) + params.offsetW, 0)), last_at);
    if (at >= (low + 1u) * params.scaleW) { // by one column at most: x is no wider
      low++;
      high = min(low + 1u, params.w - 1u);
      left = right;
      right = mix(f32(x[(top + high) * lanes + lane]), f32(x[(bottom + high) * lanes + lane]), v);
    }
    y[to] = T(mix(left, right, f32(at - low * params.scaleW) / f32(params.scaleW)));
    to += lanes;
  }
}
