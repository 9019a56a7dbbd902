// partials[split, o, kh, kw, c] as in grad_weight_vec4.wgsl, in tiles for GPUs.
// A workgroup owns one split, one tap, 64 output and 64 input channels of one group, and walks the pixels for which its tap
// reads inside the map, 16 at a time: it copies x and dy of these into workgroup memory, where each value is read by eight
// threads. A thread owns 8 x 8 channels, as quads 8 apart, so that neighbours read neighbouring banks: 4 reads of
// workgroup memory feed 64 multiplications. It copies for one pixel of each 16, whose place it moves on without divisions.
// Channels beyond the last of a group repeat it and are not stored.
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

const PIXELS = 16u;
const QUADS = 16u; // of 64 channels
var<workgroup> tile_x: array<vec4f, 256>; // [pixel, quad]
var<workgroup> tile_dy: array<vec4f, 256>;

// The output rows or columns [x, y) under which a tap reads inside the map; the tap of output i reads i stride - lead.
fn valid(stride: u32, lead: i32, inputs: u32, outputs: u32) -> vec2i {
  let step = i32(stride);
  let last = i32(inputs) - 1 + lead;
  let first = max(0, (lead + step - 1) / step);
  return vec2i(first, max(first, select(0, min(i32(outputs), last / step + 1), last >= 0)));
}

// How many of the valid rows, `count` from `first` on in each image, lie before a row of n * out_height.
fn rows_before(row: u32, first: i32, count: u32) -> u32 {
  let oh = i32(row % params.out_height);
  return (row / params.out_height) * count + u32(clamp(oh - first, 0, i32(count)));
}

fn outer(d: vec4f, v: vec4f) -> mat4x4f {
  return mat4x4f(d.x * v, d.y * v, d.z * v, d.w * v);
}

fn store(at: u32, pitch: u32, m: mat4x4f) {
  partials[at] = m[0];
  partials[at + pitch] = m[1];
  partials[at + 2u * pitch] = m[2];
  partials[at + 3u * pitch] = m[3];
}

@compute @workgroup_size(64)
fn grad_weight_vec4(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) workgroup: vec3u) {
  let cin = params.cin / 4u; // in units of 4 channels, as is every index below
  let cout = params.cout / 4u;
  let group_cin = cin / params.groups;
  let group_cout = cout / params.groups;
  let tiles_c = (group_cin + QUADS - 1u) / QUADS;
  let tiles_o = (group_cout + QUADS - 1u) / QUADS;
  let tap = workgroup.x;
  let split = workgroup.z;
  let group = workgroup.y / (tiles_c * tiles_o);
  let tile_o = QUADS * ((workgroup.y / tiles_c) % tiles_o);
  let tile_c = QUADS * (workgroup.y % tiles_c);
  let lead_h = i32(params.pad_top) - i32((tap / params.kw) * params.dilation_h);
  let lead_w = i32(params.pad_left) - i32((tap % params.kw) * params.dilation_w);
  let rows = valid(params.stride_h, lead_h, params.height, params.out_height);
  let columns = valid(params.stride_w, lead_w, params.width, params.out_width);
  let row_count = u32(rows.y - rows.x);
  let column_count = u32(columns.y - columns.x);
  let all_rows = params.n * params.out_height;
  let begin = split * params.rows_per_split;
  let first_row = rows_before(min(begin, all_rows), rows.x, row_count);
  let end_row = rows_before(min(begin + params.rows_per_split, all_rows), rows.x, row_count);
  let pixels = (end_row - first_row) * column_count;

  // Copying: this thread's pixel of each 16, by its place among the valid ones, and how far the next one is.
  let place = thread / 4u;
  let quad = thread % 4u;
  let in_row = max(1u, column_count);
  let in_image = max(1u, row_count);
  let row = first_row + place / in_row;
  var image = row / in_image;
  var oh = row % in_image;
  var ow = place % in_row;
  let next_image = PIXELS / in_row / in_image;
  let next_oh = PIXELS / in_row % in_image;
  let next_ow = PIXELS % in_row;
  let from_c = group * group_cin + min(tile_c + quad + vec4u(0u, 4u, 8u, 12u), vec4u(group_cin - 1u));
  let from_o = group * group_cout + min(tile_o + quad + vec4u(0u, 4u, 8u, 12u), vec4u(group_cout - 1u));

  let own_o = thread / 8u;
  let own_c = thread % 8u;
  var acc00 = mat4x4f();
  var acc01 = mat4x4f();
  var acc10 = mat4x4f();
  var acc11 = mat4x4f();
  for (var done = 0u; done < pixels; done += PIXELS) {
    workgroupBarrier(); // the last 16 have been read
    let at = place * QUADS + quad;
    if (done + place < pixels) {
      let at_h = u32(rows.x) + oh;
      let at_w = u32(columns.x) + ow;
      let ih = u32(i32(at_h * params.stride_h) - lead_h);
      let iw = u32(i32(at_w * params.stride_w) - lead_w);
      let pixel_x = ((image * params.height + ih) * params.width + iw) * cin;
      let pixel_dy = ((image * params.out_height + at_h) * params.out_width + at_w) * cout;
      tile_x[at] = vec4f(x[pixel_x + from_c.x]);
      tile_x[at + 4u] = vec4f(x[pixel_x + from_c.y]);
      tile_x[at + 8u] = vec4f(x[pixel_x + from_c.z]);
      tile_x[at + 12u] = vec4f(x[pixel_x + from_c.w]);
      tile_dy[at] = vec4f(dy[pixel_dy + from_o.x]);
      tile_dy[at + 4u] = vec4f(dy[pixel_dy + from_o.y]);
      tile_dy[at + 8u] = vec4f(dy[pixel_dy + from_o.z]);
      tile_dy[at + 12u] = vec4f(dy[pixel_dy + from_o.w]);
    } else { // beyond the last pixel; both, for what is left in x may be infinite
      tile_x[at] = vec4f();
      tile_dy[at] = vec4f();
      tile_x[at + 4u] = vec4f();
      tile_dy[at + 4u] = vec4f();
      tile_x[at + 8u] = vec4f();
      tile_dy[at + 8u] = vec4f();
      tile_x[at + 12u] = vec4f();
      tile_dy[at + 12u] = vec4f();
    }
    workgroupBarrier();
    for (var i = 0u; i < PIXELS * QUADS; i += QUADS) {
      let v0 = tile_x[i + own_c];
      let v1 = tile_x[i + own_c + 8u];
      let d0 = tile_dy[i + own_o];
      let d1 = tile_dy[i + own_o + 8u];
      acc00 += outer(d0, v0);
      acc01 += outer(d0, v1);
      acc10 += outer(d1, v0);
      acc11 += outer(d1, v1);
    }
    ow += next_ow;
    oh += next_oh;
    image += next_image;
    if (ow >= in_row) {
      ow -= in_row;
      oh++;
    }
    if (oh >= in_image) {
      oh -= in_image;
      image++;
    }
  }
  let pitch = params.kh * params.kw * group_cin;
  let c = tile_c + own_c;
  let o = tile_o + own_o;
  let at = (split * params.cout + 4u * (group * group_cout + o)) * pitch + tap * group_cin + c;
  let far = 32u * pitch; // 8 quads of output channels on
  if (o < group_cout && c < group_cin) { store(at, pitch, acc00); }
  if (o < group_cout && c + 8u < group_cin) { store(at + 8u, pitch, acc01); }
  if (o + 8u < group_cout && c < group_cin) { store(at + far, pitch, acc10); }
  if (o + 8u < group_cout && c + 8u < group_cin) { store(at + far + 8u, pitch, acc11); }
}
