#!/bin/sh
# Of the archive that `npm run gpu:pack` makes: runs bench/gpu/main.mjs with the node that lies beside it; npm and a registry
# are not needed. Options are main.mjs's (--help). Where the card is not one that the addon was compiled for, or with
# LACUNA_REBUILD=1, the addon is compiled here first, which takes nvcc, CMake and a C++20 compiler.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/bin:$PATH"
export PATH
cd "$here"

capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d . || true)
if [ "${LACUNA_REBUILD:-0}" = 1 ] || { [ -n "$capability" ] && ! grep -q "^$capability" architectures; }; then
  case $capability in
    90) architecture=90a-real ;;
    "") echo "gpu.sh: no card to compile for: nvidia-smi names none" >&2; exit 1 ;;
    *) architecture=$capability-real ;;
  esac
  echo "compiling the addon for $architecture"
  generator=$(command -v ninja >/dev/null 2>&1 && echo Ninja || echo "Unix Makefiles")
  cmake -S . -B build/gpu -G "$generator" -DLACUNA_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$architecture" \
    -DCMAKE_BUILD_TYPE=Release -Wno-dev >build/cmake.log 2>&1 &&
    cmake --build build/gpu --target addon --parallel >>build/cmake.log 2>&1 || { tail -n 40 build/cmake.log; exit 1; }
  mkdir -p build/Release
  cp build/gpu/lacuna.node build/Release/lacuna.node
  echo "$capability" >>architectures
fi
exec node bench/gpu/main.mjs "$@"
