// norm[i] = (max_k z[i, k], 1 / sum_k exp(z[i, k] - max)) for pixels i of the upsampled map, where z interpolates logits as
// resize_bilinear.forward does. One thread owns the pixels of one column between two rows of the small map: it holds
// what these rows have there in registers, as the number of classes is a constant, and reads each logit once.
override CLASSES: u32 = 32u; // params.classes, at most 32
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

// The first pixel i >= 0 with step * i + offset > bound.
fn first_beyond(bound: i32, step: u32, offset: i32) -> u32 {
  if (bound < offset) { return 0u; }
  return u32(bound - offset) / step + 1u;
}

@compute @workgroup_size(64)
fn norm_upsampled(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  let strip = i / params.outW;
  let image = strip / params.h;
  if (image >= params.images) { return; }
  let column = i - strip * params.outW;
  let low = strip - image * params.h;
  let u = between(column, params.w, params.stepW, params.offsetW, params.scaleW);
  // Logits at the thread's column of the two small-map rows that its pixels lie between.
  var top: array<f32, 32>;
  var bottom: array<f32, 32>;
  let map = image * params.h;
  let above = (map + low) * params.w;
  let below = (map + min(low + 1u, params.h - 1u)) * params.w;
  for (var k = 0u; k < CLASSES; k++) {
    top[k] = mix(logits[(above + u.low) * CLASSES + k], logits[(above + u.high) * CLASSES + k], u.t);
    bottom[k] = mix(logits[(below + u.low) * CLASSES + k], logits[(below + u.high) * CLASSES + k], u.t);
  }
  var row = 0u;
  var end = params.outH;
  let base = i32(low * params.scaleH);
  if (low > 0u) { row = first_beyond(base - 1, params.stepH, params.offsetH); }
  if (low + 1u < params.h) {
    end = min(end, first_beyond(base + i32(params.scaleH) - 1, params.stepH, params.offsetH));
  }
  for (; row < end; row++) {
    let v = f32(clamp(i32(params.stepH * row) + params.offsetH - base, 0, i32(params.scaleH))) / f32(params.scaleH);
    // Each computed once: rounded in two ways, no logit might equal the largest, and the sum be 0.
    var z: array<f32, 32>;
    z[0] = mix(top[0], bottom[0], v);
    var largest = z[0];
    for (var k = 1u; k < CLASSES; k++) {
      z[k] = mix(top[k], bottom[k], v);
      largest = max(largest, z[k]);
    }
    var sum = 0.0;
    for (var k = 0u; k < CLASSES; k++) { sum += exp(z[k] - largest); }
    norm[(image * params.outH + row) * params.outW + column] = vec2f(largest, 1.0 / sum);
  }
}
