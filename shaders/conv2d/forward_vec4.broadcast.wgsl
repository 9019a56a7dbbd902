// y as in forward_vec4.wgsl, for subgroups of at least 8 lanes. A workgroup of 8 lanes owns 32 consecutive pixels and 32
// output channels, a lane all of the pixels and 4 of the channels. For each 4 input channels a lane loads four pixels, 8
// apart from each other, and four vectors of weights; broadcasts hand the pixels round. So nothing is loaded twice by a
// workgroup, which is what counts where a load costs as much as 30 multiplications: software adapters load for one lane
// after the other, which is also why a lane whose pixel or channel does not exist branches round its load.
enable subgroups;
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, has_bias: u32, has_residual: u32, relu: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> wt: array<vec4<T>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<T>>;
@group(0) @binding(3) var<storage, read> residual: array<vec4<T>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<T>>;
@group(0) @binding(5) var<uniform> params: Params;

// Sums of 8 pixels.
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

// Does the tap reach one of the indices first to last (of a row or of a column), from its offset, inside of size?
fn reaches(first: u32, last: u32, stride: u32, offset: i32, size: u32) -> bool {
  return i32(last * stride) + offset >= 0 && i32(first * stride) + offset < i32(size);
}

// Adds what follows the convolution and stores.
fn store(at: u32, sum: vec4f) {
  var v = sum;
  if (params.has_residual != 0u) { v += vec4f(residual[at]); }
  if (params.relu != 0u) { v = max(v, vec4f()); }
  y[at] = vec4<T>(v);
}

@compute @workgroup_size(8)
fn forward_vec4(
  @builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32, @builtin(subgroup_invocation_id) lane: u32,
) {
  let pixels = params.n * params.out_height * params.out_width;
  let pixel_tiles = (pixels + 31u) / 32u;
  let tile = id.x + id.y * groups.x;
  let pixel = 32u * (tile % pixel_tiles);
  let quads = params.cout / 4u; // in units of 4 channels, as is every index below
  let group_quads = quads / params.groups;
  let group_tiles = (group_quads + 7u) / 8u;
  let group = (tile / pixel_tiles) / group_tiles;
  if (group >= params.groups) { return; }
  let group_o = 8u * ((tile / pixel_tiles) % group_tiles) + local;
  let exists = group_o < group_quads;
  let o = group * group_quads + min(group_o, group_quads - 1u);
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
  let cin = params.cin / 4u;
  let group_cin = cin / params.groups;
  var acc0 = Rows();
  var acc1 = Rows();
  var acc2 = Rows();
  var acc3 = Rows();
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
      var inputs = vec4u((images + ih) * i32(params.width) + iw) * cin + group * group_cin;
      var weights = (kh * params.kw + kw) * group_cin * 4u * quads + o;
      for (var c = 0u; c < group_cin; c++) {
        var w = mat4x4f();
        if (exists) {
          w = mat4x4f(
            vec4f(wt[weights]), vec4f(wt[weights + quads]), vec4f(wt[weights + 2u * quads]),
            vec4f(wt[weights + 3u * quads]));
        }
        var v0 = vec4f();
        var v1 = vec4f();
        var v2 = vec4f();
        var v3 = vec4f();
        if (inside.x) { v0 = vec4f(x[inputs.x]); }
        if (inside.y) { v1 = vec4f(x[inputs.y]); }
        if (inside.z) { v2 = vec4f(x[inputs.z]); }
        if (inside.w) { v3 = vec4f(x[inputs.w]); }
        acc0 = multiplied(acc0, v0, w);
        acc1 = multiplied(acc1, v1, w);
        acc2 = multiplied(acc2, v2, w);
        acc3 = multiplied(acc3, v3, w);
        inputs += 1u;
        weights += 4u * quads;
      }
    }
  }
  if (!exists) { return; }
  var offset = vec4f();
  if (params.has_bias != 0u) { offset = vec4f(bias[o]); }
  // One store in a loop: 32 of them would be most of the kernel's code.
  let count = min(32u, pixels - pixel);
  for (var r = 0u; r < count; r++) {
    let low = select(row(acc0, r), row(acc1, r), (r & 8u) != 0u);
    let high = select(row(acc2, r), row(acc3, r), (r & 8u) != 0u);
    store((pixel + r) * quads + o, select(low, high, (r & 16u) != 0u) + offset);
  }
}
