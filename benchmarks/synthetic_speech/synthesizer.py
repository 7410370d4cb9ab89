"""Synthesize a waveform from an articulation over time, by formants.

Source: Fant, Acoustic Theory of Speech Production, 1960; Klatt, Software for a cascade/parallel formant
synthesizer, JASA 67, 1980.
Differs: filters act on overlapping 20 ms frames in the frequency domain instead of sample by sample, and the
glottal pulse is an impulse shaped by its spectral slope alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
FRAME_S = 0.01

_HOP = int(SAMPLE_RATE * FRAME_S)
_WINDOW = 2 * _HOP
_FFT = 1024
"""Room for the frame and for 44 ms of ringing, in which a 60 Hz wide formant decays by 70 dB."""
_HZ = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
_LIPS = 1j * _HZ / 100
_DELAY = np.exp(-2j * np.pi * _HZ / SAMPLE_RATE).astype(np.complex64)

Floats = NDArray[np.float64]
Spectra = NDArray[np.complex64]

# Each source at amplitude 1 gives an RMS of about 0.1.
_PULSE_GAIN, _BREATH_GAIN, _FRICTION_GAIN = 430.0, 0.06, 0.06
_FRICTION_WIDTH_HZ = np.full(1, 2000.0)


@dataclass(frozen=True, kw_only=True)
class Articulation:
    """Describe what a voice does, in F frames of 10 ms.

    Attributes:
        pitch_hz: Rate of the glottal pulses `[F]`.
        voicing: Amplitude of the pulses `[F]`.
        breath: Amplitude of the noise at the glottis `[F]`.
        friction: Amplitude of the noise at the teeth `[F]`.
        friction_hz: Center of that noise `[F]`.
        formants_hz: Resonances of the vocal tract `[F, 5]`.
        bandwidths_hz: Their widths `[F, 5]`.
        brightness_hz: Above this the pulses fall by a further 6 dB per octave `[F]`.
        jitter: Deviation of a pulse's time, in periods.
        shimmer: Deviation of a pulse's amplitude, relative.
    """

    pitch_hz: Floats
    voicing: Floats
    breath: Floats
    friction: Floats
    friction_hz: Floats
    formants_hz: Floats
    bandwidths_hz: Floats
    brightness_hz: Floats
    jitter: float
    shimmer: float


def synthesize(articulation: Articulation, generator: np.random.Generator) -> Floats:
    """Return the waveform `[F * 160]` at 16 kHz.

    A plain vowel with voicing 1 has an RMS of about 0.1.
    """
    num_samples = len(articulation.pitch_hz) * _HOP
    pulses, cycle = _glottal_pulses(articulation, generator)
    noise = generator.standard_normal(num_samples)
    # Air rushes through the glottis mostly while it is open, so breath is heard in step with the voice.
    aspiration = noise * (0.6 + 0.4 * np.cos(2 * np.pi * cycle)) * _to_samples(articulation.breath)
    friction = generator.standard_normal(num_samples) * _to_samples(articulation.friction)

    tract = _vocal_tract(articulation.formants_hz, articulation.bandwidths_hz)
    spectra = tract * (
        _PULSE_GAIN * _frames(pulses) * _glottal_slope(articulation.brightness_hz) + _BREATH_GAIN * _frames(aspiration)
    )
    spectra += _FRICTION_GAIN * _frames(friction) * _resonator(articulation.friction_hz, _FRICTION_WIDTH_HZ)
    return _overlap_add(spectra, num_samples)


def _glottal_pulses(articulation: Articulation, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Return an impulse train and the place in the glottal cycle, `[T]` each."""
    pitch_hz = _to_samples(articulation.pitch_hz)
    phase = np.cumsum(pitch_hz) / SAMPLE_RATE
    num_pulses = int(phase[-1])
    times = np.interp(np.arange(1, num_pulses + 1), phase, np.arange(len(phase)))
    times += generator.normal(0, articulation.jitter, num_pulses) * np.interp(
        times, np.arange(len(phase)), SAMPLE_RATE / pitch_hz
    )
    times = times.clip(0, len(phase) - 2)
    heights = 1 + generator.normal(0, articulation.shimmer, num_pulses)
    before = times.astype(int)
    after_share = times - before
    pulses = np.zeros(len(phase))
    np.add.at(pulses, before, heights * (1 - after_share))
    np.add.at(pulses, before + 1, heights * after_share)
    return pulses * _to_samples(articulation.voicing) / pitch_hz, phase % 1


def _glottal_slope(brightness_hz: Floats) -> Spectra:
    """Return the spectrum of one pulse as it leaves the lips `[F, K]`.

    -12 dB per octave, +6 for the lips, the tilt.
    """
    tilt = 1 + 1j * _HZ / brightness_hz[:, None]
    slope: Spectra = (_LIPS / (1 + _LIPS) ** 2 / tilt).astype(np.complex64)
    return slope


def _vocal_tract(formants_hz: Floats, bandwidths_hz: Floats) -> Spectra:
    """Return the response of the vocal tract `[F, K]`.

    Resonators stand in a row, so that the formants' levels fall into place.
    """
    response = np.ones((len(formants_hz), len(_HZ)), dtype=np.complex64)
    for hz, width_hz in zip(formants_hz.T, bandwidths_hz.T, strict=True):
        response *= _resonator(hz, width_hz)
    return response


def _resonator(center_hz: Floats, width_hz: Floats) -> Spectra:
    """Return a two-pole resonator `[F, K]` with a gain of one at 0 Hz."""
    radius = np.exp(-np.pi * width_hz / SAMPLE_RATE)
    first = (2 * radius * np.cos(2 * np.pi * center_hz / SAMPLE_RATE)).astype(np.float32)[:, None]
    second = (-(radius**2)).astype(np.float32)[:, None]
    response: Spectra = (1 - first - second) / (1 - _DELAY * (first + second * _DELAY))
    return response


def _frames(samples: Floats) -> Spectra:
    """Cut into Hann frames that overlap by half; return spectra `[F, K]`."""
    padded = np.pad(samples, (_HOP // 2, _WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[: len(samples) : _HOP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    spectra: Spectra = np.fft.rfft((frames * window).astype(np.float32), _FFT).astype(np.complex64)
    return spectra


def _overlap_add(spectra: Spectra, num_samples: int) -> Floats:
    pieces = np.fft.irfft(spectra, _FFT).reshape(len(spectra), -1)
    hops = -(-_FFT // _HOP)
    padded = np.pad(pieces, ((0, 0), (0, hops * _HOP - _FFT))).reshape(len(spectra), hops, _HOP)
    total = np.zeros((len(spectra) + hops, _HOP))
    for hop in range(hops):
        total[hop : hop + len(spectra)] += padded[:, hop]
    return total.reshape(-1)[_HOP // 2 :][:num_samples]


def _to_samples(values: Floats) -> Floats:
    """Interpolate frames `[F]` to samples `[T]`."""
    num_samples = len(values) * _HOP
    return np.interp(np.arange(num_samples), (np.arange(len(values)) + 0.5) * _HOP, values)
