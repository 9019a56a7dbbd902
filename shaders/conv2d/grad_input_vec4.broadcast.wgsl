// dx as in grad_input_vec4.wgsl, for subgroups of at least 8 lanes: a product tiled as in forward_vec4.broadcast.wgsl. A
// workgroup of 8 lanes owns 32 consecutive pixels of one phase and 32 input channels, a lane all of the pixels and 4 of
// the channels. For each 4 output channels a lane loads four vectors of dy and four of weights; broadcasts hand dy round.
enable subgroups;
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32,
}
@group(0) @binding(0) var<storage, read> dy: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> w: array<vec4<T>>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<T>>;
@group(0) @binding(3) var<uniform> params: Params;

// Sums of 8 pixels.
struct Rows { r0: vec4f, r1: vec4f, r2: vec4f, r3: vec4f, r4: vec4f, r5: vec4f, r6: vec4f, r7: vec4f }

// acc + the product of 8 lanes' v with the columns of weights
fn multiplied(acc: Rows, v: vec4f, weights: mat4x4f) -> Rows {
  return Rows(
    acc.r0 + weights * subgroupBroadcast(v, 0u), acc.r1 + weights * subgroupBroadcast(v, 1u),
    acc.r2 + weights * subgroupBroadcast(v, 2u), acc.r3 + weights * subgroupBroadcast(v, 3u),
    acc.r4 + weights * subgroupBroadcast(v, 4u), acc.r5 + weights * subgroupBroadcast(v, 5u),
    acc.r6 + weights * subgroupBroadcast(v, 6u), acc.r7 + weights * subgroupBroadcast(v, 7u));
}

fn row(rows: Rows, i: u32) -> vec4f {
  let odd = (i & 1u) != 0u;
  let low = select(select(rows.r0, rows.r1, odd), select(rows.r2, rows.r3, odd), (i & 2u) != 0u);
  let high = select(select(rows.r4, rows.r5, odd), select(rows.r6, rows.r7, odd), (i & 2u) != 0u);
  return select(low, high, (i & 4u) != 0u);
}

// Does the tap reach one of the indices first to last (of a row or of a column), from its offset, inside of size?
fn reaches(first: u32, last: u32, offset: i32, size: u32) -> bool {
  return i32(last) + offset >= 0 && i32(first) + offset < i32(size);
}

