// mean[i] = (sum_k p[k] g[k], g[y] - sum_k p[k] g[k]) for pixels i of the upsampled map, p the softmax of its interpolated
// logits and g[k] = slopes[u, k, 0 if y = k else 1] less the first class's slope of false pixels; 0 where the label is
// ignored or no class. The second is summed by itself, and slopes are taken from one of them, so that differences
// of nearly equal numbers keep their digits (the CPU kernel of grad_softmax does so, too).
// One thread per pixel, as in norm_upsampled: it moves 12 bytes in and 8 out beside what the cache holds.
struct Params {
  images: u32, h: u32, w: u32, classes: u32, outH: u32, outW: u32,
  stepH: u32, offsetH: i32, scaleH: u32, stepW: u32, offsetW: i32, scaleW: u32,
  units: u32, first_unit: u32, ignore: u32,
}
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [images, h, w, classes]
@group(0) @binding(1) var<storage, read> labels: array<u32>; // [images, outH, outW]
@group(0) @binding(2) var<storage, read> norm: array<vec2f>; // [images, outH, outW]
@group(0) @binding(3) var<storage, read> slopes: array<f32>; // [units, classes, 2]
@group(0) @binding(4) var<storage, read_write> mean: array<vec2f>; // [images, outH, outW]
@group(0) @binding(5) var<uniform> params: Params;

struct Between { low: u32, high: u32, t: f32 } // t is the weight of high
fn between(i: u32, size: u32, step: u32, offset: i32, scale: u32) -> Between {
  let at = min(u32(max(i32(step * i) + offset, 0)), (size - 1u) * scale);
  let low = at / scale;
  return Between(low, min(low + 1u, size - 1u), f32(at - low * scale) / f32(scale));
}

@compute @workgroup_size(256)
fn mean_upsampled(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let pixel = id.x + id.y * groups.x * 256u;
  let row = pixel / params.outW;
  let image = row / params.outH;
  if (image >= params.images) { return; }
  let label = labels[pixel];
  if (label == params.ignore || label >= params.classes) {
    mean[pixel] = vec2f();
    return;
  }
  let v = between(row - image * params.outH, params.h, params.stepH, params.offsetH, params.scaleH);
  let u = between(pixel - row * params.outW, params.w, params.stepW, params.offsetW, params.scaleW);
  let top = (image * params.h + v.low) * params.w;
  let bottom = (image * params.h + v.high) * params.w;
  let corners = vec4u(top + u.low, top + u.high, bottom + u.low, bottom + u.high) * params.classes;
  let unit = (params.first_unit + image / (params.images / params.units)) * params.classes;
  let centre = slopes[2u * unit + 1u];
  let own = slopes[2u * (unit + label)] - centre;
  let scale = norm[pixel];
  var sums = vec2f();
  for (var k = 0u; k < params.classes; k++) {
    let at = corners + k;
    let left = mix(logits[at.x], logits[at.z], v.t);
    let right = mix(logits[at.y], logits[at.w], v.t);
    let p = exp(min(mix(left, right, u.t) - scale.x, 0.0)) * scale.y;
    let g = select(slopes[2u * (unit + k) + 1u] - centre, own, k == label);
    sums += p * vec2f(g, own - g);
  }
  mean[pixel] = sums;
}
