// y as in forward_vec4.wgsl, in tiles for GPUs. A workgroup of 64 threads owns 64 consecutive pixels (the rows of a
// product) and 64 output channels of a group (its columns). For each tap it walks the input channels 16 at a time: it
// copies x at its pixels and the weights into workgroup memory, where each vector is read by 8 threads. A thread owns 8
// rows and 8 columns, the columns as two quads 8 apart: 16 reads of workgroup memory feed 256 multiplications. A tap
// that falls outside for the whole tile is skipped. Neighbouring threads read neighbouring vectors.
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, has_bias: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> wt: array<vec4<T>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<T>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<T>>;
@group(0) @binding(4) var<uniform> params: Params;

const ROWS = 64u; // of a tile
const QUADS = 16u; // of a tile's 64 columns
const STEP = 4u; // quads of the sum copied at once
var<workgroup> tile_a: array<vec4f, 256>; // [quad of the sum, row]
var<workgroup> tile_b: array<vec4f, 256>; // [term of the sum, quad of columns]

// Sums of a thread's 8 rows, 8 apart from each other.
struct Rows { r0: vec4f, r1: vec4f, r2: vec4f, r3: vec4f, r4: vec4f, r5: vec4f, r6: vec4f, r7: vec4f }

// acc + the product of rows of tile_a, from a on, with the columns of m
fn multiplied(acc: Rows, a: u32, m: mat4x4f) -> Rows {
  return Rows(
    acc.r0 + m * tile_a[a], acc.r1 + m * tile_a[a + 8u],
    acc.r2 + m * tile_a[a + 16u], acc.r3 + m * tile_a[a + 24u],
    acc.r4 + m * tile_a[a + 32u], acc.r5 + m * tile_a[a + 40u],
    acc.r6 + m * tile_a[a + 48u], acc.r7 + m * tile_a[a + 56u]);
}

fn row(rows: Rows, i: u32) -> vec4f {
  let odd = (i & 1u) != 0u;
  let low = select(select(rows.r0, rows.r1, odd), select(rows.r2, rows.r3, odd), (i & 2u) != 0u);
  let high = select(select(rows.r4, rows.r5, odd), select(rows.r6, rows.r7, odd), (i & 2u) != 0u);
  return select(low, high, (i & 4u) != 0u);
}

// The four vectors of tile_b under quad q of the sum.
fn columns_at(q: u32, own: u32) -> mat4x4f {
  let at = 4u * q * QUADS + own;
  return mat4x4f(tile_b[at], tile_b[at + QUADS], tile_b[at + 2u * QUADS], tile_b[at + 3u * QUADS]);
}

// Does the tap reach one of the indices first to last (of a row or of a column), from its offset, inside of size?
fn reaches(first: u32, last: u32, stride: u32, offset: i32, size: u32) -> bool {
  return i32(last * stride) + offset >= 0 && i32(first * stride) + offset < i32(size);
}

