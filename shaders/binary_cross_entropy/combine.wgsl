// loss = scale · sum_i partials[i]. One workgroup; lane t adds partials t, t + 256, … in blocks, then the lanes meet in a
// tree: the same order every run.
struct Params { count: u32, block: u32, scale: f32 }
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> lanes: array<f32, 256>;

@compute @workgroup_size(256)
fn combine(@builtin(local_invocation_index) t: u32) {
  var mine = 0.0;
  var i = t;
  while (i < params.count) {
    var part = 0.0;
    for (var k = 0u; k < params.block && i < params.count; k++) {
      part += partials[i];
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
  if (t == 0u) { loss[0] = params.scale * lanes[0]; }
}
