#!/usr/bin/env python3
"""Makes tests/defense/data/statistics.json: exact bounds as SciPy gives them.

    python tools/make_statistics_goldens.py

Packages: tools/requirements-reference.txt. The bound is the upper end of
scipy.stats.binomtest(k, n, alternative="less").proportion_ci(method="exact"): Clopper and Pearson's, one-sided.
"""

import json
from pathlib import Path

import scipy
from scipy.stats import binomtest

OUT = Path(__file__).resolve().parent.parent / "tests/defense/data/statistics.json"
DRAWS = [(0, 1), (1, 1), (0, 7), (3, 7), (0, 43), (1, 43), (5, 43), (42, 43), (0, 300), (17, 300), (299, 300),
         (2, 5000)]


def main():
    cases = [{"successes": k, "total": n, "confidence": confidence,
              "upper": binomtest(k, n, alternative="less").proportion_ci(confidence, method="exact").high}
             for k, n in DRAWS for confidence in (0.9, 0.95, 0.999)]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"made_by": "python tools/make_statistics_goldens.py",
                               "versions": {"scipy": scipy.__version__}, "clopper_pearson_upper": cases},
                              separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{OUT}: {len(cases)} cases")


if __name__ == "__main__":
    main()
