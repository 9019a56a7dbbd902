// dx[o, l, i] = dy[o, i] where l = index[o, i], else 0: the gradient of a maximum over l. One thread per element of dx.
alias T = f32;
struct Params { outer: u32, length: u32, inner: u32 }
@group(0) @binding(0) var<storage, read> dy: array<T>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> dx: array<T>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(256)
fn route(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.x + id.y * groups.x * 256u;
  if (at >= params.outer * params.length * params.inner) { return; }
  let l = (at / params.inner) % params.length;
  let source = at / (params.length * params.inner) * params.inner + at % params.inner;
  dx[at] = select(T(0.0), dy[source], index[source] == l);
}
