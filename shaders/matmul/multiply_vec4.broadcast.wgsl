// y[i, j] = sum over l of a[i, l] * b[l, j], all dense, k and n multiples of 4. For subgroups of at least 8 lanes.
// A workgroup of 8 lanes owns 32 rows and 32 columns of y, a lane all of the rows and 4 of the columns. For each 4 steps
// of l a lane loads four rows of a, 8 apart from each other, and four vectors of b; broadcasts hand the rows of a round.
// So nothing is loaded twice by a workgroup, which is what counts where a load costs as much as 30 multiplications:
// software adapters load for one lane after the other.
enable subgroups;
alias T = f32;
struct Params { m: u32, n: u32, k: u32 }
@group(0) @binding(0) var<storage, read> a: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<T>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<T>>;
@group(0) @binding(3) var<uniform> params: Params;

// Sums of 8 successive rows.
struct Rows { r0: vec4f, r1: vec4f, r2: vec4f, r3: vec4f, r4: vec4f, r5: vec4f, r6: vec4f, r7: vec4f }

// acc + the product of 8 lanes' v with the columns of w
fn multiplied(acc: Rows, v: vec4f, w: mat4x4f) -> Rows {
  return Rows(
    acc.r0 + w * subgroupBroadcast(v, 0u), acc.r1 + w * subgroupBroadcast(v, 1u),
    acc.r2 + w * subgroupBroadcast(v, 2u), acc.r3 + w * subgroupBroadcast(v, 3u),
    acc.r4 + w * subgroupBroadcast(v, 4u), acc.r5 + w * subgroupBroadcast(v, 5u),
    acc.r6 + w * subgroupBroadcast(v, 6u), acc.r7 + w * subgroupBroadcast(v, 7u));
}

fn row(rows: Rows, i: u32) -> vec4f {
  let odd = (i & 1u) != 0u;
  let low = select(select(rows.r0, rows.r1, odd), select(rows.r2, rows.r3, odd), (i & 2u) != 0u);
  let high = select(select(rows.r4, rows.r5, odd), select(rows.r6, rows.r7, odd), (i & 2u) != 0u);
  return select(low, high, (i & 4u) != 0u);
}

@compute @workgroup_size(8)
fn multiply_vec4(
  @builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32, @builtin(subgroup_invocation_id) lane: u32,
) {
  let row_tiles = (params.m + 31u) / 32u;
  let tile = id.x + id.y * groups.x;
  let columns = params.n / 4u; // in units of 4, as every index below
  let i = 32u * (tile % row_tiles);
  let j = 8u * (tile / row_tiles) + local;
  if (8u * (tile / row_tiles) >= columns) { return; }
  let steps = params.k / 4u;
  // Rows and columns beyond the end repeat the last one, and are not stored.
  let rows = min(i + (lane & 7u) + vec4u(0u, 8u, 16u, 24u), vec4u(params.m - 1u)) * steps;
  var at_b = min(j, columns - 1u);
  var acc0 = Rows();
  var acc1 = Rows();
  var acc2 = Rows();
  var acc3 = Rows();
  for (var l = 0u; l < steps; l++) {
    let w = mat4x4f(
      vec4f(b[at_b]), vec4f(b[at_b + columns]), vec4f(b[at_b + 2u * columns]), vec4f(b[at_b + 3u * columns]));
    acc0 = multiplied(acc0, vec4f(a[rows.x + l]), w);
    acc1 = multiplied(acc1, vec4f(a[rows.y + l]), w);
    acc2 = multiplied(acc2, vec4f(a[rows.z + l]), w);
    acc3 = multiplied(acc3, vec4f(a[rows.w + l]), w);
    at_b += params.n;
  }
  if (j >= columns) { return; }
  // One store in a loop: 32 of them would be most of the kernel's code.
  let count = min(32u, params.m - i);
  for (var r = 0u; r < count; r++) {
    let low = select(row(acc0, r), row(acc1, r), (r & 8u) != 0u);
    let high = select(row(acc2, r), row(acc3, r), (r & 8u) != 0u);
    y[(i + r) * columns + j] = vec4<T>(select(low, high, (r & 16u) != 0u));
  }
}
