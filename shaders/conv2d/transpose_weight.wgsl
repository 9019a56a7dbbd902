// wt[k, o] = w[o, k], where k runs over kh, kw and cin / groups: the forward kernels read the weights of neighbouring
// output channels together. One thread owns 4 successive k of one channel; neighbouring threads write neighbours.
alias T = f32;
struct Params { cout: u32, taps: u32 }
@group(0) @binding(0) var<storage, read> w: array<T>;
@group(0) @binding(1) var<storage, read_write> wt: array<T>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn transpose_weight(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  let tile = i / params.cout;
  let o = i - tile * params.cout;
  let end = min(4u * tile + 4u, params.taps);
  for (var k = 4u * tile; k < end; k++) { wt[k * params.cout + o] = w[o * params.taps + k]; }
}
