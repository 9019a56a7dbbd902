// partials[split, o, kh, kw, c] as in grad_weight_vec4.wgsl, for channel counts that are not multiples of 4, on adapters on
// which every lane of a load costs as much as several multiplications: CPUs in disguise.
// Eight lanes of one subgroup own one split and, of one group, 32 output channels and 32 of the (kh, kw, c), which need no
// common tap: three input channels fill the lanes as well. A lane has 4 of the (kh, kw, c), 8 apart. For each pixel it loads
// x at its 4 and dy at 4 output channels; then dy goes round by subgroupBroadcast, so that 8 loads feed 128
// multiplications. A tap that falls outside reads element 0 and multiplies it by 0. Lanes beyond the last channel repeat
// it and store nothing. The loop over stores is there for the compiler: on lavapipe each store is a screenful of code.
enable subgroups;
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, rows_per_split: u32, splits: u32,
}
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> dy: array<T>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

fn outer(d: vec4f, v: vec4f) -> mat4x4f {
  return mat4x4f(d.x * v, d.y * v, d.z * v, d.w * v);
}

@compute @workgroup_size(8)
fn grad_weight(@builtin(subgroup_invocation_id) lane: u32, @builtin(workgroup_id) workgroup: vec3u) {
  let group_cin = params.cin / params.groups;
  let group_cout = params.cout / params.groups;
  let tiles_o = (group_cout + 31u) / 32u;
  let group = workgroup.y / tiles_o;
  let own_o = 32u * (workgroup.y % tiles_o);
  let split = workgroup.z;
  let o = group * group_cout + own_o;
  let count_o = min(32u, group_cout - own_o);
  let lane_o = o + min(4u * lane + vec4u(0u, 1u, 2u, 3u), vec4u(count_o - 1u));
  let pitch = params.kh * params.kw * group_cin;
  let own = 32u * workgroup.x + lane + vec4u(0u, 8u, 16u, 24u); // of the (kh, kw, c)
  let kernel_at = min(own, vec4u(pitch - 1u));
  let tap = kernel_at / group_cin;
  let from_h = vec4i((tap / params.kw) * params.dilation_h) - i32(params.pad_top);
  let from_w = vec4i((tap % params.kw) * params.dilation_w) - i32(params.pad_left);
  let c = vec4i(group * group_cin + kernel_at % group_cin);
  let size_h = vec4i(i32(params.height));
  let size_w = vec4i(i32(params.width));
  let begin = split * params.rows_per_split;
  let end = min(begin + params.rows_per_split, params.n * params.out_height);
  var image = begin / params.out_height;
  var oh = begin % params.out_height;
  var acc0 = mat4x4f();
  var acc1 = mat4x4f();
  var acc2 = mat4x4f();
  var acc3 = mat4x4f();
  var acc4 = mat4x4f();
  var acc5 = mat4x4f();
  var acc6 = mat4x4f();
  var acc7 = mat4x4f();
  for (var row = begin; row < end; row++) { // of n * out_height
    let ih = from_h + i32(oh * params.stride_h);
    let row_inside = (ih >= vec4i()) & (ih < size_h);
    var iw = from_w;
    var from_x = ((i32(image) * size_h + ih) * size_w + iw) * i32(params.cin) + c;
    var from_dy = row * params.out_width * params.cout + lane_o;
    for (var ow = 0u; ow < params.out_width; ow++) {
      let inside = row_inside & (iw >= vec4i()) & (iw < size_w);
      let at = select(vec4i(), from_x, inside);
      let v = select(vec4f(), vec4f(1.0), inside) * vec4f(f32(x[at.x]), f32(x[at.y]), f32(x[at.z]), f32(x[at.w]));
      let d = vec4f(f32(dy[from_dy.x]), f32(dy[from_dy.y]), f32(dy[from_dy.z]), f32(dy[from_dy.w]));
      acc0 += outer(subgroupBroadcast(d, 0u), v);
      acc1 += outer(subgroupBroadcast(d, 1u), v);
      acc2 += outer(subgroupBroadcast(d, 2u), v);
      acc3 += outer(subgroupBroadcast(d, 3u), v);
      if (count_o > 16u) {
        acc4 += outer(subgroupBroadcast(d, 4u), v);
        acc5 += outer(subgroupBroadcast(d, 5u), v);
        acc6 += outer(subgroupBroadcast(d, 6u), v);
        acc7 += outer(subgroupBroadcast(d, 7u), v);
      }
      iw += i32(params.stride_w);
      from_x += i32(params.stride_w * params.cin);
      from_dy += params.cout;
    }
    oh++;
    if (oh == params.out_height) {
      oh = 0u;
      image++;
    }
  }
  var at = (split * params.cout + o) * pitch + own;
  let stop = at.x + count_o * pitch;
  for (var i = 0u; at.x < stop; i++) {
    let quad = i / 4u;
    var four = acc0;
    if (quad == 1u) { four = acc1; }
    if (quad == 2u) { four = acc2; }
    if (quad == 3u) { four = acc3; }
    if (quad == 4u) { four = acc4; }
    if (quad == 5u) { four = acc5; }
    if (quad == 6u) { four = acc6; }
    if (quad == 7u) { four = acc7; }
    var one = four[0];
    if (i % 4u == 1u) { one = four[1]; }
    if (i % 4u == 2u) { one = four[2]; }
    if (i % 4u == 3u) { one = four[3]; }
    if (own.x < pitch) { partials[at.x] = one.x; }
    if (own.y < pitch) { partials[at.y] = one.y; }
    if (own.z < pitch) { partials[at.z] = one.z; }
    if (own.w < pitch) { partials[at.w] = one.w; }
    at += pitch;
  }
}
