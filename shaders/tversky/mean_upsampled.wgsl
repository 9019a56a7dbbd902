// mean[i] = (sum_k p[k] g[k], g[y] - sum_k p[k] g[k]) for pixels i of the upsampled map, p the softmax of its interpolated
// logits and g[k] = slopes[u, k, 0 if y = k else 1] less the first class's slope of false pixels; 0 where the label is
// ignored or no class. The second is summed by itself, and slopes are taken from one of them, so that differences
// of nearly equal numbers keep their digits (the CPU kernel of grad_softmax does so, too).
// One thread owns four pixels, as in norm_upsampled: a pixel moves 12 bytes in and 8 out beside what the cache holds.
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

// Four pixels of one column, one below the other, and the small-map rows and columns that they lie between.
struct Tile { lows: vec4u, v: vec4f, u: f32, first: u32, last: u32, left: u32, right: u32 }
fn tile_at(column: u32, row: u32) -> Tile {
  var tile: Tile;
  for (var j = 0u; j < 4u; j++) {
    let oy = min(row + j, params.outH - 1u);
    let v = between(oy, params.h, params.stepH, params.offsetH, params.scaleH);
    tile.lows[j] = v.low;
    tile.v[j] = v.t;
    tile.last = v.high;
  }
  let u = between(column, params.w, params.stepW, params.offsetW, params.scaleW);
  tile.first = tile.lows.x;
  tile.u = u.t;
  tile.left = u.low * params.classes;
  tile.right = u.high * params.classes;
  return tile;
}
// Their logits of one class; `map` is where the class starts in the image. A small-map row is read once for all four.
fn logits_of(tile: Tile, map: u32) -> vec4f {
  var z = vec4f();
  for (var row = tile.first; row <= tile.last; row++) {
    let at = map + row * params.w * params.classes;
    let x = mix(logits[at + tile.left], logits[at + tile.right], tile.u);
    let above = select(vec4f(), 1.0 - tile.v, tile.lows == vec4u(row));
    z += x * select(above, tile.v, tile.lows + 1u == vec4u(row));
  }
  return z;
}

@compute @workgroup_size(256)
fn mean_upsampled(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let tiles = (params.outH + 3u) / 4u;
  let strip = i / params.outW;
  let image = strip / tiles;
  if (image >= params.images) { return; }
  let column = i - strip * params.outW;
  let row = (strip - image * tiles) * 4u;
  let tile = tile_at(column, row);
  let map = image * params.h * params.w * params.classes;
  let unit = (params.first_unit + image / (params.images / params.units)) * params.classes;
  let centre = slopes[2u * unit + 1u];
  let pixel = (image * params.outH + row) * params.outW + column;
  let count = min(4u, params.outH - row);
  var label: vec4u;
  var largest: vec4f;
  var scale: vec4f; // 0 for pixels that do not count
  var own: vec4f;
  for (var j = 0u; j < count; j++) {
    let at = pixel + j * params.outW;
    label[j] = labels[at];
    largest[j] = norm[at].x;
    if (label[j] != params.ignore && label[j] < params.classes) {
      scale[j] = norm[at].y;
      own[j] = slopes[2u * (unit + label[j])] - centre;
    }
  }
  var average = vec4f();
  var above = vec4f();
  for (var k = 0u; k < params.classes; k++) {
    let p = exp(min(logits_of(tile, map + k) - largest, vec4f())) * scale;
    let g = select(vec4f(slopes[2u * (unit + k) + 1u] - centre), own, label == vec4u(k));
    average += p * g;
    above += p * (own - g);
  }
  for (var j = 0u; j < count; j++) { mean[pixel + j * params.outW] = vec2f(average[j], above[j]); }
}
