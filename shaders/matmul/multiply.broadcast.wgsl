// y[i, j] = sum over l of a[i a_row + l a_column] * b[l b_row + j b_column], for subgroups of at least 8 lanes: any
// transposition. A workgroup of 8 lanes owns 32 rows and 32 columns of y, a lane all of the rows and 4 of the columns. For
// each l a lane loads a at four rows, 8 apart from each other, and b at its columns; broadcasts hand the rows round, so
// that 8 loads feed 128 multiplications, and nothing is loaded twice by a workgroup. Software adapters load for one lane
// after the other: that is what counts there.
enable subgroups;
alias T = f32;
struct Params { m: u32, n: u32, k: u32, a_row: u32, a_column: u32, b_row: u32, b_column: u32 }
@group(0) @binding(0) var<storage, read> a: array<T>;
@group(0) @binding(1) var<storage, read> b: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<uniform> params: Params;

fn outer(v: vec4f, w: vec4f) -> mat4x4f {
  return mat4x4f(v.x * w, v.y * w, v.z * w, v.w * w);
}

// si: what lane i loaded, four rows, times four columns of this lane.
struct Sums { s0: mat4x4f, s1: mat4x4f, s2: mat4x4f, s3: mat4x4f, s4: mat4x4f, s5: mat4x4f, s6: mat4x4f, s7: mat4x4f }

fn added(acc: Sums, v: vec4f, w: vec4f) -> Sums {
  return Sums(
    acc.s0 + outer(subgroupBroadcast(v, 0u), w), acc.s1 + outer(subgroupBroadcast(v, 1u), w),
    acc.s2 + outer(subgroupBroadcast(v, 2u), w), acc.s3 + outer(subgroupBroadcast(v, 3u), w),
    acc.s4 + outer(subgroupBroadcast(v, 4u), w), acc.s5 + outer(subgroupBroadcast(v, 5u), w),
    acc.s6 + outer(subgroupBroadcast(v, 6u), w), acc.s7 + outer(subgroupBroadcast(v, 7u), w));
}

// Of r = lane + 8 i: column i of that lane's matrix.
fn row(sums: Sums, r: u32) -> vec4f {
  var four = sums.s0;
  let lane = r & 7u;
  if (lane == 1u) { four = sums.s1; }
  if (lane == 2u) { four = sums.s2; }
  if (lane == 3u) { four = sums.s3; }
  if (lane == 4u) { four = sums.s4; }
  if (lane == 5u) { four = sums.s5; }
  if (lane == 6u) { four = sums.s6; }
  if (lane == 7u) { four = sums.s7; }
  let odd = (r & 8u) != 0u;
  return select(select(four[0], four[1], odd), select(four[2], four[3], odd), (r & 16u) != 0u);
}

@compute @workgroup_size(8)
fn multiply(
  @builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32, @builtin(subgroup_invocation_id) lane: u32,
) {
  let row_tiles = (params.m + 31u) / 32u;
  let tile = id.x + id.y * groups.x;
  let i = 32u * (tile % row_tiles);
  let j = 32u * (tile / row_tiles) + 4u * local;
  if (32u * (tile / row_tiles) >= params.n) { return; }
  // Rows and columns beyond the end repeat the last one, and are not stored.
  var at_a = min(i + (lane & 7u) + vec4u(0u, 8u, 16u, 24u), vec4u(params.m - 1u)) * params.a_row;
  var at_b = min(j + vec4u(0u, 1u, 2u, 3u), vec4u(params.n - 1u)) * params.b_column;
  var acc = Sums();
  for (var l = 0u; l < params.k; l++) {
    let v = vec4f(f32(a[at_a.x]), f32(a[at_a.y]), f32(a[at_a.z]), f32(a[at_a.w]));
    let w = vec4f(f32(b[at_b.x]), f32(b[at_b.y]), f32(b[at_b.z]), f32(b[at_b.w]));
    acc = added(acc, v, w);
    at_a += params.a_column;
    at_b += params.b_row;
  }
  // Stores in a loop: each is a screenful of code on lavapipe.
  let count = min(32u, params.m - i);
  for (var r = 0u; r < count; r++) {
    let four = row(acc, r);
    let at = (i + r) * params.n + j;
    if (j < params.n) { y[at] = T(four.x); }
    if (j + 1u < params.n) { y[at + 1u] = T(four.y); }
    if (j + 2u < params.n) { y[at + 2u] = T(four.z); }
    if (j + 3u < params.n) { y[at + 3u] = T(four.w); }
  }
}
