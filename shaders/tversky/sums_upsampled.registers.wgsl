// partials[u, t, k] = (sum p [y = k], sum p [y != k], sum [y = k]) over the pixels of chunk t, a column of `span` rows of the
// upsampled map; unit u's rows are those of its images, one below the other. p = exp(z - norm.x) norm.y, z interpolates
// logits as resize_bilinear.forward does. Softmax only.
// One thread owns all classes of one chunk, as their number is a constant. It goes from one row of the small map to the
// next, and holds what the two rows have at its column in registers for the pixels between: a pixel's label and norm are
// read once. Chunks are short: one level of sums.
override CLASSES: u32 = 32u; // params.classes, at most 32
struct Params {
  images: u32, h: u32, w: u32, classes: u32, outH: u32, outW: u32,
  stepH: u32, offsetH: i32, scaleH: u32, stepW: u32, offsetW: i32, scaleW: u32,
  units: u32, chunks: u32, span: u32, block: u32, ignore: u32, softmax: u32,
}
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [images, h, w, classes]
@group(0) @binding(1) var<storage, read> labels: array<u32>; // [images, outH, outW]
@group(0) @binding(2) var<storage, read> norm: array<vec2f>; // [images, outH, outW]
@group(0) @binding(3) var<storage, read_write> partials: array<f32>; // [units, chunks, classes, 3]
@group(0) @binding(4) var<uniform> params: Params;

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
fn sums_upsampled(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.units * params.chunks) { return; }
  let unit = i / params.chunks;
  let chunk = i - unit * params.chunks;
  let rows = params.images / params.units * params.outH;
  let band = chunk / params.outW;
  let column = chunk - band * params.outW;
  let u = between(column, params.w, params.stepW, params.offsetW, params.scaleW);
  var hits: array<f32, 32>;
  var misses: array<f32, 32>;
  var counts: array<f32, 32>;
  var row = unit * rows + band * params.span; // chunks past the last band start past the rows
  let last = unit * rows + min((band + 1u) * params.span, rows);
  while (row < last) {
    let image = row / params.outH;
    let first_row = image * params.outH;
    let low = between(row - first_row, params.h, params.stepH, params.offsetH, params.scaleH).low;
    let base = i32(low * params.scaleH);
    let above = (image * params.h + low) * params.w;
    let below = (image * params.h + min(low + 1u, params.h - 1u)) * params.w;
    var top: array<f32, 32>;
    var bottom: array<f32, 32>;
    for (var k = 0u; k < CLASSES; k++) {
      top[k] = mix(logits[(above + u.low) * CLASSES + k], logits[(above + u.high) * CLASSES + k], u.t);
      bottom[k] = mix(logits[(below + u.low) * CLASSES + k], logits[(below + u.high) * CLASSES + k], u.t);
    }
    var end = first_row + params.outH;
    if (low + 1u < params.h) {
      end = min(end, first_row + first_beyond(base + i32(params.scaleH) - 1, params.stepH, params.offsetH));
    }
    end = min(end, last);
    for (; row < end; row++) {
      let pixel = row * params.outW + column;
      let label = labels[pixel];
      if (label != params.ignore && label < CLASSES) {
        let at = clamp(i32(params.stepH * (row - first_row)) + params.offsetH - base, 0, i32(params.scaleH));
        let v = f32(at) / f32(params.scaleH);
        let scale = norm[pixel];
        for (var k = 0u; k < CLASSES; k++) {
          // no rounding may put z above the largest
          let p = exp(min(mix(top[k], bottom[k], v) - scale.x, 0.0)) * scale.y;
          let hit = label == k;
          hits[k] += select(0.0, p, hit);
          misses[k] += select(p, 0.0, hit);
          counts[k] += select(0.0, 1.0, hit);
        }
      }
    }
  }
  for (var k = 0u; k < CLASSES; k++) {
    let at = 3u * (i * CLASSES + k);
    partials[at] = hits[k];
    partials[at + 1u] = misses[k];
    partials[at + 2u] = counts[k];
  }
}
