// y[i] = value. One thread per element.
alias T = f32;
struct Params { count: u32, value: f32 }
@group(0) @binding(0) var<storage, read_write> y: array<T>;
@group(0) @binding(1) var<uniform> params: Params;

@compute @workgroup_size(256)
fn constant(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i < params.count) { y[i] = T(params.value); }
}
