// dlogits[i, k] = dy p[k] (g[k] - sum_j p[j] g[j]), p = softmax of row i from `norm`, g[k] = slopes[u, k, 0 if y = k else 1];
// 0 in ignored rows. One thread owns 8 rows, 64 apart so that neighbours read neighbouring rows. It holds one at a time
// in registers, as the number of classes is a constant, and its unit's slopes of false pixels for as long as they serve.
override CLASSES: u32 = 32u; // params.classes, at most 32
struct Params { units: u32, rows: u32, classes: u32, first_unit: u32, ignore: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> norm: array<vec2f>;
@group(0) @binding(3) var<storage, read> slopes: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

const ROWS = 8u;

@compute @workgroup_size(64)
fn grad_softmax(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32,
                @builtin(num_workgroups) groups: vec3u) {
  let begin = (group.x + group.y * groups.x) * 64u * ROWS + local;
  let end = min(begin + 64u * ROWS, params.units * params.rows);
  let seed = dy[0];
  var held = 0xffffffffu; // no unit
  var misses: array<f32, 32>;
  for (var row = begin; row < end; row += 64u) {
    let unit = 2u * (params.first_unit + row / params.rows) * CLASSES;
    if (unit != held) {
      for (var k = 0u; k < CLASSES; k++) { misses[k] = slopes[unit + 2u * k + 1u]; }
      held = unit;
    }
    let first = row * CLASSES;
    let label = labels[row];
    let counted = label != params.ignore && label < CLASSES;
    let scale = norm[row];
    let own = slopes[unit + 2u * select(0u, label, counted)];
    var p: array<f32, 32>;
    var mean = 0.0;
    for (var k = 0u; k < CLASSES; k++) {
      p[k] = select(0.0, exp(logits[first + k] - scale.x) * scale.y, counted);
      mean += p[k] * select(misses[k], own, k == label);
    }
    for (var k = 0u; k < CLASSES; k++) {
      dlogits[first + k] = seed * p[k] * (select(misses[k], own, k == label) - mean);
    }
  }
}
