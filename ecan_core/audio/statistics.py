"""Utterance statistics (development version)."""
from functools import cache

import numpy as np

from ecan_core.audio.contours import Contours
from ecan_core.audio.prosody import PITCH_FFT

Stats = dict[str, float]


def _delta(x):
    """Regression slope over 5 frames."""
    p = np.concatenate([x[:1], x[:1], x, x[-1:], x[-1:]])
    return (2 * (p[4:] - p[:-4]) + (p[3:-1] - p[1:-3])) / 10


def put(out, name, values):
    for i, v in enumerate(np.ravel(values)):
        out[f"{name}.{i:02d}"] = v


def quant(out, name, x, levels=(5, 25, 50, 75, 95), fallback=0.0):
    v = np.percentile(x, levels) if len(x) else np.full(len(levels), fallback)
    for q, w in zip(levels, v, strict=True):
        out[f"{name}.q{q}"] = w


def moments(out, name, x, fallback=0.0):
    out[name + ".mean"] = x.mean() if len(x) else fallback
    out[name + ".std"] = x.std() if len(x) else 0.0


def runs(mask):
    """Start, end of runs of True."""
    e = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    return np.flatnonzero(e == 1), np.flatnonzero(e == -1)


def mel_family(c):
    o = {}
    m = c.log_mel[c.active]
    d = _delta(c.log_mel)[c.active]
    put(o, "mel.mean", m.mean(0)); put(o, "mel.std", m.std(0)); put(o, "mel.dstd", d.std(0))
    return o


def melvoiced_family(c):
    o = {}
    v = c.voiced if c.voiced.any() else c.active
    put(o, "melv.mean", c.log_mel[v].reshape(v.sum(), 32, 2).mean((0, 2)))
    u = c.active & ~c.voiced
    u = u if u.any() else c.active
    put(o, "melu.mean", c.log_mel[u].reshape(u.sum(), 16, 4).mean((0, 2)))
    return o


def cep_family(c):
    o = {}
    x = c.cepstra[c.active]; d = _delta(c.cepstra)[c.active]
    put(o, "cep.mean", x.mean(0)); put(o, "cep.std", x.std(0)); put(o, "cep.dstd", d.std(0))
    put(o, "cep.q", np.percentile(x[:, :13], [10, 50, 90], axis=0))
    return o


def cepvoiced_family(c):
    o = {}
    v = c.voiced if c.voiced.any() else c.active
    x = c.cepstra[v]
    put(o, "cepv.mean", x.mean(0)); put(o, "cepv.std", x.std(0))
    put(o, "cepv.q", np.percentile(x[:, :13], [10, 90], axis=0))
    return o


def f0_family(c):
    o = {}
    s = c.semitones[c.voiced]
    quant(o, "f0", s, (5, 10, 25, 50, 75, 90, 95)); moments(o, "f0", s)
    both = c.voiced[1:] & c.voiced[:-1]
    d = np.diff(c.semitones)[both]
    d = d[np.abs(d) < 3]
    quant(o, "f0.slope", d, (10, 50, 90)); moments(o, "f0.slope", d); moments(o, "f0.absslope", np.abs(d))
    o["f0.range"] = o["f0.q95"] - o["f0.q5"]
    o["f0.iqr"] = o["f0.q75"] - o["f0.q25"]
    o["f0.skew"] = (o["f0.q95"] + o["f0.q5"] - 2 * o["f0.q50"]) / (o["f0.range"] + 1)
    hz = 100 * 2 ** (s / 12)
    moments(o, "f0.hz", hz)
    o["voiced.share"] = c.voiced.sum() / c.active.sum()
    o["active.share"] = c.active.mean()
    return o


