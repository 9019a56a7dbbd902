// dx[n, s, c] = sum over i of weight(i, s) * dy[n, i, c] along one axis, as in grad_axis.
// One thread owns one channel of 16 input positions, one after the other: it walks through the outputs that read them and
// gives each to the two positions that it lies between, so that dy is read once, and 1 / 16 more at the ends.
alias T = f32;
struct Params { outer: u32, size: u32, channels: u32, outSize: u32, step: u32, offset: i32, scale: u32 }
@group(0) @binding(0) var<storage, read> dy: array<T>; // [outer, outSize, channels]
@group(0) @binding(1) var<storage, read_write> dx: array<T>; // [outer, size, channels]
@group(0) @binding(2) var<uniform> params: Params;

const POSITIONS = 16u;

// The first output i >= 0 with step * i + offset > bound.
fn first_beyond(bound: i32) -> u32 {
  if (bound < params.offset) { return 0u; }
  return u32(bound - params.offset) / params.step + 1u;
}

@compute @workgroup_size(64)
fn grad_axis(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  let lanes = params.channels;
  let walks = (params.size + POSITIONS - 1u) / POSITIONS;
  let item = index / lanes;
  let lane = index - item * lanes;
  let n = item / walks;
  if (n >= params.outer) { return; }
  let first = (item - n * walks) * POSITIONS;
  let end = min(first + POSITIONS, params.size);
  let scale = i32(params.scale);
  let last_at = i32(params.size - 1u) * scale;
  let unit = 1.0 / f32(params.scale);

  // Outputs from before the first position on; those at or before position 0 are clamped to it.
  var i = 0u;
  if (first > 0u) { i = first_beyond(i32(first - 1u) * scale); }
  var from_dy = (n * params.outSize + i) * lanes + lane;
  var sum = f32(); // of position `low`, and of the next one
  var next = f32();
  for (var low = max(first, 1u) - 1u; low < end; low++) {
    let low_at = i32(low) * scale;
    while (i < params.outSize) {
      let at = clamp(i32(params.step * i) + params.offset, 0, last_at) - low_at;
      if (at >= scale) { break; }
      let g = f32(dy[from_dy]);
      sum += g * f32(scale - at);
      next += g * f32(at);
      i++;
      from_dy += lanes;
    }
    if (low >= first) { dx[(n * params.size + low) * lanes + lane] = T(sum * unit); }
    sum = next;
    next = f32();
  }
}
