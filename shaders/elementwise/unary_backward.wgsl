// dx[i] = dy[i] * f'(s[i]), s being what the forward pass saved: its output for square_root, relu, sigmoid and
// hyperbolic_tangent, its input for the others. One thread per element: bound by memory.
alias T = f32;
struct Params { count: u32, a: f32, b: f32 }
@group(0) @binding(0) var<storage, read> dy: array<T>;
@group(0) @binding(1) var<storage, read> s: array<T>;
@group(0) @binding(2) var<storage, read_write> dx: array<T>;
@group(0) @binding(3) var<uniform> params: Params;

/// 1 / (1 + e^-v) without overflow.
fn logistic(v: f32) -> f32 {
  let e = exp(-abs(v));
  return select(1.0, e, v < 0.0) / (1.0 + e);
}

@compute @workgroup_size(256)
fn square_root_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let g = f32(dy[i]);
  let v = f32(s[i]);
  dx[i] = T(select(0.0, 0.5 * g / v, v > 0.0));
}

@compute @workgroup_size(256)
fn clamp_between_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let g = f32(dy[i]);
  let v = f32(s[i]);
  dx[i] = T(select(0.0, g, v >= params.a && v <= params.b));
}

@compute @workgroup_size(256)
fn relu_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let g = f32(dy[i]);
  let v = f32(s[i]);
  dx[i] = T(select(0.0, g, v > 0.0));
}

@compute @workgroup_size(256)
fn leaky_relu_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let g = f32(dy[i]);
  let v = f32(s[i]);
  dx[i] = T(select(params.a * g, g, v > 0.0));
}

@compute @workgroup_size(256)
fn sigmoid_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let g = f32(dy[i]);
  let v = f32(s[i]);
  dx[i] = T(g * v * (1.0 - v));
}

@compute @workgroup_size(256)
fn softplus_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let g = f32(dy[i]);
  let v = f32(s[i]);
  dx[i] = T(g * logistic(v));
}

@compute @workgroup_size(256)
fn hyperbolic_tangent_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let g = f32(dy[i]);
  let v = f32(s[i]);
  dx[i] = T(g * (1.0 - v * v));
}