def contour_family(c):
    o = {}
    t = np.linspace(-1, 1, c.span.stop - c.span.start)
    basis = np.polynomial.legendre.legvander(t, 3)
    v = c.voiced[c.span]; s = c.semitones[c.span]
    def fit(y, m):
        if m.sum() < 8:
            return np.zeros(4)
        b = basis[m]
        return np.linalg.solve(b.T @ b + 0.02 * m.sum() * np.eye(4), b.T @ (y[m] - np.median(y[m])))
    put(o, "f0.leg", fit(s, v)[1:])
    put(o, "en.leg", fit(c.energy_db[c.span], c.active[c.span])[1:])
    put(o, "tilt.leg", fit(c.cepstra[c.span, 0], c.active[c.span])[1:])
    # thirds
    for name, y, m in (("f0", s, v), ("en", c.energy_db[c.span], c.active[c.span])):
        med = np.median(y[m]) if m.any() else 0
        for k, part in enumerate(np.array_split(np.arange(len(y)), 4)):
            z = y[part][m[part]]
            o[f"{name}.part{k}"] = np.median(z) - med if len(z) else 0.0
    # voiced runs
    a, b = runs(c.voiced)
    keep = b - a >= 4
    a, b = a[keep], b[keep]
    rise, curve, start, end = [], [], [], []
    for i, j in zip(a, b, strict=True):
        y = c.semitones[i:j]
        x = np.linspace(-1, 1, j - i)
        rise.append((x @ y) / (x @ x) * 2 / (j - i) * 100)
        curve.append(y.mean() - (y[0] + y[-1]) / 2)
    rise = np.array(rise); curve = np.array(curve)
    moments(o, "run.rise", rise); moments(o, "run.curve", curve)
    o["run.absrise"] = np.abs(rise).mean() if len(rise) else 0
    o["run.last"] = rise[-1] if len(rise) else 0
    o["run.first"] = rise[0] if len(rise) else 0
    o["f0.final"] = (np.median(c.semitones[c.voiced][-8:]) - np.median(c.semitones[c.voiced])) if c.voiced.any() else 0
    o["f0.initial"] = (np.median(c.semitones[c.voiced][:8]) - np.median(c.semitones[c.voiced])) if c.voiced.any() else 0
    for nm, y, m in (("f0", s, v), ("en", c.energy_db[c.span], c.active[c.span])):
        o[nm + ".argmax"] = t[m][np.argmax(y[m])] if m.any() else 0
    return o


def energy_family(c):
    o = {}
    e = c.energy_db[c.active]
    quant(o, "en", e, (5, 10, 25, 50, 75, 90)); moments(o, "en", e)
    d = _delta(c.energy_db)[c.span]
    moments(o, "en.slope", d); quant(o, "en.slope", d, (5, 25, 75, 95))
    return o


def spectral_family(c):
    o = {}
    p = c.power[c.active][:, 2:]
    f = (np.arange(2, 257) * 31.25).astype(np.float32)
    tot = p.sum(1) + 1e-30
    cent = p @ f / tot
    spread = np.sqrt(np.maximum(p @ (f * f) / tot - cent**2, 0))
    cum = np.cumsum(p, 1) / tot[:, None]
    r50 = f[(cum < .5).sum(1).clip(0, 254)]; r85 = f[(cum < .85).sum(1).clip(0, 254)]
    lp = np.log(p + 1e-9 * p.max() + 1e-30)
    flat = lp.mean(1) - np.log(tot / 255)
    n = np.sqrt(p / tot[:, None]); flux = np.concatenate([[0], np.sqrt(np.square(np.diff(n, axis=0)).sum(1))])
    for nm, x in (("cent", np.log(cent)), ("spread", np.log(spread + 1)), ("r50", np.log(r50)), ("r85", np.log(r85)), ("flat", flat), ("flux", flux)):
        moments(o, "sp." + nm, x); quant(o, "sp." + nm, x, (10, 50, 90))
    return o


def _db(p, lo, hi):
    return 10 * np.log10(p[:, int(lo / 31.25):int(hi / 31.25)].sum(1) + 1e-9 * p.max() + 1e-30)


def _dbmax(p, lo, hi):
    return 10 * np.log10(p[:, int(lo / 31.25):int(hi / 31.25)].max(1) + 1e-9 * p.max() + 1e-30)


def tilt_family(c):
    o = {}
    p = c.power
    contours = {
        "alpha": _db(p, 62, 1000) - _db(p, 1000, 5000),
        "hammar": _dbmax(p, 62, 2000) - _dbmax(p, 2000, 5000),
        "mid": _db(p, 500, 1500) - _db(p, 62, 500),
        "mid2": _db(p, 1500, 3000) - _db(p, 500, 1500),
        "high": _db(p, 4000, 7600) - _db(p, 1500, 4000),
    }
    lp = 10 * np.log10(p + 1e-9 * p.max() + 1e-30)
    for nm, lo, hi in (("slope0", 0, 500), ("slope5", 500, 1500), ("slope15", 1500, 5000)):
        x = np.arange(int(lo / 31.25), int(hi / 31.25)) * 0.03125
        x = (x - x.mean()).astype(np.float32)
        contours[nm] = lp[:, int(lo / 31.25):int(hi / 31.25)] @ x / (x @ x)
    v = c.voiced if c.voiced.any() else c.active
    u = c.active & ~c.voiced
    u = u if u.any() else c.active
    for nm, x in contours.items():
        moments(o, f"tilt.{nm}", x[v]); quant(o, f"tilt.{nm}", x[v], (10, 50, 90))
        o[f"tilt.{nm}.u"] = x[u].mean()
    return o


