// y[i, c] = 1 where indices[i] = c, else 0. One thread per element of y.
// i32 indices are read as u32: negative ones become larger than any class, and give a row of zeros.
struct Params { items: u32, classes: u32 }
@group(0) @binding(0) var<storage, read> indices: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 256u;
  if (index >= params.items * params.classes) { return; }
  let i = index / params.classes;
  y[index] = select(0.0, 1.0, indices[i] == index - i * params.classes);
}
