// y[i, j] = sum over l of a[i a_row + l a_column] * b[l b_row + j b_column], y [m, n] dense: the strides express all four
// transpositions. One thread owns 4 rows and 4 columns of y: 8 loads feed 16 multiplications. Rows and columns beyond
// the end repeat the last one, so the inner loop tests nothing, and are not stored.
alias T = f32;
struct Params { m: u32, n: u32, k: u32, a_row: u32, a_column: u32, b_row: u32, b_column: u32 }
@group(0) @binding(0) var<storage, read> a: array<T>;
@group(0) @binding(1) var<storage, read> b: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<uniform> params: Params;

fn store(row: u32, column: u32, v: vec4f) {
  if (row >= params.m) { return; }
  let at = row * params.n + column;
  y[at] = T(v.x);
  if (column + 1u < params.n) { y[at + 1u] = T(v.y); }
  if (column + 2u < params.n) { y[at + 2u] = T(v.z); }
  if (column + 3u < params.n) { y[at + 3u] = T(v.w); }
}

@compute @workgroup_size(256)
fn multiply(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 256u;
  let tiles = (params.n + 3u) / 4u;
  let i = 4u * (index / tiles);
  let j = 4u * (index % tiles);
  if (i >= params.m) { return; }
  var at_a = min(i + vec4u(0u, 1u, 2u, 3u), vec4u(params.m - 1u)) * params.a_row;
  var at_b = min(j + vec4u(0u, 1u, 2u, 3u), vec4u(params.n - 1u)) * params.b_column;
  var acc0 = vec4f();
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
  for (var l = 0u; l < params.k; l++) {
    let v = vec4f(f32(b[at_b.x]), f32(b[at_b.y]), f32(b[at_b.z]), f32(b[at_b.w]));
    acc0 += f32(a[at_a.x]) * v;
    acc1 += f32(a[at_a.y]) * v;
    acc2 += f32(a[at_a.z]) * v;
    acc3 += f32(a[at_a.w]) * v;
    at_a += params.a_column;
    at_b += params.b_row;
  }
  store(i, j, acc0);
  store(i + 1u, j, acc1);
  store(i + 2u, j, acc2);
  store(i + 3u, j, acc3);
}
