// y[i] = sum over splits of partials[split, i], in order of the splits. One thread per element.
alias T = f32;
struct Params { count: u32, splits: u32 }
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn reduce_partials(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  var acc = 0.0;
  for (var split = 0u; split < params.splits; split++) { acc += partials[split * params.count + i]; }
  y[i] = T(acc);
}
