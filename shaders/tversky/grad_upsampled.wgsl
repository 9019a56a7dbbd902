// dlogits[s, k] = sum over pixels i of the upsampled map of weight(i, s) dz[i, k], where weight is the one of small-map pixel s
// in the interpolation at i (resize_bilinear.grad_axis) and, with y the pixel's label and g[k] as in mean_upsampled,
//   dz[i, k] = dy p[k] (mean.y if k = y else g[k] - mean.x)   (softmax)   or   dy p (1 - p) g[k]   (sigmoid); 0 if ignored.
// One thread owns one class of `band` small-map pixels, one below the other, and walks down the pixels that read them, row
// by row: it gathers a row, and gives the sum to the two small-map rows above and below. The six logits that a row needs
// stay in registers until the next small-map row. So a probability is computed twice, and 1 / band more at the
// ends, not four times; the inner loop reads a label, norm and mean, the same ones for all classes.
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

@compute @workgroup_size(256)
fn grad_upsampled(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let bands = (params.h + params.band - 1u) / params.band;
  let k = i % params.classes;
  let s = i / params.classes % params.w;
  let item = i / (params.classes * params.w);
  let image = item / bands;
  if (image >= params.images) { return; }
  let softmax = params.softmax == 1u;
  let unit = (params.first_unit + image / (params.images / params.units)) * params.classes;
  let centre = select(0.0, slopes[2u * unit + 1u], softmax);
  let hit = slopes[2u * (unit + k)];
  let miss = slopes[2u * (unit + k) + 1u] - centre;
  let limit = select(2u, params.classes, softmax);

  // Clamped ends: the first small-map pixel takes all that lies before it, the last all that lies behind.
  let first_row = (item - image * bands) * params.band;
  let last_row = min(first_row + params.band, params.h); // past the band
  let scale_h = i32(params.scaleH);
  var row = 0u;
  var end_row = params.outH;
  if (first_row > 0u) { row = first_beyond(i32(first_row - 1u) * scale_h, params.stepH, params.offsetH); }
  if (last_row < params.h) {
    end_row = min(end_row, first_beyond(i32(last_row) * scale_h - 1, params.stepH, params.offsetH));
  }
  let scale_w = i32(params.scaleW);
  let target_at = i32(s) * scale_w;
  let end_at = i32(params.w - 1u) * scale_w;
  var start = 0u;
  var end = params.outW;
  if (s > 0u) { start = first_beyond(target_at - scale_w, params.stepW, params.offsetW); }
  if (s + 1u < params.w) { end = min(end, first_beyond(target_at + scale_w - 1, params.stepW, params.offsetW)); }
  let columns = vec3u(max(s, 1u) - 1u, s, min(s + 1u, params.w - 1u)) * params.classes + k;
  let row_size = params.w * params.classes;
  let map = image * params.h * row_size;

  var held = 0xffffffffu; // the small-map row above the pixels
  var upper = vec3f(); // its logits to the left, here, and to the right
  var lower = vec3f();
  var sum = 0.0; // the gradient of that row, and of the next one
  var next = 0.0;
  for (; row < end_row; row++) {
    let at = clamp(i32(params.stepH * row) + params.offsetH, 0, i32(params.h - 1u) * scale_h);
    let low = u32(at / scale_h);
    if (low != held) {
      if (held != 0xffffffffu) {
        if (held >= first_row) { dlogits[map + held * row_size + columns.y] = sum; }
        sum = next;
        next = 0.0;
      }
      held = low;
      let above = map + low * row_size + columns;
      let below = map + min(low + 1u, params.h - 1u) * row_size + columns;
      upper = vec3f(logits[above.x], logits[above.y], logits[above.z]);
      lower = vec3f(logits[below.x], logits[below.y], logits[below.z]);
    }
    let v = f32(at - i32(low) * scale_h) / f32(scale_h);
    let z3 = mix(upper, lower, vec3f(v));
    let pixels = (image * params.outH + row) * params.outW;
    var across = 0.0;
    for (var column = start; column < end; column++) {
      let pixel = pixels + column;
      let label = labels[select(pixel * params.classes + k, pixel, softmax)];
      if (label == params.ignore || label >= limit) { continue; }
      let away = clamp(i32(params.stepW * column) + params.offsetW, 0, end_at) - target_at;
      let u = f32(abs(away)) / f32(scale_w);
      let z = mix(z3.y, select(z3.z, z3.x, away < 0), u);
      var dz: f32;
      if (softmax) {
        let scale = norm[pixel];
        let average = mean[pixel];
        dz = exp(min(z - scale.x, 0.0)) * scale.y * select(miss - average.x, average.y, label == k);
      } else {
        let e = exp(-abs(z)); // p (1 - p) = e / (1 + e)^2 for either sign
        dz = e / ((1.0 + e) * (1.0 + e)) * select(miss, hit, label == 1u);
      }
      across += (1.0 - u) * dz;
    }
    across *= dy[0];
    sum += (1.0 - v) * across;
    next += v * across;
  }
  dlogits[map + held * row_size + columns.y] = sum;
}
