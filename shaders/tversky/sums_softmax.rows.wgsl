// partials[u, t, k] = (sum p [y = k], sum p [y != k], sum [y = k]) over the rows of chunk t of unit u, here consecutive ones;
// p = exp(z - norm.x) norm.y, labels that are ignored or not a class left out.
// One thread owns all classes of one chunk, in registers, as their number is a constant: a row's label and norm are read
// once, and memory is walked in its order. Chunks are short: one level of sums.
override CLASSES: u32 = 32u; // params.classes, at most 32
struct Params { units: u32, rows: u32, classes: u32, chunks: u32, block: u32, ignore: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> norm: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(64)
fn sums_softmax(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.units * params.chunks) { return; }
  let unit = i / params.chunks;
  let length = (params.rows + params.chunks - 1u) / params.chunks;
  let start = (i - unit * params.chunks) * length;
  let end = min(start + length, params.rows);
  var hits: array<f32, 32>;
  var misses: array<f32, 32>;
  var counts: array<f32, 32>;
  for (var n = start; n < end; n++) {
    let row = unit * params.rows + n;
    let label = labels[row];
    let counted = label != params.ignore && label < CLASSES; // no branch: it would mask every sum
    let scale = norm[row];
    let first = row * CLASSES;
    for (var k = 0u; k < CLASSES; k++) {
      let p = select(0.0, exp(logits[first + k] - scale.x) * scale.y, counted);
      let hit = counted && label == k;
      hits[k] += select(0.0, p, hit);
      misses[k] += select(p, 0.0, hit);
      counts[k] += select(0.0, 1.0, hit);
    }
  }
  for (var k = 0u; k < CLASSES; k++) {
    let at = 3u * (i * CLASSES + k);
    partials[at] = hits[k];
    partials[at + 1u] = misses[k];
    partials[at + 2u] = counts[k];
  }
}
