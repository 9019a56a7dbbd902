// Momentum SGD on flat arenas, in place:
//   g = clip[1] dw[i] + decay w[i];  m[i] = momentum m[i] + g;  w[i] -= lr (nesterov ? g + momentum m[i] : m[i])
// One thread per four elements: arenas are padded to multiples of 64. The holes are zero and stay zero.
struct Params { count: u32, lr: f32, momentum: f32, decay: f32, nesterov: u32 }
@group(0) @binding(0) var<storage, read> dw: array<vec4f>;
@group(0) @binding(1) var<storage, read> clip: array<f32>; // [norm, factor]
@group(0) @binding(2) var<storage, read_write> w: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(256)
fn sgd(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count / 4u) { return; }
  let before = w[i];
  let g = clip[1] * dw[i] + params.decay * before;
  let momentum = params.momentum * m[i] + g;
  m[i] = momentum;
  w[i] = before - params.lr * select(momentum, g + params.momentum * momentum, params.nesterov == 1u);
}
