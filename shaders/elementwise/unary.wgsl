// y[i] = f(x[i]); a and b are the parameters that f may have. One thread per element: bound by memory.
alias T = f32;
struct Params { count: u32, a: f32, b: f32 }
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<uniform> params: Params;

/// v^e; WGSL's pow wants v >= 0, so a whole exponent takes the sign by its parity.
fn power(v: f32, e: f32) -> f32 {
  let odd = e == trunc(e) && abs(e - 2.0 * trunc(e / 2.0)) == 1.0;
  let magnitude = pow(abs(v), e);
  return select(magnitude, -magnitude, odd && v < 0.0);
}

/// 1 / (1 + e^-v) without overflow: e is never raised to a positive power.
fn logistic(v: f32) -> f32 {
  let e = exp(-abs(v));
  return select(1.0, e, v < 0.0) / (1.0 + e);
}

/// ln(1 + e) for 0 <= e <= 1; for small e by its series, where 1 + e would round the answer away.
fn log_one_plus(e: f32) -> f32 {
  return select(log(1.0 + e), e * (1.0 - e * (0.5 - e / 3.0)), e < 0.01);
}

/// tanh by e^-2|v|, which cannot overflow; near 0 by its series, where the difference would cancel.
fn tanh_bounded(v: f32) -> f32 {
  let e = exp(-2.0 * abs(v));
  let far = sign(v) * (1.0 - e) / (1.0 + e);
  let s = v * v;
  let near = v * (1.0 - s * (1.0 / 3.0 - s * (2.0 / 15.0 - s * (17.0 / 315.0))));
  return select(far, near, abs(v) < 0.15);
}

@compute @workgroup_size(256)
fn scale(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(params.a * v);
}

@compute @workgroup_size(256)
fn add_scalar(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(v + params.a);
}

@compute @workgroup_size(256)
fn pow_scalar(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(power(v, params.a));
}

@compute @workgroup_size(256)
fn exponential(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(exp(v));
}

@compute @workgroup_size(256)
fn logarithm(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(log(v));
}

@compute @workgroup_size(256)
fn square_root(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(sqrt(v));
}

@compute @workgroup_size(256)
fn clamp_between(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(clamp(v, params.a, params.b));
}

@compute @workgroup_size(256)
fn relu(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(max(v, 0.0));
}

@compute @workgroup_size(256)
fn leaky_relu(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(select(params.a * v, v, v > 0.0));
}

@compute @workgroup_size(256)
fn sigmoid(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(logistic(v));
}

@compute @workgroup_size(256)
fn softplus(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(max(v, 0.0) + log_one_plus(exp(-abs(v))));
}

@compute @workgroup_size(256)
fn hyperbolic_tangent(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let v = f32(x[i]);
  y[i] = T(tanh_bounded(v));
}
