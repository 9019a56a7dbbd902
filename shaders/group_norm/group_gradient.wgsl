// The two means that dx needs, over the values of a group: slope = mean of gamma * dy * xhat and shift = mean of
// gamma * dy, from the sums per image and channel. One thread per image and channel; channels of a group agree.
struct Params { images: u32, rows: u32, channels: u32, groupSize: u32 }
@group(0) @binding(0) var<storage, read> dgammas: array<f32>; // [images, channels]
@group(0) @binding(1) var<storage, read> dbetas: array<f32>; // [images, channels]
@group(0) @binding(2) var<storage, read> gamma: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read_write> slope: array<f32>; // [images, channels]
@group(0) @binding(4) var<storage, read_write> shift: array<f32>; // [images, channels]
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(256)
fn group_gradient(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.images * params.channels) { return; }
  let first = i - i % params.groupSize;
  let c = first % params.channels;
  var product = 0.0;
  var total = 0.0;
  for (var j = 0u; j < params.groupSize; j++) {
    product += gamma[c + j] * dgammas[first + j];
    total += gamma[c + j] * dbetas[first + j];
  }
  let count = f32(params.rows) * f32(params.groupSize);
  slope[i] = product / count;
  shift[i] = total / count;
}
