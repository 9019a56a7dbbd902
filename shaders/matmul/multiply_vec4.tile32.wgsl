// y[i, j] = sum over l of a[i, l] * b[l, j], all dense, k and n multiples of 4, in tiles for GPUs. A workgroup of 64
// threads owns 32 rows and 32 columns of y and walks l 16 steps at a time: it copies a and b of these into workgroup
// memory, where each vector is read by 8 threads. A thread owns 4 rows and 4 columns: 8 reads of workgroup memory feed
// 64 multiplications. Neighbouring threads read neighbouring vectors.
alias T = f32;
struct Params { m: u32, n: u32, k: u32 }
@group(0) @binding(0) var<storage, read> a: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<T>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<T>>;
@group(0) @binding(3) var<uniform> params: Params;

const ROWS = 32u; // of a tile
const QUADS = 8u; // of a tile's 32 columns
const STEP = 4u; // quads of the sum copied at once
var<workgroup> tile_a: array<vec4f, 128>; // [quad of the sum, row]
var<workgroup> tile_b: array<vec4f, 128>; // [term of the sum, quad of columns]

// Sums of a thread's 4 rows, 8 apart from each other.
struct Rows { r0: vec4f, r1: vec4f, r2: vec4f, r3: vec4f }

// acc + the product of rows of tile_a, from start on, with the columns of m
fn multiplied(acc: Rows, start: u32, m: mat4x4f) -> Rows {
  return Rows(
    acc.r0 + m * tile_a[start], acc.r1 + m * tile_a[start + 8u],
    acc.r2 + m * tile_a[start + 16u], acc.r3 + m * tile_a[start + 24u]);
}

fn row(rows: Rows, i: u32) -> vec4f {
  let odd = (i & 1u) != 0u;
  return select(select(rows.r0, rows.r1, odd), select(rows.r2, rows.r3, odd), (i & 2u) != 0u);
}

// The four vectors of tile_b under quad q of the sum.
fn columns_at(q: u32, own: u32) -> mat4x4f {
  let at = 4u * q * QUADS + own;
  return mat4x4f(tile_b[at], tile_b[at + QUADS], tile_b[at + 2u * QUADS], tile_b[at + 3u * QUADS]);
}

@compute @workgroup_size(64)
fn multiply_vec4(
  @builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let row_tiles = (params.m + ROWS - 1u) / ROWS;
  let tile = id.x + id.y * groups.x;
  let columns = params.n / 4u; // in units of 4, as every index below
  let steps = params.k / 4u;
  let first_row = ROWS * (tile % row_tiles);
  let first_quad = QUADS * (tile / row_tiles);
  if (first_quad >= columns) { return; }
  let quad = thread % 4u; // copying: of the 16 steps
  let copied_rows = first_row + thread / 4u + vec2u(0u, 16u);
  let copied_quad = first_quad + thread % QUADS;
  let copied_terms = thread / QUADS + vec2u(0u, 8u);
  let own_row = thread / 8u;
  let own_quad = thread % 8u;
  var acc0 = Rows();
  for (var start = 0u; start < steps; start += STEP) {
    workgroupBarrier(); // what was copied before has been read
    let reads = vec2<bool>(start + quad < steps) & (copied_rows < vec2u(params.m));
    var v0 = vec4f();
    if (reads.x) { v0 = vec4f(a[copied_rows.x * steps + start + quad]); }
    tile_a[quad * ROWS + thread / 4u] = v0;
    var v1 = vec4f();
    if (reads.y) { v1 = vec4f(a[copied_rows.y * steps + start + quad]); }
    tile_a[quad * ROWS + thread / 4u + 16u] = v1;
    let terms = vec2<bool>(copied_quad < columns) & (4u * start + copied_terms < vec2u(params.k));
    var w0 = vec4f();
    if (terms.x) { w0 = vec4f(b[(4u * start + copied_terms.x) * columns + copied_quad]); }
    tile_b[thread] = w0;
    var w1 = vec4f();
    if (terms.y) { w1 = vec4f(b[(4u * start + copied_terms.y) * columns + copied_quad]); }
    tile_b[thread + 64u] = w1;
    workgroupBarrier();
    for (var q = 0u; q < STEP; q++) {
      acc0 = multiplied(acc0, q * ROWS + own_row, columns_at(q, own_quad));
    }
  }
  // Stores in a loop: written out, they would be most of the kernel's code.
  let to_quad = first_quad + own_quad;
  for (var i = 0u; i < 4u; i++) {
    let to = first_row + own_row + 8u * i;
    if (to < params.m && to_quad < columns) { y[to * columns + to_quad] = vec4<T>(row(acc0, i)); }
  }
}
