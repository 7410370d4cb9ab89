"""Small made-up results: lines as the benchmarks write them."""


def line(pair, normalization, method, seed, uar, **others):
    common = {"commit": "abc", "day": "2026-01-01", "machine": "x86_64, 2 cores"}
    figures = {"uar_selected": uar, "uar_oracle": uar, "uar_source": 0.5, "verdict": "improved", "gain": uar}
    place = {"pair": pair, "normalization": normalization, "method": method, "seed": seed, "uar": uar, "seconds": 1.0}
    return common | figures | place | others


def a_whole_run():
    """Two pairs and three seeds; the product is 3, 4 or 5 points above no adaptation and every method below it."""
    gain = {"none": 0.0, "aad": 0.01, "product": 0.03} | {"ecan": 0.02, "shot-im": 0.02}
    return [
        line(pair, normalization, method, seed, base + gain[method] + 0.01 * seed * (method != "none"))
        for seed in range(3)
        for normalization in ("speaker", "corpus", "voice")
        for pair, base in (("a-b", 0.5), ("b-a", 0.6))
        for method in gain
    ]
