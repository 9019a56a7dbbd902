// partials[split, o, kh, kw, c] as in grad_weight_vec4.wgsl, for adapters on which every lane of a load costs as much as
// several multiplications: CPUs in disguise.
// Eight lanes of one subgroup own one split, one tap, 32 output and 32 input channels of one group. For each pixel every
// lane loads 4 channels of x and 4 of dy; then dy goes round by subgroupBroadcast, so that 2 loads feed 128
// multiplications. A lane keeps its 4 input channels of all 32 output channels: eight matrices, whose columns are output
// channels. Lanes beyond the last channel of a group repeat it and store nothing.
// The loop over stores is there for the compiler: on lavapipe each store is a screenful of code.
enable subgroups;
alias T = f32;
struct Params {
  n: u32, height: u32, width: u32, cin: u32, out_height: u32, out_width: u32, cout: u32,
  kh: u32, kw: u32, stride_h: u32, stride_w: u32, pad_top: u32, pad_left: u32,
  dilation_h: u32, dilation_w: u32, groups: u32, rows_per_split: u32, splits: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<T>>;
@group(0) @binding(2) var<storage, read_write> partials: array<vec4f>;
@group(0) @binding(3) var<uniform> params: Params;

// The output columns [x, y) under which tap kw reads inside the map.
fn valid_columns(kw: u32) -> vec2i {
  let stride = i32(params.stride_w);
  let lead = i32(params.pad_left) - i32(kw * params.dilation_w); // the tap reads column ow stride - lead
  let last = i32(params.width) - 1 + lead;
  return vec2i(max(0, (lead + stride - 1) / stride), select(0, min(i32(params.out_width), last / stride + 1), last >= 0));
}

fn outer(d: vec4f, v: vec4f) -> mat4x4f {
  return mat4x4f(d.x * v, d.y * v, d.z * v, d.w * v);
}

@compute @workgroup_size(8)
fn grad_weight_vec4(@builtin(subgroup_invocation_id) lane: u32, @builtin(workgroup_id) workgroup: vec3u) {
  let cin = params.cin / 4u; // in units of 4 channels, as is every index below
  let cout = params.cout / 4u;
  let group_cin = cin / params.groups;
  let group_cout = cout / params.groups;
  let tiles_c = (group_cin + 7u) / 8u;
  let tiles_o = (group_cout + 7u) / 8u;
  let tap = workgroup.x;
  let tile_o = workgroup.y / tiles_c;
  let split = workgroup.z;
  let kh = tap / params.kw;
  let kw = tap % params.kw;
  let group = tile_o / tiles_o;
  let own_c = 8u * (workgroup.y % tiles_c) + lane;
  let own_o = 8u * (tile_o % tiles_o);
  let c = min(own_c, group_cin - 1u);
  let o = group * group_cout + own_o;
  let count_o = min(8u, group_cout - own_o);
  let lane_o = o + min(lane, count_o - 1u);
  let step = params.stride_w * cin;
  let columns = valid_columns(kw);
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
    let ih = i32(oh * params.stride_h + kh * params.dilation_h) - i32(params.pad_top);
    if (ih >= 0 && ih < i32(params.height) && columns.x < columns.y) {
      let iw = u32(columns.x * i32(params.stride_w) + i32(kw * params.dilation_w) - i32(params.pad_left));
      var from_x = ((image * params.height + u32(ih)) * params.width + iw) * cin + group * group_cin + c;
      var from_dy = (row * params.out_width + u32(columns.x)) * cout + lane_o;
      for (var ow = columns.x; ow < columns.y; ow++) {
        let v = vec4f(x[from_x]);
        let d = vec4f(dy[from_dy]);
        acc0 += outer(subgroupBroadcast(d, 0u), v);
        acc1 += outer(subgroupBroadcast(d, 1u), v);
        acc2 += outer(subgroupBroadcast(d, 2u), v);
        acc3 += outer(subgroupBroadcast(d, 3u), v);
        if (count_o > 4u) {
          acc4 += outer(subgroupBroadcast(d, 4u), v);
          acc5 += outer(subgroupBroadcast(d, 5u), v);
          acc6 += outer(subgroupBroadcast(d, 6u), v);
          acc7 += outer(subgroupBroadcast(d, 7u), v);
        }
        from_x += step;
        from_dy += cout;
      }
    }
    oh++;
    if (oh == params.out_height) {
      oh = 0u;
      image++;
    }
  }
  if (own_c >= group_cin) { return; }
  let pitch = params.kh * params.kw * group_cin;
  var at = (split * params.cout + 4u * o) * pitch + tap * group_cin + c;
  let stop = at + 4u * count_o * pitch;
  for (var i = 0u; at < stop; i++) {
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
    partials[at] = one;
    at += pitch;
  }
}