def quality_family(c):
    o = {}
    pr = c.prosody; v = c.voiced
    h = np.clip(pr.harmonicity, 1e-3, 0.999)
    hnr = 10 * np.log10(h / (1 - h))
    moments(o, "hnr", hnr[v]); quant(o, "hnr", hnr[v], (10, 50, 90)); o["harm.mean"] = pr.harmonicity[c.active].mean()
    P = pr.spectrum
    lp = 10 * np.log10(P + 1e-9 * P.max() + 1e-30)
    cep = np.fft.irfft(lp, PITCH_FFT)[:, 32:268]
    q = np.arange(236) - 117.5
    cc = cep - cep.mean(1, keepdims=True)
    res = cc - (cc @ q / (q @ q))[:, None] * q
    cpp = res.max(1)
    moments(o, "cpp", cpp[v]); quant(o, "cpp", cpp[v], (10, 50, 90))
    moments(o, "cppa", cpp[c.active])
    # harmonics
    f = np.where(v, pr.f0_hz, 100)
    binhz = 16000 / PITCH_FFT
    rows = np.arange(len(f))[:, None]
    def amp(k):
        b = np.rint(f * k / binhz).astype(int)[:, None] + np.arange(-2, 3)
        return lp[rows, b.clip(0, lp.shape[1] - 1)].max(1)
    h1, h2, h4 = amp(1), amp(2), amp(4)
    a1 = lp[:, int(300 / binhz):int(1000 / binhz)].max(1)
    a2 = lp[:, int(1000 / binhz):int(2300 / binhz)].max(1)
    a3 = lp[:, int(2300 / binhz):int(3800 / binhz)].max(1)
    for nm, x in (("h1h2", h1 - h2), ("h2h4", h2 - h4), ("h1a1", h1 - a1), ("h1a2", h1 - a2), ("h1a3", h1 - a3)):
        moments(o, nm, x[v]); quant(o, nm, x[v], (10, 50, 90))
    # micro perturbation
    ok = v[2:] & v[1:-1] & v[:-2]
    s = c.semitones
    j = np.abs(s[2:] - 2 * s[1:-1] + s[:-2])[ok]
    j = j[j < 3]
    e = pr.energy_db
    sh = np.abs(e[2:] - 2 * e[1:-1] + e[:-2])[ok]
    moments(o, "jit", j); quant(o, "jit", j, (25, 50, 75)); moments(o, "shim", sh); quant(o, "shim", sh, (25, 50, 75))
    return o


def _lpc_spectrum(c):
    p = c.power[:, :177]
    w = np.arange(177) / 176 * np.pi
    r = np.fft.irfft(p * (1 + 0.9409 - 1.94 * np.cos(w)).astype(np.float32), 352)[:, :13]
    r[:, 0] = r[:, 0] * 1.0001 + 1e-20
    a = np.zeros((len(r), 13), np.float32); a[:, 0] = 1
    err = r[:, 0].copy()
    for i in range(1, 13):
        k = -(a[:, :i] * r[:, i:0:-1]).sum(1) / err
        a[:, 1:i + 1] += k[:, None] * a[:, i - 1::-1][:, :i] if i > 1 else k[:, None]
        err *= 1 - k * k
        err = np.maximum(err, 1e-12 * r[:, 0])
    return -20 * np.log10(np.abs(np.fft.rfft(a, 256)) + 1e-9)  # 129 bins over 5500 Hz


def formant_family(c):
    o = {}
    v = c.voiced if c.voiced.any() else c.active
    s = _lpc_spectrum(c)[v]
    hz = 5500 / 128
    mid = s[:, 1:-1]
    pk = (mid > s[:, :-2]) & (mid >= s[:, 2:])
    pk[:, :int(200 / hz)] = False
    rank = np.cumsum(pk, 1)
    for n in (1, 2, 3):
        has = rank[:, -1] >= n
        b = np.argmax((rank == n) & pk, 1) + 1
        l, m, r = (s[np.arange(len(s)), b + d] for d in (-1, 0, 1))
        f = (b + 0.5 * (l - r) / np.minimum(l - 2 * m + r, -1e-6)) * hz
        f, curve = f[has], (2 * m - l - r)[has]
        quant(o, f"form{n}", f, (10, 25, 50, 75, 90), fallback=1000 * n - 500); moments(o, f"form{n}", f, 1000 * n - 500)
        o[f"form{n}.sharp"] = curve.mean() if len(curve) else 0
        o[f"form{n}.level"] = (m[has] - s[has].mean(1)).mean() if has.any() else 0
    return o


