// dx[n, s, c] = sum over i of weight(i, s) * dy[n, i, c] along one axis, where output i reads at
// p(i) = clamp((step * i + offset) / scale, 0, size - 1) and weight(i, s) = max(0, 1 - |p(i) - s|). All but the last
// division is in whole numbers: the range of i with a weight is exact, and no contribution is lost to rounding.
// A resize is undone one axis after the other; one thread owns one channel of one input position.
alias T = f32;
struct Params { outer: u32, size: u32, channels: u32, outSize: u32, step: u32, offset: i32, scale: u32 }
@group(0) @binding(0) var<storage, read> dy: array<T>; // [outer, outSize, channels]
@group(0) @binding(1) var<storage, read_write> dx: array<T>; // [outer, size, channels]
@group(0) @binding(2) var<uniform> params: Params;

// The first output i >= 0 with step * i + offset > bound.
fn first_beyond(bound: i32) -> u32 {
  if (bound < params.offset) { return 0u; }
  return u32(bound - params.offset) / params.step + 1u;
}

@compute @workgroup_size(256)
fn grad_axis(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 256u;
  let lanes = params.channels;
  let item = index / lanes;
  let lane = index - item * lanes;
  let n = item / params.size;
  let s = item - n * params.size;
  if (n >= params.outer) { return; }
  let scale = i32(params.scale);
  let target_at = i32(s) * scale;
  // Clamped ends: the first pixel takes all that lies before it, the last all that lies behind.
  var start = 0u;
  var end = params.outSize;
  if (s > 0u) { start = first_beyond(target_at - scale); }
  if (s + 1u < params.size) { end = min(end, first_beyond(target_at + scale - 1)); }
  var sum = 0.0;
  var at = (n * params.outSize + start) * lanes + lane;
  for (var i = start; i < end; i++) {
    let p = clamp(i32(params.step * i) + params.offset, 0, i32(params.size - 1u) * scale);
    sum += f32(dy[at]) * f32(scale - abs(p - target_at));
    at += lanes;
  }
  dx[index] = T(sum / f32(scale));
}
