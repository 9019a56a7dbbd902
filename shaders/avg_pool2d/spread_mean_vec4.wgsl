// dx[n, row, c] = dy[n, c] / rows. One thread owns four channels of one pixel.
alias T = f32;
struct Params { images: u32, rows: u32, channels: u32 }
@group(0) @binding(0) var<storage, read> dy: array<vec4<T>>; // [images, channels / 4]
@group(0) @binding(1) var<storage, read_write> dx: array<vec4<T>>; // [images, rows, channels / 4]
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn spread_mean_vec4(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let lanes = params.channels / 4u;
  let image = i / lanes / params.rows;
  if (image >= params.images) { return; }
  dx[i] = vec4<T>(vec4f(dy[image * lanes + i % lanes]) / f32(params.rows));
}
