// partials[u, t, k] = (sum p [y = k], sum p [y != k], sum [y = k]) over the pixels of chunk t, a column of `span` rows of the
// upsampled map; unit u's rows are those of its images, one below the other. p = exp(z - norm.x) norm.y or (softmax 0)
// sigmoid(z), which has labels 0 and 1 of its own; z interpolates logits as resize_bilinear.forward does.
// One thread owns one class of one chunk. It keeps the four logits around its pixel in registers and loads them anew
// where the pixels pass on to other rows of the small map; columns have one position across. Neighbours read neighbouring
// logits and the same norm. Sums run in blocks to keep the rounding small (ops/partials.ts).
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

@compute @workgroup_size(256)
fn sums_upsampled(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.units * params.chunks * params.classes) { return; }
  let softmax = params.softmax == 1u;
  let k = i % params.classes;
  let chunk = i / params.classes % params.chunks;
  let rows = params.images / params.units * params.outH;
  let first = i / (params.classes * params.chunks) * rows;
  let band = chunk / params.outW;
  let column = chunk - band * params.outW;
  let u = between(column, params.w, params.stepW, params.offsetW, params.scaleW);
  let limit = select(2u, params.classes, softmax);
  let true_label = select(1u, k, softmax);
  var corners = vec4f();
  var held = 0xffffffffu; // the small-map row that the corners lie below
  var total = vec3f();
  var row = first + band * params.span; // chunks past the last band start past the rows
  let end = first + min((band + 1u) * params.span, rows);
  while (row < end) {
    var part = vec3f();
    for (var n = 0u; n < params.block && row < end; n++) {
      let pixel = row * params.outW + column;
      let label = labels[select(pixel * params.classes + k, pixel, softmax)];
      if (label != params.ignore && label < limit) {
        let image = row / params.outH;
        let v = between(row - image * params.outH, params.h, params.stepH, params.offsetH, params.scaleH);
        let top = (image * params.h + v.low) * params.w;
        if (top != held) {
          let bottom = (image * params.h + v.high) * params.w;
          let at = vec4u(top + u.low, top + u.high, bottom + u.low, bottom + u.high) * params.classes + k;
          corners = vec4f(logits[at.x], logits[at.y], logits[at.z], logits[at.w]);
          held = top;
        }
        let sides = mix(corners.xy, corners.zw, vec2f(v.t));
        let z = mix(sides.x, sides.y, u.t);
        var p: f32;
        if (softmax) {
          let scale = norm[pixel];
          p = exp(min(z - scale.x, 0.0)) * scale.y; // no rounding may put z above the largest
        } else {
          let e = exp(-abs(z)); // finite for every z
          p = select(e, 1.0, z >= 0.0) / (1.0 + e);
        }
        part += select(vec3f(0.0, p, 0.0), vec3f(p, 0.0, 1.0), label == true_label);
      }
      row++;
    }
    total += part;
  }
  partials[3u * i] = total.x;
  partials[3u * i + 1u] = total.y;
  partials[3u * i + 2u] = total.z;
}
