// partials[u, t, k] = (sum p [y = 1], sum p [y = 0], sum [y = 1]) over rows t, t + chunks, t + 2 chunks, … of unit u,
// p = sigmoid(z), labels other than 0 and 1, and the ignored one, left out.
// One thread owns one class of one chunk, as in sums_softmax.
struct Params { units: u32, rows: u32, classes: u32, chunks: u32, block: u32, ignore: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(256)
fn sums_sigmoid(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
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
      let at = (first + row) * params.classes + k;
      let label = labels[at];
      if (label != params.ignore && label < 2u) {
        let z = logits[at];
        let e = exp(-abs(z)); // finite for every z
        let p = select(e, 1.0, z >= 0.0) / (1.0 + e);
        part += select(vec3f(0.0, p, 0.0), vec3f(p, 0.0, 1.0), label == 1u);
      }
      row += params.chunks;
    }
    total += part;
  }
  partials[3u * i] = total.x;
  partials[3u * i + 1u] = total.y;
  partials[3u * i + 2u] = total.z;
}
