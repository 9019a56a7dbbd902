// y[o, offset + i] = x[o, i], a row of y holding `stride` elements: one operand of a concatenation put in its place.
// One thread per element of x; the bits of i32 and u32 are copied alike.
struct Params { outer: u32, run: u32, stride: u32, offset: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn copy_part_integer(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 256u;
  if (index >= params.outer * params.run) { return; }
  let o = index / params.run;
  let i = index - o * params.run;
  y[o * params.stride + params.offset + i] = x[index];
}
