// dx as in grad_input.wgsl, for subgroups of at least 8 lanes: a product tiled as in forward.broadcast.wgsl. A workgroup of
// 8 lanes owns 32 consecutive pixels of one phase and 32 input channels of a group, a lane all of the pixels and 4 of the
// channels. For each tap and output channel a lane loads dy at four pixels and its 4 weights; broadcasts hand dy round.
enable subgroups;
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32,
}
@group(0) @binding(0) var<storage, read> dy: array<T>;
@group(0) @binding(1) var<storage, read> w: array<T>;
@group(0) @binding(2) var<storage, read_write> dx: array<T>;
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

// Does the tap reach one of the indices first to last (of a row or of a column), from its offset, inside of size?
fn reaches(first: u32, last: u32, offset: i32, size: u32) -> bool {
  return i32(last) + offset >= 0 && i32(first) + offset < i32(size);
}

@compute @workgroup_size(8)
fn grad_input(
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
  let group_cin = params.cin / params.groups;
  let group_tiles = (group_cin + 31u) / 32u;
  let channel_tile = (tile / pixel_tiles) % (params.groups * group_tiles);
  let phase = (tile / pixel_tiles) / (params.groups * group_tiles);
  if (phase >= params.stride_h * params.stride_w) { return; }
  let phase_h = phase / params.stride_w;
  let phase_w = phase % params.stride_w;
  let group = channel_tile / group_tiles;
  let group_c = 32u * (channel_tile % group_tiles) + 4u * local;
  let c = min(group_c + vec4u(0u, 1u, 2u, 3u), vec4u(group_cin - 1u));
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
  let group_cout = params.cout / params.groups;
  let pitch = params.kh * params.kw * group_cin; // from one output channel's weights to the next one's
  var acc = Sums();
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
      let first =
        ((images * params.out_height + vec4u(oh)) * params.out_width + vec4u(ow)) * params.cout + group * group_cout;
      var outputs = select(vec4u(), first, inside);
      let keep = select(vec4f(), vec4f(1.0), inside);
      var weights = group * group_cout * pitch + (kh * params.kw + kw) * group_cin + c;
      for (var o = 0u; o < group_cout; o++) {
        let d = keep * vec4f(f32(dy[outputs.x]), f32(dy[outputs.y]), f32(dy[outputs.z]), f32(dy[outputs.w]));
        let four = vec4f(f32(w[weights.x]), f32(w[weights.y]), f32(w[weights.z]), f32(w[weights.w]));
        acc = added(acc, d, four);
        outputs += 1u;
        weights += pitch;
      }
    }
  }
  // Stores in a loop: each is a screenful of code on lavapipe.
  let count = min(32u, pixels - pixel);
  for (var r = 0u; r < count; r++) {
    let row_of = (pixel + r) / columns;
    let ih = phase_h + params.stride_h * (row_of % rows);
    let iw = phase_w + params.stride_w * ((pixel + r) % columns);
    if (ih < params.height && iw < params.width) {
      let four = row(acc, r);
      let at = (((row_of / rows) * params.height + ih) * params.width + iw) * params.cin + group * group_cin + group_c;
      if (group_c < group_cin) { dx[at] = T(four.x); }
      if (group_c + 1u < group_cin) { dx[at + 1u] = T(four.y); }
      if (group_c + 2u < group_cin) { dx[at + 2u] = T(four.z); }
      if (group_c + 3u < group_cin) { dx[at + 3u] = T(four.w); }
    }
  }
}
