// y[i] += rate (w[i] - y[i]): a moving average that stays put where w = y. One thread per element, as single tensors
// (not only padded arenas) are averaged too.
struct Params { count: u32, rate: f32 }
@group(0) @binding(0) var<storage, read> w: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn ema(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i < params.count) { y[i] = y[i] + params.rate * (w[i] - y[i]); }
}
