// y[i] = value, for i32 and u32 alike: the bits are the same. One thread per element.
struct Params { count: u32, value: i32 }
@group(0) @binding(0) var<storage, read_write> y: array<i32>;
@group(0) @binding(1) var<uniform> params: Params;

@compute @workgroup_size(256)
fn integer(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i < params.count) { y[i] = params.value; }
}
