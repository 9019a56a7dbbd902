// norm[i] = (max_k z[i, k], 1 / sum_k exp(z[i, k] - max)) for pixels i of the upsampled map, where z interpolates logits as
// resize_bilinear.forward does. One thread per pixel; neighbours read the same four small-map pixels, so that the
// cache serves nearly all loads and a pixel moves but the eight bytes written.
struct Params {
  images: u32, h: u32, w: u32, classes: u32, outH: u32, outW: u32,
  stepH: u32, offsetH: i32, scaleH: u32, stepW: u32, offsetW: i32, scaleW: u32,
}
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [images, h, w, classes]
@group(0) @binding(1) var<storage, read_write> norm: array<vec2f>; // [images, outH, outW]
@group(0) @binding(2) var<uniform> params: Params;

struct Between { low: u32, high: u32, t: f32 } // t is the weight of high
fn between(i: u32, size: u32, step: u32, offset: i32, scale: u32) -> Between {
  let at = min(u32(max(i32(step * i) + offset, 0)), (size - 1u) * scale);
  let low = at / scale;
  return Between(low, min(low + 1u, size - 1u), f32(at - low * scale) / f32(scale));
}

@compute @workgroup_size(256)
fn norm_upsampled(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let pixel = id.x + id.y * groups.x * 256u;
  let row = pixel / params.outW;
  let image = row / params.outH;
  if (image >= params.images) { return; }
  let v = between(row - image * params.outH, params.h, params.stepH, params.offsetH, params.scaleH);
  let u = between(pixel - row * params.outW, params.w, params.stepW, params.offsetW, params.scaleW);
  let top = (image * params.h + v.low) * params.w;
  let bottom = (image * params.h + v.high) * params.w;
  let corners = vec4u(top + u.low, top + u.high, bottom + u.low, bottom + u.high) * params.classes;
  var largest = -3.4e38;
  for (var k = 0u; k < params.classes; k++) {
    let at = corners + k;
    let left = mix(logits[at.x], logits[at.z], v.t);
    let right = mix(logits[at.y], logits[at.w], v.t);
    largest = max(largest, mix(left, right, u.t));
  }
  var sum = 0.0;
  for (var k = 0u; k < params.classes; k++) {
    let at = corners + k;
    let left = mix(logits[at.x], logits[at.z], v.t);
    let right = mix(logits[at.y], logits[at.w], v.t);
    sum += exp(mix(left, right, u.t) - largest);
  }
  norm[pixel] = vec2f(largest, 1.0 / sum);
}
