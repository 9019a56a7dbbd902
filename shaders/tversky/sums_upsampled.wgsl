// partials[u, t, k] = (sum p [y = k], sum p [y != k], sum [y = k]) over the pixels of chunk t, a column of `span` rows of the
// upsampled map; unit u's rows are those of its images, one below the other. p = exp(z - norm.x) norm.y or (softmax 0)
// sigmoid(z), which has labels 0 and 1 of its own; z interpolates logits as resize_bilinear.forward does.
// One thread owns four classes of one chunk, classes / 4 apart. It goes from one row of the small map to the next and
// keeps the four corners' logits in registers for the rows of pixels between the two; a pixel's label and norm serve
// four classes. Sums run in blocks to keep the rounding small (ops/partials.ts).
struct Params {
  images: u32, h: u32, w: u32, classes: u32, outH: u32, outW: u32,
  stepH: u32, offsetH: i32, scaleH: u32, stepW: u32, offsetW: i32, scaleW: u32,
  units: u32, chunks: u32, span: u32, block: u32, ignore: u32, softmax: u32,
}
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [images, h, w, classes]
@group(0) @binding(1) var<storage, read> labels: array<u32>; // [images, outH, outW] or with classes
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

// Of four classes; those past the last one repeat it and are not used.
fn four(at: u32, k: vec4u) -> vec4f {
  let i = at + k;
  return vec4f(logits[i.x], logits[i.y], logits[i.z], logits[i.w]);
}

@compute @workgroup_size(256)
fn sums_upsampled(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = (params.classes + 3u) / 4u;
  let item = i / lanes;
  if (item >= params.units * params.chunks) { return; }
  let lane = i - item * lanes;
  let k = min(vec4u(lane, lane + lanes, lane + 2u * lanes, lane + 3u * lanes), vec4u(params.classes - 1u));
  let chunk = item % params.chunks;
  let rows = params.images / params.units * params.outH;
  let first = item / params.chunks * rows;
  let band = chunk / params.outW;
  let column = chunk - band * params.outW;
  let u = between(column, params.w, params.stepW, params.offsetW, params.scaleW);
  let left = u.low * params.classes;
  let right = u.high * params.classes;
  var hits = vec4f();
  var misses = vec4f();
  var counts = vec4f();
  var block_hits = vec4f();
  var block_misses = vec4f();
  var added = 0u;
  var row = first + band * params.span; // chunks past the last band start past the rows
  let end = first + min((band + 1u) * params.span, rows);
  while (row < end) {
    let image = row / params.outH;
    let first_row = image * params.outH;
    let v = between(row - first_row, params.h, params.stepH, params.offsetH, params.scaleH);
    let top = (image * params.h + v.low) * params.w * params.classes;
    let bottom = (image * params.h + v.high) * params.w * params.classes;
    let top_left = four(top + left, k);
    let top_right = four(top + right, k);
    let bottom_left = four(bottom + left, k);
    let bottom_right = four(bottom + right, k);
    let above = i32(v.low * params.scaleH);
    var next = first_row + params.outH;
    if (v.low + 1u < params.h) {
      next = min(next, first_row + first_beyond(above + i32(params.scaleH) - 1, params.stepH, params.offsetH));
    }
    next = min(next, end);
    for (; row < next; row++) {
      let pixel = row * params.outW + column;
      let at = clamp(i32(params.stepH * (row - first_row)) + params.offsetH, above, above + i32(params.scaleH));
      let t = min(f32(at - above) / f32(params.scaleH), select(0.0, 1.0, v.high > v.low));
      let z = mix(mix(top_left, bottom_left, t), mix(top_right, bottom_right, t), u.t);
      var p: vec4f;
      var hit: vec4<bool>;
      var counted: vec4<bool>;
      if (params.softmax == 1u) {
        let label = labels[pixel];
        let scale = norm[pixel];
        p = exp(min(z - scale.x, vec4f())) * scale.y; // no rounding may put z above the largest
        hit = vec4u(label) == k;
        counted = vec4<bool>(label != params.ignore && label < params.classes);
      } else {
        let label = vec4u(labels[pixel * params.classes + k.x], labels[pixel * params.classes + k.y],
                          labels[pixel * params.classes + k.z], labels[pixel * params.classes + k.w]);
        let e = exp(-abs(z)); // finite for every z
        p = select(e, vec4f(1.0), z >= vec4f()) / (1.0 + e);
        hit = label == vec4u(1u);
        counted = (label != vec4u(params.ignore)) & (label < vec4u(2u));
      }
      p = select(vec4f(), p, counted);
      block_hits += select(vec4f(), p, hit);
      block_misses += select(p, vec4f(), hit);
      counts += select(vec4f(), vec4f(1.0), hit & counted);
      added++;
      if (added >= params.block) {
        hits += block_hits;
        misses += block_misses;
        block_hits = vec4f();
        block_misses = vec4f();
        added = 0u;
      }
    }
  }
  hits += block_hits;
  misses += block_misses;
  for (var j = 0u; j < 4u; j++) {
    if (lane + j * lanes < params.classes) {
      let at = 3u * (item * params.classes + k[j]);
      partials[at] = hits[j];
      partials[at + 1u] = misses[j];
      partials[at + 2u] = counts[j];
    }
  }
}
