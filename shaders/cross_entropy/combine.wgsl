// loss = sum_i partials[i, 0] / sum_i partials[i, 1], or 0 where nothing was counted; total = sum_i partials[i, 1].
// One workgroup; lane t adds partials t, t + 256, … in blocks, then the lanes meet in a tree: the same order every run.
struct Params { count: u32, block: u32 }
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;
@group(0) @binding(2) var<storage, read_write> total: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> lanes: array<vec2f, 256>;

@compute @workgroup_size(256)
fn combine(@builtin(local_invocation_index) t: u32) {
  var mine = vec2f();
  var i = t;
  while (i < params.count) {
    var part = vec2f();
    for (var k = 0u; k < params.block && i < params.count; k++) {
      part += vec2f(partials[2u * i], partials[2u * i + 1u]);
      i += 256u;
    }
    mine += part;
  }
  lanes[t] = mine;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half /= 2u) {
    if (t < half) { lanes[t] += lanes[t + half]; }
    workgroupBarrier();
  }
  if (t == 0u) {
    let sums = lanes[0];
    var mean = 0.0;
    if (sums.y > 0.0) { mean = sums.x / sums.y; }
    loss[0] = mean;
    total[0] = sums.y;
  }
}
