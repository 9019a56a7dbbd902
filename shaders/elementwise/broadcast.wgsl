// y[i] = a[at(i)] op b[at'(i)]: operands repeat along axes where their stride is 0. One thread per element of y, which takes
// its row-major index apart into six axes (the host has merged axes that both operands walk alike).
alias T = f32;
struct Params {
  count: u32,
  n1: u32, n2: u32, n3: u32, n4: u32, n5: u32,
  a0: u32, a1: u32, a2: u32, a3: u32, a4: u32, a5: u32,
  b0: u32, b1: u32, b2: u32, b3: u32, b4: u32, b5: u32,
}
@group(0) @binding(0) var<storage, read> a: array<T>;
@group(0) @binding(1) var<storage, read> b: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<uniform> params: Params;

/// Positions in a and b of element i of y.
fn positions(i: u32) -> vec2u {
  let p = params;
  var rest = i;
  let i5 = rest % p.n5; rest /= p.n5;
  let i4 = rest % p.n4; rest /= p.n4;
  let i3 = rest % p.n3; rest /= p.n3;
  let i2 = rest % p.n2; rest /= p.n2;
  let i1 = rest % p.n1;
  let i0 = rest / p.n1;
  return vec2u(
    i0 * p.a0 + i1 * p.a1 + i2 * p.a2 + i3 * p.a3 + i4 * p.a4 + i5 * p.a5,
    i0 * p.b0 + i1 * p.b1 + i2 * p.b2 + i3 * p.b3 + i4 * p.b4 + i5 * p.b5,
  );
}

@compute @workgroup_size(256)
fn add_broadcast(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let at = positions(i);
  y[i] = T(f32(a[at.x]) + f32(b[at.y]));
}

@compute @workgroup_size(256)
fn sub_broadcast(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let at = positions(i);
  y[i] = T(f32(a[at.x]) - f32(b[at.y]));
}

@compute @workgroup_size(256)
fn mul_broadcast(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let at = positions(i);
  y[i] = T(f32(a[at.x]) * f32(b[at.y]));
}

@compute @workgroup_size(256)
fn div_broadcast(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i >= params.count) { return; }
  let at = positions(i);
  y[i] = T(f32(a[at.x]) / f32(b[at.y]));
}
