"""Writes metrics.json: scores of small label maps by NumPy, from their definitions and by brute force.

Boundary distances are the smallest over all pairs of boundary pixels; nothing of a distance transform is used.
"""

import json
from pathlib import Path

import numpy as np

IGNORE = 255


def blobs(rng, height, width, classes):
    """Patches rather than noise: rectangles painted over each other."""
    out = np.zeros((height, width), np.int64)
    for _ in range(9):
        y, x = rng.integers(0, height), rng.integers(0, width)
        h, w = rng.integers(2, 1 + height // 2), rng.integers(2, 1 + width // 2)
        out[y : y + h, x : x + w] = rng.integers(0, classes)
    return out


def boundary(values, valid, c):
    """Valid pixels of class c with a valid 4-neighbour of another class."""
    height, width = values.shape
    found = []
    for y in range(height):
        for x in range(width):
            if not valid[y, x] or values[y, x] != c:
                continue
            beside = [(y + dy, x + dx) for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))]
            beside = [(v, u) for v, u in beside if 0 <= v < height and 0 <= u < width]
            if any(valid[v, u] and values[v, u] != c for v, u in beside):
                found.append((y, x))
    return np.array(found, dtype=float).reshape(-1, 2)


def near(a, b, limit):
    if len(a) == 0 or len(b) == 0:
        return 0
    return int((np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).min(1) <= limit).sum())


def boundary_counts(pairs, classes, tolerance):
    counts = np.zeros((classes, 4), int)
    for predictions, labels in pairs:
        valid = labels != IGNORE
        limit = 0.0075 * np.hypot(*labels.shape) if tolerance is None else tolerance
        for c in range(classes):
            p, t = boundary(predictions, valid, c), boundary(labels, valid, c)
            counts[c] += [len(p), near(p, t, limit), len(t), near(t, p, limit)]
    return counts


def boundary_scores(counts, exclude):
    f1 = []
    for c, (p, pn, t, tn) in enumerate(counts.tolist()):
        if p + t == 0:
            f1.append(None)
        else:
            precision, recall = pn / p if p else 0, tn / t if t else 0
            f1.append(2 * precision * recall / (precision + recall) if precision + recall else 0)
    kept = [v for c, v in enumerate(f1) if v is not None and c not in exclude]
    return {"f1": f1, "meanF1": float(np.mean(kept)) if kept else None}


def confusion_scores(matrix, exclude):
    m = matrix.astype(float)
    rows, columns, right = m.sum(1), m.sum(0), np.diag(m)
    kept = np.array([c not in exclude for c in range(len(m))])
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, f1 = right / (rows + columns - right), 2 * right / (rows + columns)
        recall = right / rows
    n, observed, expected = m.sum(), right.sum() / m.sum(), (rows * columns).sum() / m.sum() ** 2
    return {
        "overallAccuracy": observed,
        "kappa": (observed - expected) / (1 - expected),
        "meanIoU": np.nanmean(iou[kept]),
        "meanF1": np.nanmean(f1[kept]),
        "meanRecall": np.nanmean(recall[kept]),
        "frequencyWeightedIoU": np.nansum((rows * iou)[kept]) / rows[kept].sum(),
    }


cases = []
for seed, (height, width), classes, tolerance in [(0, (13, 17), 3, 1), (1, (24, 9), 4, 2.5), (2, (31, 20), 2, 0), (3, (40, 52), 4, None)]:
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(2):
        labels = blobs(rng, height, width, classes)
        predictions = np.roll(labels, rng.integers(-2, 3, 2), (0, 1))
        noise = rng.random((height, width)) < 0.05
        predictions[noise] = rng.integers(0, classes, noise.sum())
        labels[rng.random((height, width)) < 0.1] = IGNORE
        labels[: height // 4, : width // 4] = IGNORE
        pairs.append((predictions, labels))
    exclude = [classes - 1]
    matrix = np.zeros((classes, classes), int)
    for predictions, labels in pairs:
        valid = labels != IGNORE
        np.add.at(matrix, (labels[valid], predictions[valid]), 1)
    ignoring = matrix.copy()
    ignoring[exclude] = 0
    counts = boundary_counts(pairs, classes, tolerance)
    cases.append(
        {
            "height": height,
            "width": width,
            "classes": classes,
            "tolerance": tolerance,
            "exclude": exclude,
            "predictions": ["".join(map(str, p.ravel())) for p, _ in pairs],
            "labels": ["".join("." if v == IGNORE else str(v) for v in t.ravel()) for _, t in pairs],
            "confusion": matrix.ravel().tolist(),
            "scores": confusion_scores(matrix, []),
            "scoresExcluding": confusion_scores(matrix, exclude),
            "scoresIgnoring": confusion_scores(ignoring, exclude),
            "boundary": counts.ravel().tolist(),
            "boundaryScores": boundary_scores(counts, []),
            "boundaryScoresExcluding": boundary_scores(counts, exclude),
        }
    )
Path(__file__).with_suffix(".json").write_text(json.dumps(cases, indent=1) + "\n")
