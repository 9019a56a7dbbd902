// y[j] = sum over k of x[4 (j + k lanes) .. + 4]^2: the first stage of a norm. One thread per lane, each with four
// accumulators: neighbours read neighbouring fours, and no barrier is needed. count is a multiple of 4.
struct Params { count: u32, lanes: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn square_sum(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let lane = id.x + id.y * groups.x * 256u;
  if (lane >= params.lanes) { return; }
  var sum = vec4f(0);
  for (var i = lane; i < params.count / 4u; i += params.lanes) { sum += x[i] * x[i]; }
  y[lane] = (sum.x + sum.y) + (sum.z + sum.w);
}
