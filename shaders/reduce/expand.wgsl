// dx[o, l, i] = dy[o, i]: the gradient of a sum over l. One thread per element of dx. Of a sum over
// everything there is one dy, and nothing to divide: divisions cost most of this kernel on software adapters.
alias T = f32;
struct Params { outer: u32, length: u32, inner: u32 }
@group(0) @binding(0) var<storage, read> dy: array<T>;
@group(0) @binding(1) var<storage, read_write> dx: array<T>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn expand(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.x + id.y * groups.x * 256u;
  if (at >= params.outer * params.length * params.inner) { return; }
  var source = 0u;
  if (params.outer * params.inner > 1u) {
    source = (at / (params.length * params.inner)) * params.inner + at % params.inner;
  }
  dx[at] = dy[source];
}
