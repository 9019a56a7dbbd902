// y[i, j] = sum over l of a[i, l] * b[l, j], all dense, k and n multiples of 4. One thread owns 4 rows and 4 columns of
// y: 8 vector loads feed 64 multiplications. Rows beyond the end repeat the last one and are not stored.
alias T = f32;
struct Params { m: u32, n: u32, k: u32 }
@group(0) @binding(0) var<storage, read> a: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<T>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<T>>;
@group(0) @binding(3) var<uniform> params: Params;

// acc + v.x w0 + v.y w1 + v.z w2 + v.w w3
fn accumulate(acc: vec4f, v: vec4f, w0: vec4f, w1: vec4f, w2: vec4f, w3: vec4f) -> vec4f {
  var sum = acc;
  sum += v.x * w0;
  sum += v.y * w1;
  sum += v.z * w2;
  sum += v.w * w3;
  return sum;
}

@compute @workgroup_size(256)
fn multiply_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 256u;
  let columns = params.n / 4u; // in units of 4, as every index below
  let i = 4u * (index / columns);
  let j = index % columns;
  if (i >= params.m) { return; }
  let steps = params.k / 4u;
  let rows = min(i + vec4u(0u, 1u, 2u, 3u), vec4u(params.m - 1u)) * steps;
  var at_b = j;
  var acc0 = vec4f();
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
  for (var l = 0u; l < steps; l++) {
    let w0 = vec4f(b[at_b]);
    let w1 = vec4f(b[at_b + columns]);
    let w2 = vec4f(b[at_b + 2u * columns]);
    let w3 = vec4f(b[at_b + 3u * columns]);
    acc0 = accumulate(acc0, vec4f(a[rows.x + l]), w0, w1, w2, w3);
    acc1 = accumulate(acc1, vec4f(a[rows.y + l]), w0, w1, w2, w3);
    acc2 = accumulate(acc2, vec4f(a[rows.z + l]), w0, w1, w2, w3);
    acc3 = accumulate(acc3, vec4f(a[rows.w + l]), w0, w1, w2, w3);
    at_b += params.n;
  }
  let at = i * columns + j;
  y[at] = vec4<T>(acc0);
  if (i + 1u < params.m) { y[at + columns] = vec4<T>(acc1); }
  if (i + 2u < params.m) { y[at + 2u * columns] = vec4<T>(acc2); }
  if (i + 3u < params.m) { y[at + 3u * columns] = vec4<T>(acc3); }
}