@compute @workgroup_size(64)
fn forward_vec4(
  @builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let pixels = params.n * params.out_height * params.out_width;
  let pixel_tiles = (pixels + 63u) / ROWS;
  let tile = id.x + id.y * groups.x;
  let pixel = ROWS * (tile % pixel_tiles);
  let quads = params.cout / 4u; // in units of 4 channels, as is every index below
  let group_quads = quads / params.groups;
  let group_tiles = (group_quads + QUADS - 1u) / QUADS;
  let group = (tile / pixel_tiles) / group_tiles;
  if (group >= params.groups) { return; }
  let first_quad = QUADS * ((tile / pixel_tiles) % group_tiles);
  // The rows and columns that the tile spans: all of them where it goes on in the next image or row.
  let last = min(pixel + ROWS, pixels) - 1u;
  let span = vec2u(pixel / params.out_width, last / params.out_width);
  let one_image = span.x / params.out_height == span.y / params.out_height;
  let span_h = select(vec2u(0u, params.out_height - 1u), span % params.out_height, one_image);
  let span_w = select(vec2u(0u, params.out_width - 1u), vec2u(pixel, last) % params.out_width, span.x == span.y);
  // Of the four pixels that this thread copies, input coordinates under the first tap. Pixels beyond the end repeat
  // the last one.
  let at = min(pixel + thread / 4u + vec4u(0u, 16u, 32u, 48u), vec4u(pixels - 1u));
  let row_at = at / params.out_width;
  let image_at = row_at / params.out_height;
  let images = vec4i(image_at * params.height);
  let rows = vec4i((row_at - image_at * params.out_height) * params.stride_h) - i32(params.pad_top);
  let columns = vec4i((at - row_at * params.out_width) * params.stride_w) - i32(params.pad_left);
  let cin = params.cin / 4u;
  let group_cin = cin / params.groups;
  // Copying: of each 16 input channels, this quad at the pixels above, and these weights of this quad of columns.
  let quad = thread % 4u;
  let copied_quad = first_quad + thread % QUADS;
  let copied_terms = thread / QUADS + vec4u(0u, 4u, 8u, 12u);
  let own_row = thread / 8u;
  let own_quad = thread % 8u;
  var acc0 = Rows();
  var acc1 = Rows();
  for (var kh = 0u; kh < params.kh; kh++) {
    let offset_h = i32(kh * params.dilation_h);
    if (!reaches(span_h.x, span_h.y, params.stride_h, offset_h - i32(params.pad_top), params.height)) { continue; }
    let ih = rows + offset_h;
    let row_inside = (ih >= vec4i()) & (ih < vec4i(i32(params.height)));
    for (var kw = 0u; kw < params.kw; kw++) {
      let offset_w = i32(kw * params.dilation_w);
      if (!reaches(span_w.x, span_w.y, params.stride_w, offset_w - i32(params.pad_left), params.width)) { continue; }
      let iw = columns + offset_w;
      let inside = row_inside & (iw >= vec4i()) & (iw < vec4i(i32(params.width)));
      let inputs = vec4u((images + ih) * i32(params.width) + iw) * cin + group * group_cin;
      let weights = (kh * params.kw + kw) * group_cin * 4u * quads + group * group_quads + copied_quad;
      for (var start = 0u; start < group_cin; start += STEP) {
        workgroupBarrier(); // what was copied before has been read
        let reads = vec4<bool>(start + quad < group_cin) & inside;
        var v0 = vec4f();
        if (reads.x) { v0 = vec4f(x[inputs.x + start + quad]); }
        tile_a[quad * ROWS + thread / 4u] = v0;
        var v1 = vec4f();
        if (reads.y) { v1 = vec4f(x[inputs.y + start + quad]); }
        tile_a[quad * ROWS + thread / 4u + 16u] = v1;
        var v2 = vec4f();
        if (reads.z) { v2 = vec4f(x[inputs.z + start + quad]); }
        tile_a[quad * ROWS + thread / 4u + 32u] = v2;
        var v3 = vec4f();
        if (reads.w) { v3 = vec4f(x[inputs.w + start + quad]); }
        tile_a[quad * ROWS + thread / 4u + 48u] = v3;
        let terms = vec4<bool>(copied_quad < group_quads) & (4u * start + copied_terms < vec4u(4u * group_cin));
        var w0 = vec4f();
        if (terms.x) { w0 = vec4f(wt[weights + (4u * start + copied_terms.x) * quads]); }
        tile_b[thread] = w0;
        var w1 = vec4f();
        if (terms.y) { w1 = vec4f(wt[weights + (4u * start + copied_terms.y) * quads]); }
        tile_b[thread + 64u] = w1;
        var w2 = vec4f();
        if (terms.z) { w2 = vec4f(wt[weights + (4u * start + copied_terms.z) * quads]); }
        tile_b[thread + 128u] = w2;
        var w3 = vec4f();
        if (terms.w) { w3 = vec4f(wt[weights + (4u * start + copied_terms.w) * quads]); }
        tile_b[thread + 192u] = w3;
        workgroupBarrier();
        for (var q = 0u; q < STEP; q++) {
          acc0 = multiplied(acc0, q * ROWS + own_row, columns_at(q, own_quad));
          acc1 = multiplied(acc1, q * ROWS + own_row, columns_at(q, own_quad + 8u));
        }
      }
    }
  }
  // Stores in a loop: written out, they would be most of the kernel's code.
  for (var i = 0u; i < 8u; i++) {
    let to = pixel + own_row + 8u * i;
    for (var half = 0u; half < 2u; half++) {
      let group_quad = first_quad + own_quad + 8u * half;
      if (to < pixels && group_quad < group_quads) {
        let o = group * group_quads + group_quad;
        var offset = vec4f();
        if (params.has_bias != 0u) { offset = vec4f(bias[o]); }
        y[to * quads + o] = vec4<T>(select(row(acc0, i), row(acc1, i), half != 0u) + offset);
      }
    }
  }
}
