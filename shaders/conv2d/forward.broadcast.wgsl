// y as in forward.wgsl, for subgroups of at least 8 lanes. A workgroup of 8 lanes owns 32 consecutive pixels and 32 output
// channels of a group, a lane all of the pixels and 4 of the channels. For each tap and input channel a lane loads x at
// four pixels, 8 apart from each other, and its 4 weights; broadcasts hand the pixels round, so that 8 loads feed 128
// multiplications. Lanes beyond the last channel repeat it and store nothing.
enable subgroups;
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, has_bias: u32, has_residual: u32, relu: u32,
}
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> wt: array<T>;
@group(0) @binding(2) var<storage, read> bias: array<T>;
@group(0) @binding(3) var<storage, read> residual: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(5) var<uniform> params: Params;

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
fn reaches(first: u32, last: u32, stride: u32, offset: i32, size: u32) -> bool {
  return i32(last * stride) + offset >= 0 && i32(first * stride) + offset < i32(size);
}

// Adds what follows the convolution and stores.
fn store(at: u32, sum: f32) {
  var v = sum;
  if (params.has_residual != 0u) { v += f32(residual[at]); }
  if (params.relu != 0u) { v = max(v, 0.0); }
  y[at] = T(v);
}

@compute @workgroup_size(8)
fn forward(
  @builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32, @builtin(subgroup_invocation_id) lane: u32,
) {
  let pixels = params.n * params.out_height * params.out_width;
  let pixel_tiles = (pixels + 31u) / 32u;
  let tile = id.x + id.y * groups.x;
  let pixel = 32u * (tile % pixel_tiles);
  let group_cout = params.cout / params.groups;
  let group_tiles = (group_cout + 31u) / 32u;
  let group = (tile / pixel_tiles) / group_tiles;
  if (group >= params.groups) { return; }
  let group_o = 32u * ((tile / pixel_tiles) % group_tiles) + 4u * local;
  let o = group * group_cout + min(group_o + vec4u(0u, 1u, 2u, 3u), vec4u(group_cout - 1u));
  // The rows and columns that the tile spans: all of them where it goes on in the next image or row.
  let last = min(pixel + 32u, pixels) - 1u;
  let span = vec2u(pixel / params.out_width, last / params.out_width);
  let one_image = span.x / params.out_height == span.y / params.out_height;
  let span_h = select(vec2u(0u, params.out_height - 1u), span % params.out_height, one_image);
  let span_w = select(vec2u(0u, params.out_width - 1u), vec2u(pixel, last) % params.out_width, span.x == span.y);
  // Of this lane's four pixels, input coordinates under the first tap; pixels beyond the end repeat the last one.
  let at = min(pixel + (lane & 7u) + vec4u(0u, 8u, 16u, 24u), vec4u(pixels - 1u));
  let row_at = at / params.out_width;
  let image_at = row_at / params.out_height;
  let images = vec4i(image_at * params.height);
  let rows = vec4i((row_at - image_at * params.out_height) * params.stride_h) - i32(params.pad_top);
  let columns = vec4i((at - row_at * params.out_width) * params.stride_w) - i32(params.pad_left);
  let group_cin = params.cin / params.groups;
  var acc = Sums();
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
      let first = vec4u((images + ih) * i32(params.width) + iw) * params.cin + group * group_cin;
      var inputs = select(vec4u(), first, inside);
      let keep = select(vec4f(), vec4f(1.0), inside);
      var weights = (kh * params.kw + kw) * group_cin * params.cout + o;
      for (var c = 0u; c < group_cin; c++) {
        let v = keep * vec4f(f32(x[inputs.x]), f32(x[inputs.y]), f32(x[inputs.z]), f32(x[inputs.w]));
        let w = vec4f(f32(wt[weights.x]), f32(wt[weights.y]), f32(wt[weights.z]), f32(wt[weights.w]));
        acc = added(acc, v, w);
        inputs += 1u;
        weights += params.cout;
      }
    }
  }
  var offset = vec4f();
  if (params.has_bias != 0u) { offset = vec4f(f32(bias[o.x]), f32(bias[o.y]), f32(bias[o.z]), f32(bias[o.w])); }
  // Stores in a loop: each is a screenful of code on lavapipe.
  let count = min(32u, pixels - pixel);
  for (var r = 0u; r < count; r++) {
    let four = row(acc, r) + offset;
    let at = (pixel + r) * params.cout + group * group_cout + group_o;
    if (group_o < group_cout) { store(at, four.x); }
    if (group_o + 1u < group_cout) { store(at + 1u, four.y); }
    if (group_o + 2u < group_cout) { store(at + 2u, four.z); }
    if (group_o + 3u < group_cout) { store(at + 3u, four.w); }
  }
}
