// partials[split, o] = sum over the split's pixels of dy[pixel, o].
// One thread owns one split and one channel; neighbouring threads read neighbouring channels. reduce_partials adds them.
alias T = f32;
struct Params { pixels: u32, cout: u32, pixels_per_split: u32, splits: u32 }
@group(0) @binding(0) var<storage, read> dy: array<T>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn grad_bias(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let split = i / params.cout;
  if (split >= params.splits) { return; }
  let begin = split * params.pixels_per_split;
  let end = min(begin + params.pixels_per_split, params.pixels);
  var at = begin * params.cout + i % params.cout;
  var acc = 0.0;
  for (var pixel = begin; pixel < end; pixel++) {
    acc += f32(dy[at]);
    at += params.cout;
  }
  partials[i] = acc;
}