@compute @workgroup_size(8)
fn grad_input_vec4(
  @builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32, @builtin(subgroup_invocation_id) lane: u32,
) {
  // With ih = phase_h + stride_h u, the tap kh reaches row oh = u + (phase_h + pad_top - kh dilation_h) / stride_h, or
  // none where that does not divide. Pixels of a phase are numbered by (n, u, v).
  let rows = (params.height + params.stride_h - 1u) / params.stride_h;
  let columns = (params.width + params.stride_w - 1u) / params.stride_w;
  let pixels = params.n * rows * columns;
  let pixel_tiles = (pixels + 31u) / 32u;
  let tile = id.x + id.y * groups.x;
  let pixel = 32u * (tile % pixel_tiles);
  let quads = params.cin / 4u; // in units of 4 channels, as is every index below
  let group_quads = quads / params.groups;
  let channel_tiles = params.groups * ((group_quads + 7u) / 8u);
  let channel_tile = (tile / pixel_tiles) % channel_tiles;
  let phase = (tile / pixel_tiles) / channel_tiles;
  if (phase >= params.stride_h * params.stride_w) { return; }
  let phase_h = phase / params.stride_w;
  let phase_w = phase % params.stride_w;
  let group = channel_tile / ((group_quads + 7u) / 8u);
  let group_c = 8u * (channel_tile % ((group_quads + 7u) / 8u)) + local;
  let owns = group_c < group_quads;
  // The rows and columns that the tile spans: all of them where it goes on in the next image or row.
  let last = min(pixel + 32u, pixels) - 1u;
  let span = vec2u(pixel / columns, last / columns);
  let span_u = select(vec2u(0u, rows - 1u), span % rows, span.x / rows == span.y / rows);
  let span_v = select(vec2u(0u, columns - 1u), vec2u(pixel, last) % columns, span.x == span.y);
  // This lane's four pixels.
  let at = pixel + (lane & 7u) + vec4u(0u, 8u, 16u, 24u);
  let row_at = at / columns;
  let images = row_at / rows;
  let u = row_at - images * rows;
  let v = at - row_at * columns;
  let exists = (at < vec4u(pixels)) & (phase_h + params.stride_h * u < vec4u(params.height)) &
    (phase_w + params.stride_w * v < vec4u(params.width));
  let cout = params.cout / 4u;
  let group_cout = cout / params.groups;
  let pitch = params.kh * params.kw * group_quads; // from one output channel's weights to the next one's
  var acc0 = Rows();
  var acc1 = Rows();
  var acc2 = Rows();
  var acc3 = Rows();
  for (var kh = 0u; kh < params.kh; kh++) {
    let from_h = i32(phase_h + params.pad_top) - i32(kh * params.dilation_h);
    if (from_h % i32(params.stride_h) != 0) { continue; }
    let offset_h = from_h / i32(params.stride_h);
    if (!reaches(span_u.x, span_u.y, offset_h, params.out_height)) { continue; }
    let oh = vec4i(u) + offset_h;
    let row_inside = exists & (oh >= vec4i()) & (oh < vec4i(i32(params.out_height)));
    for (var kw = 0u; kw < params.kw; kw++) {
      let from_w = i32(phase_w + params.pad_left) - i32(kw * params.dilation_w);
      if (from_w % i32(params.stride_w) != 0) { continue; }
      let offset_w = from_w / i32(params.stride_w);
      if (!reaches(span_v.x, span_v.y, offset_w, params.out_width)) { continue; }
      let ow = vec4i(v) + offset_w;
      let inside = row_inside & (ow >= vec4i()) & (ow < vec4i(i32(params.out_width)));
      var outputs = ((images * params.out_height + vec4u(oh)) * params.out_width + vec4u(ow)) * cout + group * group_cout;
      var weights = group * group_cout * 4u * pitch + (kh * params.kw + kw) * group_quads + group_c;
      for (var o = 0u; o < group_cout; o++) {
        var four = mat4x4f();
        if (owns) {
          four = mat4x4f(
            vec4f(w[weights]), vec4f(w[weights + pitch]), vec4f(w[weights + 2u * pitch]), vec4f(w[weights + 3u * pitch]));
        }
        var d0 = vec4f();
        var d1 = vec4f();
        var d2 = vec4f();
        var d3 = vec4f();
        if (inside.x) { d0 = vec4f(dy[outputs.x]); }
        if (inside.y) { d1 = vec4f(dy[outputs.y]); }
        if (inside.z) { d2 = vec4f(dy[outputs.z]); }
        if (inside.w) { d3 = vec4f(dy[outputs.w]); }
        acc0 = multiplied(acc0, d0, four);
        acc1 = multiplied(acc1, d1, four);
        acc2 = multiplied(acc2, d2, four);
        acc3 = multiplied(acc3, d3, four);
        outputs += 1u;
        weights += 4u * pitch;
      }
    }
  }
  if (!owns) { return; }
  // One store in a loop: 32 of them would be most of the kernel's code.
  let count = min(32u, pixels - pixel);
  for (var r = 0u; r < count; r++) {
    let row_of = (pixel + r) / columns;
    let ih = phase_h + params.stride_h * (row_of % rows);
    let iw = phase_w + params.stride_w * ((pixel + r) % columns);
    if (ih < params.height && iw < params.width) {
      let low = select(row(acc0, r), row(acc1, r), (r & 8u) != 0u);
      let high = select(row(acc2, r), row(acc3, r), (r & 8u) != 0u);
      let input = ((row_of / rows) * params.height + ih) * params.width + iw;
      dx[input * quads + group * group_quads + group_c] = vec4<T>(select(low, high, (r & 16u) != 0u));
    }
  }
}
