// Adam on flat arenas, in place; decay is coupled (in the gradient), keep decoupled (on the parameter):
//   g = clip[1] dw[i] + decay w[i];  m[i] += rate1 (g - m[i]);  v[i] = beta2 v[i] + rate2 g^2
//   w[i] = keep w[i] - lr m[i] / (sqrt(v[i]) root + eps)
// lr and root carry the bias corrections. One thread per four elements: arenas are padded to multiples of 64. The holes
// are zero and stay zero, as eps > 0.
struct Params { count: u32, lr: f32, keep: f32, decay: f32, rate1: f32, beta2: f32, rate2: f32, root: f32, eps: f32 }
@group(0) @binding(0) var<storage, read> dw: array<vec4f>;
@group(0) @binding(1) var<storage, read> clip: array<f32>; // [norm, factor]
@group(0) @binding(2) var<storage, read_write> w: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(256)
fn adam(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count / 4u) { return; }
  let before = w[i];
  let g = clip[1] * dw[i] + params.decay * before;
  let mean = m[i] + params.rate1 * (g - m[i]);
  let square = params.beta2 * v[i] + params.rate2 * g * g;
  m[i] = mean;
  v[i] = square;
  w[i] = params.keep * before - params.lr * mean / (sqrt(square) * params.root + params.eps);
}
