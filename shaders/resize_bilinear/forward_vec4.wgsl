// y[n, oy, ox, c] = bilinear interpolation of x at row (stepH * oy + offsetH) / scaleH and column
// (stepW * ox + offsetW) / scaleW, clamped to the map. Quotient and remainder are exact in whole numbers, so grad_axis
// finds the same weights. One thread owns four channels of one output pixel; the row's coordinate is the same for a
// workgroup.
alias T = f32;
struct Params {
  images: u32, h: u32, w: u32, channels: u32, outH: u32, outW: u32,
  stepH: u32, offsetH: i32, scaleH: u32, stepW: u32, offsetW: i32, scaleW: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>; // [images, h, w, channels / 4]
@group(0) @binding(1) var<storage, read_write> y: array<vec4<T>>; // [images, outH, outW, channels / 4]
@group(0) @binding(2) var<uniform> params: Params;

struct Between { low: u32, high: u32, t: f32 } // t is the weight of high
fn between(i: u32, size: u32, step: u32, offset: i32, scale: u32) -> Between {
  let at = min(u32(max(i32(step * i) + offset, 0)), (size - 1u) * scale);
  let low = at / scale;
  return Between(low, min(low + 1u, size - 1u), f32(at - low * scale) / f32(scale));
}

@compute @workgroup_size(64)
fn forward_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let lanes = params.channels / 4u;
  let row = id.y + id.z * groups.y;
  if (id.x >= params.outW * lanes || row >= params.images * params.outH) { return; }
  let ox = id.x / lanes;
  let lane = id.x - ox * lanes;
  let v = between(row % params.outH, params.h, params.stepH, params.offsetH, params.scaleH);
  let u = between(ox, params.w, params.stepW, params.offsetW, params.scaleW);
  let image = row / params.outH * params.h;
  let top = (image + v.low) * params.w;
  let bottom = (image + v.high) * params.w;
  let a = mix(vec4f(x[(top + u.low) * lanes + lane]), vec4f(x[(top + u.high) * lanes + lane]), u.t);
  let b = mix(vec4f(x[(bottom + u.low) * lanes + lane]), vec4f(x[(bottom + u.high) * lanes + lane]), u.t);
  y[row * params.outW * lanes + id.x] = vec4<T>(mix(a, b, v.t));
}