MOD_EDGES = (0.5, 2, 4, 6, 9, 13, 20)


def modulation_family(c):
    o = {}
    m = np.maximum(c.log_mel, c.log_mel.max() - 9)[c.span]
    g = m.reshape(len(m), 8, 8).mean(2)
    x = np.concatenate([np.maximum(c.energy_db[c.span], -40)[:, None] / 4.34, g], 1)
    x = (x - x.mean(0)) * np.hanning(len(x) + 2)[1:-1, None]
    n = max(512, 1 << (len(x) - 1).bit_length())
    p = np.square(np.abs(np.fft.rfft(x, n, axis=0)))
    f = np.arange(len(p)) * 100 / n
    tot = p[(f >= .5) & (f < 20)].sum(0) + 1e-9
    bands = np.stack([p[(f >= a) & (f < b)].sum(0) / tot for a, b in zip(MOD_EDGES[:-1], MOD_EDGES[1:], strict=True)])
    put(o, "mod.en", bands[:, 0]); put(o, "mod.band", bands[:, 1:].T)
    o["mod.cent"] = (p * f[:, None])[(f >= .5) & (f < 20), 0].sum() / tot[0]
    return o


def rhythm_family(c):
    o = {}
    dur = (c.span.stop - c.span.start) / 100
    o["dur.log"] = np.log(dur)
    a, b = runs(c.voiced)
    L = (b - a) / 100
    o["voi.rate"] = len(L) / dur
    moments(o, "voi.len", np.log(L + 1e-2), -3)
    o["voi.maxlen"] = L.max() if len(L) else 0
    gap = (a[1:] - b[:-1]) / 100
    moments(o, "gap.len", np.log(gap + 1e-2), -3)
    inner = ~c.active[c.span]
    pa, pb = runs(inner)
    pl = (pb - pa) / 100
    o["pause.share"] = inner.mean(); o["pause.rate"] = (pl > .1).sum() / dur; o["pause.max"] = pl.max() if len(pl) else 0
    # syllable nuclei
    k = np.hanning(9)[1:-1]; k /= k.sum()
    e = np.convolve(np.maximum(c.energy_db, -40), k, "same")
    pk = (e[1:-1] > e[:-2]) & (e[1:-1] >= e[2:]) & (e[1:-1] > -25)
    i = np.flatnonzero(pk) + 1
    o["syl.rate"] = len(i) / dur
    iv = np.diff(i) / 100
    moments(o, "syl.gap", iv); o["syl.npvi"] = np.abs(np.diff(iv) / (iv[1:] + iv[:-1])).mean() * 2 if len(iv) > 1 else 0
    # prominence: depth of dips between nuclei
    dips = [min(e[p], e[q]) - e[p:q].min() for p, q in zip(i[:-1], i[1:], strict=True)]
    moments(o, "syl.dip", np.array(dips)); moments(o, "syl.peak", e[i])
    f = c.prosody.f0_hz
    fv = c.semitones[i][c.voiced[i]]
    o["syl.f0std"] = fv.std() if len(fv) else 0
    return o


def corr_family(c):
    """How pitch, energy and tilt move together."""
    o = {}
    v = c.voiced
    x = np.stack([c.semitones[v], c.energy_db[v], c.cepstra[v, 0], c.cepstra[v, 1]]) if v.sum() > 5 else np.zeros((4, 6))
    x = x - x.mean(1, keepdims=True)
    s = np.sqrt((x * x).mean(1)) + 1e-3
    r = (x @ x.T) / x.shape[1] / s[:, None] / s
    put(o, "corr", r[np.triu_indices(4, 1)])
    return o


FAMILIES = dict(mel=mel_family, melv=melvoiced_family, cep=cep_family, cepv=cepvoiced_family, f0=f0_family, contour=contour_family,
    energy=energy_family, spectral=spectral_family, tilt=tilt_family, quality=quality_family, formant=formant_family,
    mod=modulation_family, rhythm=rhythm_family, corr=corr_family)


def utterance_statistics(samples) -> Stats:
    c = Contours(samples)
    out = {}
    for fam, fn in FAMILIES.items():
        for k, v in fn(c).items():
            out[k] = float(v)
    return out


@cache
def statistic_names():
    return tuple(utterance_statistics(np.random.default_rng(0).normal(size=8000).astype(np.float32)))
