// dlogits[s, k] = sum over pixels i of the upsampled map of weight(i, s) dz[i, k], where weight is the one of small-map pixel s
// in the interpolation at i (resize_bilinear.grad_axis) and, with y the pixel's label and g[k] as in mean_upsampled,
//   dz[i, k] = dy p[k] (mean.y if k = y else g[k] - mean.x)   (softmax)   or   dy p (1 - p) g[k]   (sigmoid); 0 if ignored.
// One thread owns four classes, classes / 4 apart, of `band` small-map pixels, one below the other. It walks down the pixels
// that read them, row by row: it gathers a row, and gives the sum to the two small-map rows above and below. The logits
// that a row needs stay in registers until the next small-map row. So a probability is computed twice, and 1 / band
// more at the ends, not four times; the inner loop reads a label, norm and mean for four classes.
struct Params {
  images: u32, h: u32, w: u32, classes: u32, outH: u32, outW: u32,
  stepH: u32, offsetH: i32, scaleH: u32, stepW: u32, offsetW: i32, scaleW: u32,
  units: u32, first_unit: u32, band: u32, ignore: u32, softmax: u32,
}
@group(0) @binding(0) var<storage, read> logits: array<f32>; // [images, h, w, classes]
@group(0) @binding(1) var<storage, read> labels: array<u32>; // [images, outH, outW] or with classes
@group(0) @binding(2) var<storage, read> norm: array<vec2f>; // [images, outH, outW]
@group(0) @binding(3) var<storage, read> mean: array<vec2f>; // [images, outH, outW]
@group(0) @binding(4) var<storage, read> slopes: array<f32>; // [units, classes, 2]
@group(0) @binding(5) var<storage, read> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> dlogits: array<f32>; // [images, h, w, classes]
@group(0) @binding(7) var<uniform> params: Params;

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

// The sum of one row of pixels, those from `start` on, for the small-map column at `target_at`; logits to its left, here and
// to its right.
fn gather(pixels: u32, start: u32, end: u32, target_at: i32, k: vec4u, left: vec4f, here: vec4f, right: vec4f,
          hit: vec4f, miss: vec4f) -> vec4f {
  let end_at = i32((params.w - 1u) * params.scaleW);
  var sum = vec4f();
  for (var column = start; column < end; column++) {
    let pixel = pixels + column;
    let away = clamp(i32(params.stepW * column) + params.offsetW, 0, end_at) - target_at;
    let u = f32(abs(away)) / f32(params.scaleW);
    let z = mix(here, select(right, left, away < 0), u);
    var dz: vec4f;
    if (params.softmax == 1u) {
      let label = labels[pixel];
      let scale = norm[pixel];
      let average = mean[pixel];
      let counted = label != params.ignore && label < params.classes;
      let p = exp(min(z - scale.x, vec4f())) * select(0.0, scale.y, counted);
      dz = p * select(miss - average.x, vec4f(average.y), vec4u(label) == k);
    } else {
      let label = vec4u(labels[pixel * params.classes + k.x], labels[pixel * params.classes + k.y],
                        labels[pixel * params.classes + k.z], labels[pixel * params.classes + k.w]);
      let e = exp(-abs(z)); // p (1 - p) = e / (1 + e)^2 for either sign
      let slope = select(miss, hit, label == vec4u(1u));
      dz = select(vec4f(), slope, (label != vec4u(params.ignore)) & (label < vec4u(2u))) * e / ((1.0 + e) * (1.0 + e));
    }
    sum += (1.0 - u) * dz;
  }
  return sum;
}

fn store_four(at: u32, lane: u32, lanes: u32, values: vec4f) {
  for (var j = 0u; j < 4u; j++) {
    let k = lane + j * lanes;
    if (k < params.classes) { dlogits[at + k] = values[j]; }
  }
}

@compute @workgroup_size(256)
fn grad_upsampled(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let bands = (params.h + params.band - 1u) / params.band;
  let lanes = (params.classes + 3u) / 4u;
  let lane = i % lanes;
  let s = i / lanes % params.w;
  let item = i / (lanes * params.w);
  let image = item / bands;
  if (image >= params.images) { return; }
  let k = min(vec4u(lane, lane + lanes, lane + 2u * lanes, lane + 3u * lanes), vec4u(params.classes - 1u));
  let unit = (params.first_unit + image / (params.images / params.units)) * params.classes;
  let centre = select(0.0, slopes[2u * unit + 1u], params.softmax == 1u);
  let g = 2u * (unit + k);
  let hit = vec4f(slopes[g.x], slopes[g.y], slopes[g.z], slopes[g.w]);
  let miss = vec4f(slopes[g.x + 1u], slopes[g.y + 1u], slopes[g.z + 1u], slopes[g.w + 1u]) - centre;

  // Clamped ends: the first small-map pixel takes all that lies before it, the last all that lies behind.
  let first_row = (item - image * bands) * params.band;
  let last_row = min(first_row + params.band, params.h); // past the band
  let scale_h = i32(params.scaleH);
  let scale_w = i32(params.scaleW);
  let target_at = i32(s) * scale_w;
  var start = 0u;
  var end = params.outW;
  if (s > 0u) { start = first_beyond(target_at - scale_w, params.stepW, params.offsetW); }
  if (s + 1u < params.w) { end = min(end, first_beyond(target_at + scale_w - 1, params.stepW, params.offsetW)); }
  let columns = vec3u(max(s, 1u) - 1u, s, min(s + 1u, params.w - 1u)) * params.classes;
  let row_size = params.w * params.classes;
  let map = image * params.h * row_size;

  var row = 0u;
  if (first_row > 0u) { row = first_beyond(i32(first_row - 1u) * scale_h, params.stepH, params.offsetH); }
  var sum = vec4f(); // the gradient of small-map row `low`, and of the next one
  var next = vec4f();
  for (var low = max(first_row, 1u) - 1u; low < last_row; low++) {
    let above = map + low * row_size + columns;
    let below = map + min(low + 1u, params.h - 1u) * row_size + columns;
    let top_left = four(above.x, k);
    let top_here = four(above.y, k);
    let top_right = four(above.z, k);
    let bottom_left = four(below.x, k);
    let bottom_here = four(below.y, k);
    let bottom_right = four(below.z, k);
    var end_row = params.outH;
    if (low + 1u < params.h) {
      end_row = min(end_row, first_beyond(i32(low + 1u) * scale_h - 1, params.stepH, params.offsetH));
    }
    for (; row < end_row; row++) {
      let at = clamp(i32(params.stepH * row) + params.offsetH, 0, i32(params.h - 1u) * scale_h);
      let v = f32(at - i32(low) * scale_h) / f32(scale_h);
      let across = gather((image * params.outH + row) * params.outW, start, end, target_at, k,
                          mix(top_left, bottom_left, v), mix(top_here, bottom_here, v),
                          mix(top_right, bottom_right, v), hit, miss);
      sum += (1.0 - v) * across;
      next += v * across;
    }
    if (low >= first_row) { store_four(map + low * row_size + columns.y, lane, lanes, dy[0] * sum); }
    sum = next;
    next = vec4f();
  }
}
