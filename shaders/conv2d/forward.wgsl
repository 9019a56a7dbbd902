// y[n, oh, ow, o] as in forward_vec4.wgsl, for channel counts that are not multiples of 4 (images, class scores).
// One thread owns 4 consecutive pixels and up to 4 output channels of one group; the last tile of a group repeats its
// last channel instead of testing, and does not store it twice.
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

// Added to a row index: outside every map, whatever the tap.
const OUTSIDE = -1073741824;

// The (n, oh, ow) that follows in memory; n runs over the end after the last one.
fn next(at: vec3u) -> vec3u {
  var following = vec3u(at.x, at.y, at.z + 1u);
  if (following.z == params.out_width) { following = vec3u(at.x, at.y + 1u, 0u); }
  if (following.y == params.out_height) { following = vec3u(at.x + 1u, 0u, 0u); }
  return following;
}

// The input row under the first tap of an output pixel; outside the map where there is no such pixel.
fn first_row(at: vec3u) -> i32 {
  return select(OUTSIDE, i32(at.y * params.stride_h) - i32(params.pad_top), at.x < params.n);
}

// relu(sum + residual), where they are asked for
fn store_one(at: u32, sum: f32) {
  var v = sum;
  if (params.has_residual != 0u) { v += f32(residual[at]); }
  if (params.relu != 0u) { v = max(v, 0.0); }
  y[at] = T(v);
}

fn store(pixel: u32, o: u32, count: u32, v: vec4f) {
  let at = pixel * params.cout + o;
  store_one(at, v.x);
  if (count > 1u) { store_one(at + 1u, v.y); }
  if (count > 2u) { store_one(at + 2u, v.z); }
  if (count > 3u) { store_one(at + 3u, v.w); }
}

@compute @workgroup_size(256)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let group_cout = params.cout / params.groups;
  let group_tiles = (group_cout + 3u) / 4u;
  let tiles = params.groups * group_tiles;
  let tile = i / tiles;
  let pixel = 4u * tile; // of n * out_height * out_width
  if (pixel >= params.n * params.out_height * params.out_width) { return; }
  let row = pixel / params.out_width;
  let p0 = vec3u(row / params.out_height, row % params.out_height, pixel % params.out_width);
  let p1 = next(p0);
  let p2 = next(p1);
  let p3 = next(p2);
  // Of the four pixels, input coordinates under the first tap:
  let images = vec4i(vec4u(p0.x, p1.x, p2.x, p3.x) * params.height);
  let rows = vec4i(first_row(p0), first_row(p1), first_row(p2), first_row(p3));
  let columns = vec4i(vec4u(p0.z, p1.z, p2.z, p3.z) * params.stride_w) - i32(params.pad_left);
  let group = (i % tiles) / group_tiles;
  let group_o = 4u * (i % group_tiles);
  let o = group * group_cout + group_o;
  let count = min(4u, group_cout - group_o);
  let channels = o + min(vec4u(0u, 1u, 2u, 3u), vec4u(count - 1u));
  let group_cin = params.cin / params.groups;
  let first = group * group_cin;
  var acc0 = vec4f();
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
  for (var kh = 0u; kh < params.kh; kh++) {
    let ih = rows + i32(kh * params.dilation_h);
    let row_inside = (ih >= vec4i()) & (ih < vec4i(i32(params.height)));
    for (var kw = 0u; kw < params.kw; kw++) {
      let iw = columns + i32(kw * params.dilation_w);
      let inside = row_inside & (iw >= vec4i()) & (iw < vec4i(i32(params.width)));
      if (!any(inside)) { continue; }
      let at = select(vec4u(), (vec4u((images + ih) * i32(params.width) + iw) * params.cin) + first, inside);
      let keep = select(vec4f(), vec4f(1.0), inside);
      var weights = channels + (kh * params.kw + kw) * group_cin * params.cout;
      for (var c = 0u; c < group_cin; c++) {
        let w0 = vec4f(f32(wt[weights.x]), f32(wt[weights.y]), f32(wt[weights.z]), f32(wt[weights.w]));
        acc0 += keep.x * f32(x[at.x + c]) * w0;
        acc1 += keep.y * f32(x[at.y + c]) * w0;
        acc2 += keep.z * f32(x[at.z + c]) * w0;
        acc3 += keep.w * f32(x[at.w + c]) * w0;
        weights += params.cout;
      }
    }
  }
  var offset = vec4f();
  if (params.has_bias != 0u) {
    offset = vec4f(f32(bias[channels.x]), f32(bias[channels.y]), f32(bias[channels.z]), f32(bias[channels.w]));
  }
  store(pixel, o, count, acc0 + offset);
  if (p1.x < params.n) { store(pixel + 1u, o, count, acc1 + offset); }
  if (p2.x < params.n) { store(pixel + 2u, o, count, acc2 + offset); }
  if (p3.x < params.n) { store(pixel + 3u, o, count, acc3 + offset); }
}
