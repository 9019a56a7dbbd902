// partials[u, t, k] = (sum p [y = k], sum p [y != k], sum [y = k]) over rows t, t + chunks, t + 2 chunks, … of unit u,
// p = exp(z - norm.x) norm.y, labels that are ignored or not a class left out.
// One thread owns one class of one chunk: three registers whatever the number of classes, and neighbouring threads read
// neighbouring logits. Sums run in blocks to keep the rounding small (ops/partials.ts).
struct Params { units: u32, rows: u32, classes: u32, chunks: u32, block: u32, ignore: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> norm: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(256)
fn sums_softmax(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.units * params.chunks * params.classes) { return; }
  let k = i % params.classes;
  let chunk = i / params.classes % params.chunks;
  let first = i / (params.classes * params.chunks) * params.rows;
  var total = vec3f();
  var row = chunk;
  while (row < params.rows) {
    var part = vec3f();
    for (var n = 0u; n < params.block && row < params.rows; n++) {
      let label = labels[first + row];
      if (label != params.ignore && label < params.classes) {
        let p = exp(logits[(first + row) * params.classes + k] - norm[first + row].x) * norm[first + row].y;
        part += select(vec3f(0.0, p, 0.0), vec3f(p, 0.0, 1.0), label == k);
      }
      row += params.chunks;
    }
    total += part;
  }
  partials[3u * i] = total.x;
  partials[3u * i + 1u] = total.y;
  partials[3u * i + 2u] = total.z;
}
