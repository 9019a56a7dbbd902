import type { ReferenceOp } from "./kernel.js";

export const reduce: ReferenceOp = {
  sum({ outer, length, inner, splits }, [x], [y]) {
    y!.fill(0);
    for (let o = 0; o < outer!; o++) {
      for (let l = 0; l < length!; l++) {
        for (let i = 0; i < inner!; i++) {
          y![(o * splits! + (l % splits!)) * inner! + i]! += x![(o * length! + l) * inner! + i]!;
        }
      }
    }
  },
  expand({ outer, length, inner }, [dy], [dx]) {
    for (let o = 0; o < outer!; o++) {
      for (let l = 0; l < length!; l++) {
        for (let i = 0; i < inner!; i++) dx![(o * length! + l) * inner! + i] = dy![o * inner! + i]!;
      }
    }
  },
  maximum({ outer, length, inner }, [x], [y, index]) {
    for (let o = 0; o < outer!; o++) {
      for (let i = 0; i < inner!; i++) {
        let first = 0;
        for (let l = 1; l < length!; l++) {
          if (x![(o * length! + l) * inner! + i]! > x![(o * length! + first) * inner! + i]!) first = l;
        }
        y![o * inner! + i] = x![(o * length! + first) * inner! + i]!;
        index![o * inner! + i] = first;
      }
    }
  },
  route({ outer, length, inner }, [dy, index], [dx]) {
    for (let o = 0; o < outer!; o++) {
      for (let l = 0; l < length!; l++) {
        for (let i = 0; i < inner!; i++) {
          dx![(o * length! + l) * inner! + i] = index![o * inner! + i] === l ? dy![o * inner! + i]! : 0;
        }
      }
    }
  },
};
