// y[o, i0 … i5] = x[o, i0 stride0 + … + i5 stride5]: axes in another order. i32 and u32 alike, as bits.
// One thread per element of y, so that writes are contiguous. Axes of size 1 cost no division.
struct Params {
  outer: u32,
  size0: u32, size1: u32, size2: u32, size3: u32, size4: u32, size5: u32,
  stride0: u32, stride1: u32, stride2: u32, stride3: u32, stride4: u32, stride5: u32,
}
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

// What is left of an index, and where in x the axes taken off it so far lead.
struct Walk { rest: u32, at: u32 }

fn peel(walk: Walk, size: u32, stride: u32) -> Walk {
  if (size <= 1u) { return walk; }
  let rest = walk.rest / size;
  return Walk(rest, walk.at + (walk.rest - rest * size) * stride);
}

@compute @workgroup_size(256)
fn permute_integer(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 256u;
  let item = params.size0 * params.size1 * params.size2 * params.size3 * params.size4 * params.size5;
  if (index >= params.outer * item) { return; }
  var walk = Walk(index, 0u);
  walk = peel(walk, params.size5, params.stride5);
  walk = peel(walk, params.size4, params.stride4);
  walk = peel(walk, params.size3, params.stride3);
  walk = peel(walk, params.size2, params.stride2);
  walk = peel(walk, params.size1, params.stride1);
  walk = peel(walk, params.size0, params.stride0);
  y[index] = x[walk.rest * item + walk.at];
}
