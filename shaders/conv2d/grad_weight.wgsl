// partials[split, o, kh, kw, c] as in grad_weight_vec4.wgsl, for channel counts that are not multiples of 4.
// One thread owns one split, one tap, and up to 4 output and 4 input channels of one group; the last tile of a group
// repeats its last channel instead of testing, and does not store it twice.
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

// The output columns [x, y) under which tap kw reads inside the map.
fn valid_columns(kw: u32) -> vec2i {
  let stride = i32(params.stride_w);
  let lead = i32(params.pad_left) - i32(kw * params.dilation_w); // the tap reads column ow stride - lead
  let last = i32(params.width) - 1 + lead;
  return vec2i(max(0, (lead + stride - 1) / stride), select(0, min(i32(params.out_width), last / stride + 1), last >= 0));
}

fn store(at: u32, count: u32, v: vec4f) {
  partials[at] = v.x;
  if (count > 1u) { partials[at + 1u] = v.y; }
  if (count > 2u) { partials[at + 2u] = v.z; }
  if (count > 3u) { partials[at + 3u] = v.w; }
}

@compute @workgroup_size(256)
fn grad_weight(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let group_cin = params.cin / params.groups;
  let group_cout = params.cout / params.groups;
  let tiles_c = (group_cin + 3u) / 4u;
  let tiles_o = (group_cout + 3u) / 4u;
  let taps = params.kh * params.kw;
  let c = 4u * (i % tiles_c);
  let tap = (i / tiles_c) % taps;
  let tile_o = (i / (tiles_c * taps)) % (params.groups * tiles_o);
  let split = i / (tiles_c * taps * params.groups * tiles_o);
  if (split >= params.splits) { return; }
  let kh = tap / params.kw;
  let kw = tap % params.kw;
  let group = tile_o / tiles_o;
  let group_o = 4u * (tile_o % tiles_o);
  let count_c = min(4u, group_cin - c);
  let count_o = min(4u, group_cout - group_o);
  let from_c = group * group_cin + c + min(vec4u(0u, 1u, 2u, 3u), vec4u(count_c - 1u));
  let from_o = group * group_cout + group_o + min(vec4u(0u, 1u, 2u, 3u), vec4u(count_o - 1u));
  let step = params.stride_w * params.cin;
  let columns = valid_columns(kw);
  let begin = split * params.rows_per_split;
  let end = min(begin + params.rows_per_split, params.n * params.out_height);
  var image = begin / params.out_height;
  var oh = begin % params.out_height;
  var acc0 = vec4f();
  var acc1 = vec4f();
  var acc2 = vec4f();
  var acc3 = vec4f();
  for (var row = begin; row < end; row++) { // of n * out_height
    let ih = i32(oh * params.stride_h + kh * params.dilation_h) - i32(params.pad_top);
    if (ih >= 0 && ih < i32(params.height) && columns.x < columns.y) {
      let iw = u32(columns.x * i32(params.stride_w) + i32(kw * params.dilation_w) - i32(params.pad_left));
      var at_x = ((image * params.height + u32(ih)) * params.width + iw) * params.cin + from_c;
      var at_dy = (row * params.out_width + u32(columns.x)) * params.cout + from_o;
      for (var ow = columns.x; ow < columns.y; ow++) {
        let v = vec4f(f32(x[at_x.x]), f32(x[at_x.y]), f32(x[at_x.z]), f32(x[at_x.w]));
        acc0 += f32(dy[at_dy.x]) * v;
        acc1 += f32(dy[at_dy.y]) * v;
        acc2 += f32(dy[at_dy.z]) * v;
        acc3 += f32(dy[at_dy.w]) * v;
        at_x += step;
        at_dy += params.cout;
      }
    }
    oh++;
    if (oh == params.out_height) {
      oh = 0u;
      image++;
    }
  }
  let pitch = taps * group_cin;
  let at = (split * params.cout + group * group_cout + group_o) * pitch + tap * group_cin + c;
  store(at, count_c, acc0);
  if (count_o > 1u) { store(at + pitch, count_c, acc1); }
  if (count_o > 2u) { store(at + 2u * pitch, count_c, acc2); }
  if (count_o > 3u) { store(at + 3u * pitch, count_c, acc3); }
}
